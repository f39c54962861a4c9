"""``duygu report``: the page of a folder, made again from its files."""

from __future__ import annotations

from pathlib import Path

import click

from duygu.options import json_option, texts_option
from duygu.verbs.output import print_json


@click.command(short_help="Write report.html again from a folder's files.")
@click.argument("folder", metavar="COMPARISON|RUN", type=click.Path(path_type=Path))
@texts_option
@json_option
def report(folder: Path, texts: bool, as_json: bool) -> None:
    """Write report.html of a comparison or run folder from the JSON files in it, and print its path.

    \b
    Example:
      duygu report demo-out
      duygu report demo-out --no-texts
    """
    from duygu.verdict.page import write_page

    page = write_page(folder, texts)
    if as_json:
        print_json({"schema": 1, "page": str(page)})
    else:
        click.echo(str(page))
