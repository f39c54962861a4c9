"""``duygu audit``: what is wrong with the texts, before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from duygu.options import format_options, json_option, split_option
from duygu.verbs.output import console, print_json, say

if TYPE_CHECKING:
    from duygu.data.sources import DataFormat


@click.command(short_help="Find what is wrong with texts and labels.")
@click.argument("data")
@split_option
@click.option("--model", metavar="FOLDER|PRESET", help="Count tokens with its tokenizer; else words only.")
@format_options
@click.option("--unlabelled", is_flag=True, help="The table has no labels: look into the texts alone.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for audit.json and audit.html.")
@click.option("--overwrite", is_flag=True, help="Replace the audit that OUT holds.")
@click.option("--strict", is_flag=True, help="End with exit code 3 where a finding says stop.")
@json_option
def audit(
    data: str,
    split: str | None,
    model: str | None,
    unlabelled: bool,
    out: Path | None,
    overwrite: bool,
    strict: bool,
    as_json: bool,
    format: DataFormat,
) -> None:
    """Look for what is wrong with DATA: copies, conflicting labels, leaks, shortcuts, labels that look machine-made.

    Every finding is fine, look or stop. Nothing in DATA is changed. With --split, its test part is searched for texts
    that were trained on.

    \b
    Example:
      duygu audit texts/ --out audit
      duygu audit texts/ --split split.json --model tiny --strict
      duygu audit news.jsonl --unlabelled
    """
    from duygu.errors import GateError
    from duygu.training.progress import shown_progress
    from duygu.verdict.audit import audit as run
    from duygu.verdict.audit.output import print_audit, require_free, write_audit

    if out is not None:
        require_free(out, overwrite)
    with shown_progress() as progress:
        found = run(data, split=split, model=model, labelled=not unlabelled, format=format, progress=progress)
    if out is not None:
        write_audit(found, out)
    if as_json:
        print_json(found.as_json())
    else:
        print_audit(found, console())
    if out is not None:
        say(f"report: {out / 'audit.html'}")
    if strict and found.stops:
        raise GateError(f"stop: {', '.join(found.stops)}")
