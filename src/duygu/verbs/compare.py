"""``duygu compare``: both engines, many seeds, one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from duygu.options import (
    RecipeCommand,
    chosen_recipe,
    data_options,
    folder_options,
    format_options,
    json_option,
    recipe_options,
    show_recipe,
    threads_option,
    track_option,
    whole_numbers,
)
from duygu.verbs.output import print_comparison, say

if TYPE_CHECKING:
    from duygu.data.sources import DataFormat
    from duygu.engines import EngineName


@click.command(cls=RecipeCommand, short_help="Train in both engines and print one table.")
@click.argument("sources", metavar="DATA | RUN RUN...", nargs=-1, required=True)
@click.option("--model", metavar="FOLDER|PRESET", help="What every run starts from; needed with DATA.")
@click.option("--engines", metavar="LIST", default="torch,jax", show_default=True, help="Engines to compare.")
@click.option("--seeds", metavar="LIST", default="13", show_default=True, callback=whole_numbers, help="Seeds to run.")
@click.option("--out", type=click.Path(path_type=Path), help="Comparison folder to write; needed with DATA.")
@recipe_options
@data_options
@format_options
@folder_options
@threads_option
@track_option
@json_option
def compare(
    sources: tuple[str, ...],
    model: str | None,
    engines: str,
    seeds: tuple[int, ...],
    out: Path | None,
    recipe: str | None,
    settings: tuple[str, ...],
    print_recipe: bool,
    split: str | None,
    split_seed: int,
    resume: bool,
    overwrite: bool,
    threads: int,
    track: tuple[str, ...],
    as_json: bool,
    format: DataFormat,
) -> None:
    """Train MODEL on DATA once per engine and seed, each in a process of its own, and write report.html.

    With finished run folders in place of DATA, compare those.

    \b
    Example:
      duygu compare texts/ --model tiny --engines torch,jax --seeds 13,42 --out comparison
      duygu compare run-torch run-jax
    """
    if print_recipe:
        show_recipe(model, recipe, settings)
        return
    from duygu.verdict.compare import CompareRequest, compare_runs
    from duygu.verdict.compare import compare as run
    from duygu.verdict.page import PAGE

    first, *others = sources
    if others or (Path(first) / "metrics.json").is_file():
        if model is not None:
            raise click.UsageError("finished runs are compared as they are: leave --model out")
        result = compare_runs(sources, out)
        if out is not None:
            say(f"report: {out / PAGE}")
        print_comparison(result, as_json)
        return
    if model is None or out is None:
        raise click.UsageError("give --model and --out with DATA, or two finished run folders")
    request = CompareRequest(
        data=first,
        model=model,
        out=out,
        recipe=chosen_recipe(model, recipe, settings),
        engines=cast("tuple[EngineName, ...]", tuple(engines.split(","))),
        seeds=seeds,
        split=split,
        split_seed=split_seed,
        threads=threads,
        resume=resume,
        overwrite=overwrite,
        format=format,
        track=track,
    )
    print_comparison(run(request, say), as_json)
