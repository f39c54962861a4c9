"""``duygu parity``: proof that both engines compute the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from duygu.errors import GateError
from duygu.options import format_options, json_option, seed_option, settings_option, threads_option
from duygu.verbs.output import print_json, say

if TYPE_CHECKING:
    from duygu.data.sources import DataFormat


@click.command(short_help="Prove that both engines compute the same.")
@click.argument("model")
@click.argument("data", required=False)
@click.option("--steps", type=click.IntRange(1), default=60, show_default=True, help="Training steps to compare.")
@click.option("--documents", type=click.IntRange(2), default=64, show_default=True, help="Documents to compare on.")
@seed_option
@settings_option
@threads_option
@format_options
@json_option
def parity(
    model: str,
    data: str | None,
    steps: int,
    documents: int,
    seed: int | None,
    settings: tuple[str, ...],
    threads: int,
    as_json: bool,
    format: DataFormat,
) -> None:
    """Prove on MODEL that the two engines compute the same: logits, gradients, and training steps with dropout on.

    Without DATA the bundled corpus is used. Exit code 3 tells that a difference is beyond its limit.

    \b
    Example:
      duygu parity checkpoint/ texts/
    """
    from duygu.data.demo import demo_corpus
    from duygu.recipe import parse_settings
    from duygu.verdict.parity import parity as prove

    result = prove(
        model,
        data or str(demo_corpus()),
        steps=steps,
        documents=documents,
        seed=13 if seed is None else seed,
        settings=parse_settings(settings),
        threads=threads,
        say=say,
        format=format,
    )
    if as_json:
        print_json(result.as_json())
    else:
        click.echo(result.table())
    failed = [
        f"{check.name}, {check.parties}: {check.value:.3g}, limit {check.limit:g}"
        for check in result.checks
        if not check.passed
    ]
    if failed:
        raise GateError("\n".join(["the engines differ by more than rounding explains", *failed]))
