"""A table with a row per document: CSV, TSV, JSON lines or Parquet, told by the end of its name.

The readers (`duygu.data.rows`, `duygu.data.parquet`) give values by column; here they become documents, alike for every
kind, so that the same corpus has the same digest in each. Without an id column, documents are numbered by row.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import BinaryIO

from duygu.data.columns import Wanted, wanted_columns
from duygu.data.dates import iso_date, iso_moment
from duygu.data.encoding import Undecodable, detect
from duygu.data.parquet import parquet_rows
from duygu.data.rows import delimited_rows, json_rows
from duygu.data.sources import DOCUMENT_LIMIT, ID_LIMIT, LABEL_LIMIT, DataFormat, Document, Faults, shown
from duygu.errors import DataError

COMMAS, TABS, JSON, PARQUET = "CSV", "TSV", "JSON lines", "Parquet"
KINDS = {
    ".csv": COMMAS, ".tsv": TABS, ".tab": TABS, ".jsonl": JSON, ".ndjson": JSON, ".parquet": PARQUET, ".pq": PARQUET,
}  # fmt: skip
GIVE = "give a folder with one sub-folder of .txt files per label, or a .csv, .tsv, .jsonl or .parquet table"
UNPACK = "unpack it and give what is inside"
EXPORT = "export the sheet as CSV (UTF-8)"
ADVICE = {
    ".json": "write one JSON object a line and name the file .jsonl", ".xlsx": EXPORT, ".xls": EXPORT, ".ods": EXPORT,
    ".gz": UNPACK, ".zip": UNPACK, ".bz2": UNPACK, ".xz": UNPACK, ".zst": UNPACK, ".7z": UNPACK, ".tar": UNPACK,
    ".tgz": UNPACK,
}  # fmt: skip
MAGIC = (
    (b"\x1f\x8b", "compressed with gzip", UNPACK),
    (b"BZh", "compressed with bzip2", UNPACK),
    (b"\xfd7zXZ", "compressed with xz", UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", f"{UNPACK}, or {EXPORT}"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet", EXPORT),
    (b"%PDF-", "a PDF", GIVE),
    (b"PAR1", "Parquet", "name it .parquet"),
)
DATES = "write dates as 2024-01-31, 2024-01-31T09:30 or 31.01.2024"
WORDS = "write text or a whole number"

Values = Sequence[object]


class RowFault(ValueError):
    """What is wrong with one row, and how to mend it."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


def read_table(path: Path, name: str, format: DataFormat, labelled: bool = True) -> Iterator[Document]:
    """A document per row of the table that messages call ``name``; its label is "" where none is to be read.

    Raises `DataError` where it cannot be read: for rows that are at fault, all at once, with the line of the first.
    """
    kind = _kind(path, name)
    wanted = wanted_columns(format, labelled)
    faults = Faults(name)
    number = 0
    try:
        with path.open("rb") as file:
            encoding, rows = _open(file, kind, name, wanted, format.encoding, faults)
            maker = _Maker(wanted, encoding)
            for number, (line, values) in enumerate(rows, start=1):
                try:
                    yield maker.document(number, line, values)
                except RowFault as fault:
                    faults.add(str(fault), fault.fix, line=line)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"the table cannot be read: {reason}", name, "check the path and its permissions") from error
    faults.check()
    if not number:
        raise DataError("the table has no rows", name, "put one document a row below the names of the columns")


def _kind(path: Path, name: str) -> str:
    end = path.suffix.lower()
    if end not in KINDS:
        ending = f"its name ends in {shown(end)}" if end else "its name has no ending"
        raise DataError(f"neither a folder nor a table: {ending}", name, ADVICE.get(end, GIVE))
    return KINDS[end]


def _open(
    file: BinaryIO, kind: str, name: str, wanted: Wanted, forced: str | None, faults: Faults
) -> tuple[str, Iterator[tuple[int, Values]]]:
    """The name of the table's encoding, and its rows."""
    if kind == PARQUET:
        if forced is not None:
            raise DataError("a Parquet file knows its own encoding", "--encoding", "leave --encoding out")
        return "UTF-8", parquet_rows(file, name, wanted)
    head = file.read(8)
    for mark, what, fix in MAGIC:
        if head.startswith(mark):
            raise DataError(f"not {kind}, whatever its name says: it is {what}", name, fix)
    try:
        encoding = detect(file, forced)
    except Undecodable as error:
        fix = "save the table as UTF-8, or name its encoding with --encoding"
        raise DataError(f"the table cannot be read as text: {error}", f"{name}:{error.line}", fix) from error
    if kind == JSON:
        return encoding.name, json_rows(file, name, wanted, encoding, faults)
    return encoding.name, delimited_rows(file, name, wanted, encoding, faults, "\t" if kind == TABS else ",;\t")


class _Maker:
    """Makes documents of rows, and remembers how labels are written."""

    def __init__(self, wanted: Wanted, encoding: str) -> None:
        self._roles, self._names, self._encoding = tuple(wanted), tuple(wanted.values()), encoding
        self._written: dict[str, str] = {}  # label to its spelling with spaces

    def document(self, number: int, line: int, values: Values) -> Document:
        """The document of a row; raises `RowFault`."""
        if tuple(values) == self._names:
            raise RowFault("the names of the columns stand here again", "remove the row")
        row = dict(zip(self._roles, values, strict=True))
        return Document(
            id=_id(row["id"]) if "id" in row else f"row-{number:08}",
            label=self._label(row["label"]) if "label" in row else "",
            text=_text(row["text"]),
            encoding=self._encoding,
            line=line,
            date=_date(row.get("date")),
            source=_word(row.get("source"), "source").strip() or None,
        )

    def _label(self, value: object) -> str:
        written = _word(value, "label")
        label = written.strip()
        if not label:
            raise RowFault("the row has no label", "give it one, or remove the row")
        if self._written.setdefault(label, written) != written:
            raise RowFault(f"the label {shown(label)} is also written with other spaces", "write it one way")
        return label


def _text(value: object) -> str:
    """The text of a cell; an empty one counts as an empty document."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowFault(f"the text is {_article(value)}, not text", "name the column that holds the texts")
    if len(value) > DOCUMENT_LIMIT:
        limit = f"no document may have more than {DOCUMENT_LIMIT // 2**20} million"
        raise RowFault(f"the text has {len(value):,} characters, so is hardly one document", limit)
    _require_whole(value, "text")
    return value


def _word(value: object, what: str) -> str:
    """A short cell as text: whole numbers and truth values count as such, an empty cell is ""."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int):
        raise RowFault(f"the {what} is {_article(value)}", WORDS)
    word, limit = str(value), LABEL_LIMIT if what == "label" else ID_LIMIT
    if len(word) > limit:
        fix = f"no {what} may have more than {limit}; is it the right column?"
        raise RowFault(f"the {what} has {len(word):,} characters", fix)
    _require_whole(word, what)
    return unicodedata.normalize("NFC", word)


def _id(value: object) -> str:
    word = _word(value, "id").strip()
    if not word:
        raise RowFault("the row has no id", "give it one, or leave --id-column out")
    return word


def _date(value: object) -> str | None:
    try:
        if isinstance(value, datetime):
            return iso_moment(value)
        if isinstance(value, date):
            return value.isoformat()
        word = _word(value, "date").strip()
        return iso_date(word) if word else None
    except RowFault:
        raise
    except ValueError as error:
        raise RowFault(f"{shown(str(value))} is not a date", DATES) from error


def _require_whole(text: str, what: str) -> None:
    """Raise `RowFault` for half a character, which JSON can write and no file can hold."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"half a character (a lone surrogate, U+{ord(text[error.start]):04X})"
        raise RowFault(f"the {what} holds {half}", "remove it, or write the whole character") from error


def _article(value: object) -> str:
    """What a value is, in words."""
    names = {"float": "a number with a fraction", "int": "a number", "bool": "true or false", "dict": "an object"}
    kind = type(value).__name__
    return names.get(kind, f"a {kind}")
