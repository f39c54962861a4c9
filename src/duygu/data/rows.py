"""The rows of text tables: CSV and TSV as RFC 4180 has them, and JSON lines.

Both are read line by line, and what one row may take is bounded, so a table's size does not matter and a quote that is
never closed is found soon. A row that cannot be read is a fault with its line; reading goes on behind it where it can.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, BinaryIO, cast

from duygu.data.columns import Wanted, find_columns
from duygu.data.encoding import Encoding
from duygu.data.sources import DOCUMENT_LIMIT, Faults, shown
from duygu.errors import DataError

ROW_LIMIT = 2 * DOCUMENT_LIMIT  # characters of a row, all its lines together

Row = tuple[int, tuple[object, ...]]  # the line where it begins, and the value of each wanted column

SPELLED = {",": "commas", ";": "semicolons", "\t": "tabs"}
LEAVE_NO_QUOTE_OPEN = 'close every quote; inside a quoted cell write a quote as ""'
ONE_OBJECT = "write one JSON object a line, without line ends inside"
SHORTEN = f"no row may have more than {ROW_LIMIT // 2**20} million characters: "


class TooLong(ValueError):
    """A row beyond the limit."""


class Lines(Iterator[str]):
    """The lines of a text file, line ends kept, numbered from 1; `TooLong` where those of one row pass the limit."""

    def __init__(self, file: BinaryIO, encoding: Encoding) -> None:
        file.seek(encoding.mark)
        self._text = io.TextIOWrapper(file, encoding.codec, newline="")
        self.number = 0
        self.begin_row()

    def close(self) -> None:
        """Close the file."""
        self._text.close()

    def begin_row(self) -> None:
        """The next line belongs to another row."""
        self.start = self.number + 1
        self._room = ROW_LIMIT

    def __next__(self) -> str:
        line = self._text.readline(self._room + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._room -= len(line)
        if self._room < 0:
            raise TooLong
        return line


def delimited_rows(
    file: BinaryIO, name: str, wanted: Wanted, encoding: Encoding, faults: Faults, delimiters: str
) -> Iterator[Row]:
    """Rows of a table whose first row names the columns, by the first delimiter that gives the wanted ones."""
    with closing(Lines(file, encoding)) as lines:
        header, delimiter = _header(lines, name, wanted, delimiters)
        places = find_columns(wanted, header, f"{name}:{lines.number}")
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while (row := _next_row(reader, lines, faults)) is not None:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) == len(header):
                yield lines.start, tuple(row[place] for place in places)
            else:
                problem = f"the row has {len(row)} cells, the names of the columns are {len(header)}"
                faults.add(problem, f"quote cells that hold {SPELLED[delimiter]} or line ends", line=lines.start)


def json_rows(file: BinaryIO, name: str, wanted: Wanted, encoding: Encoding, faults: Faults) -> Iterator[Row]:
    """Rows of a file with one JSON object a line; its first object must have every wanted column."""
    checked = False
    with closing(Lines(file, encoding)) as lines:
        while (found := _next_object(lines, faults)) is not None:
            if not checked:
                find_columns(wanted, list(found), f"{name}:{lines.start}")
                checked = True
            missing = next((column for column in wanted.values() if column not in found), None)
            if missing is None:
                yield lines.start, tuple(found[column] for column in wanted.values())
            else:
                faults.add(f"the object has no {shown(missing)}", "give it one, or remove the line", line=lines.start)


def _header(lines: Lines, name: str, wanted: Wanted, delimiters: str) -> tuple[list[str], str]:
    """Names of the columns and the delimiter; where none gives the wanted columns, the one that gives most."""
    try:
        line = next(line for line in lines if line.strip())
    except StopIteration:
        raise DataError("the table is empty", name, "name the columns in its first row") from None
    except TooLong:
        raise DataError("the first row is too long", f"{name}:1", f"{SHORTEN}it names the columns") from None
    headers: list[tuple[list[str], str]] = []
    reason = ""
    for delimiter in delimiters:
        try:
            cells = next(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error as error:
            reason = str(error)
            continue
        headers.append(([cell.strip() for cell in cells], delimiter))
        if set(wanted.values()) <= set(headers[-1][0]):
            return headers[-1]
    if not headers:
        where = f"{name}:{lines.number}"
        raise DataError(f"the names of the columns are not CSV: {reason}", where, LEAVE_NO_QUOTE_OPEN)
    return max(headers, key=lambda found: len(found[0]))


def _next_row(reader: Any, lines: Lines, faults: Faults) -> list[str] | None:
    """The next row; None at the end, or behind a fault after which no row can be told."""
    lines.begin_row()
    before = csv.field_size_limit(ROW_LIMIT)  # one limit for the whole process
    try:
        return next(reader)
    except StopIteration:
        return None
    except TooLong:
        faults.add("the row is too long to be one", f"{SHORTEN}a quote may have been left open", line=lines.start)
    except csv.Error as error:
        faults.add(f"not valid CSV: {error}", LEAVE_NO_QUOTE_OPEN, line=lines.start)
    finally:
        csv.field_size_limit(before)
    return None


def _next_object(lines: Lines, faults: Faults) -> dict[str, object] | None:
    """The next line that holds an object; None at the end."""
    while True:
        lines.begin_row()
        try:
            line = next(lines)
            if line.strip():
                value = json.loads(line, object_pairs_hook=_object)
                if isinstance(value, dict):
                    return cast(dict[str, object], value)
                faults.add("the line is not a JSON object", ONE_OBJECT, line=lines.start)
        except StopIteration:
            return None
        except TooLong:
            faults.add("the line is too long to be one document", f"{SHORTEN}one object a line", line=lines.start)
            return None
        except RecursionError:
            faults.add("the object is nested too deeply", ONE_OBJECT, line=lines.start)
        except json.JSONDecodeError as error:
            reason = f"not valid JSON at column {error.colno}: {error.msg}"
            faults.add(reason, ONE_OBJECT, line=lines.start)
        except ValueError as error:
            faults.add(f"not usable JSON: {error}", ONE_OBJECT, line=lines.start)


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names one thing twice")
    return found
