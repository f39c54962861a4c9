"""An audit as people meet it: on a terminal of 80 columns or more, and as ``audit.json`` and ``audit.html``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from duygu.errors import FolderError, printable
from duygu.files import make_folder, on_disk, write_json, write_text
from duygu.verdict.audit.findings import Audit
from duygu.verdict.page.findings import audit_page, audit_tables
from duygu.verdict.report import print_table

if TYPE_CHECKING:
    from rich.console import Console

RECORD, PAGE = "audit.json", "audit.html"
COLOURS = {"stop": "bold red", "look": "yellow", "fine": "green"}


def print_audit(audit: Audit, console: Console) -> None:
    """Every finding with its level, the tables that they rest on, and the verdict last, where the eye is."""
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=None, pad_edge=False, show_header=False, padding=(0, 1, 1, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(style="bold")
    grid.add_column()
    for finding in audit.findings:
        sentence = Text(printable(finding.sentence))
        grid.add_row(Text(finding.level, COLOURS[finding.level]), Text(finding.name), sentence)
    console.print(grid)
    for table in audit_tables(audit.as_json()):
        print_table(table, console)
    console.print()
    console.print(Text(printable(f"{audit.data}: {audit.verdict}"), style="bold"))


def require_free(out: Path, overwrite: bool) -> None:
    """Raise `FolderError` where ``out`` is no folder, or holds an audit that is not to be replaced."""
    with on_disk(out):
        blocked, taken = out.exists() and not out.is_dir(), (out / RECORD).exists()
    if blocked:
        raise FolderError("a file lies where a folder is wanted", str(out), "choose another --out")
    if taken and not overwrite:
        raise FolderError("holds an audit already", str(out), "add --overwrite, or choose another --out")


def write_audit(audit: Audit, out: Path) -> None:
    """Write ``audit.json`` and the page made of it."""
    make_folder(out)
    record = audit.as_json()
    write_json(out / RECORD, record)
    write_text(out / PAGE, audit_page(record))
