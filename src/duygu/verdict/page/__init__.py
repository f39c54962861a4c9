"""``report.html``: a comparison or a run as one page that can be sent to a colleague.

One file that loads nothing, runs nothing and holds every number it shows: verdict first, then figures as inline SVG and
the tables they rest on. It is made of small functions that return elements (`duygu.verdict.page.markup`) and not of a
template: so HTML and figures go through one escaping that cannot be left out, types are checked, and nothing need be
installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from duygu.errors import FolderError
from duygu.files import write_text
from duygu.verdict.page.crossed import CROSSED
from duygu.verdict.page.evidence import Evidence, comparison_evidence, read_evidence, read_history, run_evidence
from duygu.verdict.page.markup import document, tag
from duygu.verdict.page.sections import SECTIONS
from duygu.verdict.report import title
from duygu.verdict.tables import Json

__all__ = ["PAGE", "comparison_page", "read_history", "run_page", "write_page"]

PAGE = "report.html"


def comparison_page(comparison: Json, histories: Mapping[str, Sequence[Json]]) -> str:
    """The page of a comparison: the content of ``comparison.json``, and lines of ``history.jsonl`` by run name."""
    return _page(comparison_evidence(comparison, histories))


def run_page(metrics: Json, history: Sequence[Json]) -> str:
    """The page of one run: the content of ``metrics.json`` and the lines of ``history.jsonl``."""
    return _page(run_evidence(metrics, history))


def write_page(folder: Path, texts: bool = True) -> Path:
    """Write ``report.html`` of a comparison or run folder from the files there; its path.

    Without ``texts`` it lists documents by their ids and quotes none. Raises `FolderError` for a folder that holds
    neither, or files that are damaged.
    """
    evidence = read_evidence(folder, texts)
    try:
        text = _page(evidence)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        problem = f"not in the form that duygu writes ({type(error).__name__}: {error})"
        raise FolderError(problem, str(folder), "run the command again") from error
    write_text(folder / PAGE, text)
    return folder / PAGE


def _page(evidence: Evidence) -> str:
    parts = (section(evidence) for section in (CROSSED if evidence.models else SECTIONS))
    style = files("duygu.verdict.page").joinpath("style.css").read_text(encoding="utf-8")
    return document(title(evidence.comparison), style, tag("body", tag("main", *parts)))
