"""What reading a source yields: documents as they were found, and what was wrong with single files or rows.

`DataFormat` says how DATA is laid out where its own look does not tell. It travels with a run, so that every process
reads the same; it imports next to nothing, because the command line builds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from duygu.errors import DataError, printable

DOCUMENT_LIMIT = 4 * 2**20  # bytes of a file, characters of a cell: a news item has thousands, a thick book 2 million
TOTAL_LIMIT = 2**30  # characters of all documents, which are held in memory
LABEL_LIMIT = 200  # characters of a label
ID_LIMIT = 1000  # characters of an id
SHOWN = 3  # examples in a message


@dataclass(frozen=True, slots=True)
class DataFormat:
    """Columns of a table by name, and one encoding for every file; None leaves each to its default.

    Without names the columns are ``text`` and ``label``, documents are numbered, and no date or source is known.
    """

    text_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    date_column: str | None = None
    source_column: str | None = None
    encoding: str | None = None

    def as_dict(self) -> dict[str, str]:
        """What was given, by field name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def options(self) -> list[str]:
        """What was given, as words of a command line."""
        return [word for name, value in self.as_dict().items() for word in (option_name(name), value)]


BY_DEFAULT = DataFormat()


@dataclass(frozen=True, slots=True)
class Document:
    """One labelled text of a source."""

    id: str
    label: str
    text: str
    encoding: str
    line: int = 0  # where it begins in its table; 0 for a file of its own
    date: str | None = None  # ISO 8601
    source: str | None = None

    def place(self, root: str) -> str:
        """Where a user finds it."""
        return f"{root}:{self.line}" if self.line else f"{root}/{self.id}"


class Faults:
    """What is wrong with single files or rows of ``root``, gathered so that one error tells of all."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.count = 0
        self._first: tuple[str, str, str] = ("", "", "")
        self._others: list[str] = []

    def add(self, problem: str, fix: str, file: str = "", line: int = 0) -> None:
        """Note one fault of a file below the root, or of a line of the root itself."""
        self.count += 1
        if self.count == 1:
            where = self.root + (f"/{file}" if file else "") + (f":{line}" if line else "")
            self._first = (problem, where, fix)
        elif len(self._others) < SHOWN:
            self._others.append(f"{file}:{line}" if file and line else file or f"line {line}")

    def check(self) -> None:
        """Raise `DataError` for the first fault, with the number of the others, if there is any."""
        if not self.count:
            return
        problem, where, fix = self._first
        if self.count > 1:
            more = "" if self.count - 1 == len(self._others) else ", ..."
            others = "other fault" if self.count == 2 else "other faults"
            problem += f" ({self.count - 1} {others}: {', '.join(self._others)}{more})"
        raise DataError(problem, where, fix)


def option_name(field: str) -> str:
    """``text_column`` as the command line has it."""
    return f"--{field.replace('_', '-')}"


def shown(text: str, limit: int = 40) -> str:
    """``text`` for a message: quoted, printable, short."""
    return f"'{printable(text[:limit])}...'" if len(text) > limit else f"'{printable(text)}'"


def some(names: Sequence[str]) -> str:
    """The first few names, and dots where there are more."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
