"""``duygu demo``: the comparison on the bundled texts."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from duygu.options import json_option
from duygu.verbs.output import print_comparison, say

DEMO_TEXT = "Şirketin kârı beklentileri aştı."


@click.command(short_help="Compare the engines on the bundled texts.")
@click.option("--out", type=click.Path(path_type=Path), default="demo-out", show_default=True, help="Where to write.")
@json_option
def demo(out: Path, as_json: bool) -> None:
    """Train the tiny model on the bundled corpus in both engines and compare them, offline, in about two minutes.

    \b
    Example:
      duygu demo --out demo-out
    """
    from duygu.data.demo import demo_corpus
    from duygu.engines import ENGINES
    from duygu.models.presets import recipe_for
    from duygu.use.classifier import default_engine, installed_engines
    from duygu.verdict.compare import CompareRequest
    from duygu.verdict.compare import compare as run

    engines = installed_engines() or (default_engine(),)
    for missing in sorted(set(ENGINES) - set(engines)):
        say(f"{missing} is not installed, so {engines[0]} runs alone: pip install 'duygu[{missing}]'")
    recipe = recipe_for("tiny")
    request = CompareRequest(str(demo_corpus()), "tiny", out, recipe, engines, (recipe.seed,), overwrite=True)
    result = run(request, say)
    try:
        print_comparison(result, as_json)
    finally:  # a collapsed run is an error, and has a report all the same
        for line in farewell(out, f"{engines[0]}-{recipe.seed}"):
            say(line)


def farewell(out: Path, run: str) -> tuple[str, str]:
    """Where the report is, and the next command to try: it asks run ``run`` of the comparison in ``out``."""
    page = out / "report.html"
    report = page if page.is_file() else out / "report.md"
    return f"report: {report}", f'next: duygu predict {shlex.quote(str(out / "runs" / run))} "{DEMO_TEXT}"'
