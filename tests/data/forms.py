"""One corpus written in every form that duygu reads."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from duygu.data.corpus import Corpus

COLUMNS = ("id", "label", "text", "date", "source")
Rows = Sequence[Sequence[str | None]]  # in the order of COLUMNS


def rows_of(corpus: Corpus) -> list[list[str | None]]:
    """The corpus as a table, in an order that is not its own."""
    nothing = (None,) * len(corpus.ids)
    rows = [
        [id, corpus.names[label], text, date, source]
        for id, label, text, date, source in zip(
            corpus.ids, corpus.labels, corpus.texts, corpus.dates or nothing, corpus.sources or nothing, strict=True
        )
    ]
    return rows[::2] + rows[1::2]


def write_delimited(path: Path, rows: Rows, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([COLUMNS, *rows])
    return path


def write_json_lines(path: Path, rows: Rows) -> Path:
    lines = [json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=bool(n % 2)) for n, row in enumerate(rows)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    pa = pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'duygu[parquet]'")
    import pyarrow.parquet  # noqa: F401  a part that is not there until it is imported

    pa.parquet.write_table(pa.table(dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))), path)
    return path


WRITERS: dict[str, Callable[[Path, Rows], Path]] = {
    "commas.csv": write_delimited,
    "semicolons.csv": lambda path, rows: write_delimited(path, rows, ";", "cp1254"),
    "tabs.TSV": lambda path, rows: write_delimited(path, rows, "\t", "utf-16"),
    "mark.csv": lambda path, rows: write_delimited(path, rows, "\t", "utf-8-sig"),
    "lines.jsonl": write_json_lines,
    "table.parquet": write_parquet,
}
