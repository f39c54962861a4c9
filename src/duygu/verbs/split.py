"""``duygu split``: which documents train, validate and test, decided once and written down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from duygu.options import decimals, format_options, json_option
from duygu.verbs.output import print_json, say

if TYPE_CHECKING:
    from duygu.data.sources import DataFormat
    from duygu.data.split_files import Kind


@click.command(short_help="Write which documents train, validate and test.")
@click.argument("data")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write, such as split.json.")
@click.option(
    "--kind",
    type=click.Choice(["stratified", "kfold", "time", "source"]),
    default="stratified",
    show_default=True,
    help="By label, in folds, by date, or by source.",
)
@click.option("--folds", metavar="K", type=click.IntRange(2), default=5, show_default=True, help="For --kind kfold.")
@click.option(
    "--shares", metavar="LIST", default="", callback=decimals, help="Of train, validation and test; else 64,16,20."
)
@click.option("--left-out", metavar="NAME", help="For --kind source: only this one; else each in turn.")
@click.option("--seed", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="Seed of the draw.")
@format_options
@click.option("--overwrite", is_flag=True, help="Replace the file where there is one.")
@json_option
def split(
    data: str,
    out: Path,
    kind: str,
    folds: int,
    shares: tuple[float, ...],
    left_out: str | None,
    seed: int,
    overwrite: bool,
    as_json: bool,
    format: DataFormat,
) -> None:
    """Write a split of DATA as a file that --split of the other verbs reads.

    A text and its copies never stand on two sides. With --kind kfold every document is tested in one of K files; with
    --kind time the oldest train and the newest test; with --kind source a file each leaves one source out, whole, for
    the test.

    \b
    Example:
      duygu split texts/ --out split.json
      duygu split news.csv --date-column published --kind time --out by-time.json
      duygu train texts/ --engine torch --model tiny --split split.json --out run
    """
    from duygu.data.split_files import SplitRequest, write_splits

    request = SplitRequest(
        data=data,
        out=out,
        kind=cast("Kind", kind),
        folds=folds,
        shares=shares,
        left_out=left_out,
        seed=seed,
        overwrite=overwrite,
        format=format,
    )
    files = write_splits(request, say)
    if as_json:
        print_json({"schema": 1, "data": data, "kind": kind, "files": [file.as_json() for file in files]})
        return
    for file in files:
        sizes = [f"{len(getattr(file.split, part))} {part}" for part in ("train", "validation", "test")]
        click.echo("\t".join([str(file.path), *sizes, *([file.what] if file.what else [])]))
        for warning in file.split.warnings:
            say(f"{file.path}: {warning}")
