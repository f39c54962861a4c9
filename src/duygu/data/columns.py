"""Which columns of a table hold what, found by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from duygu.data.sources import DataFormat, shown
from duygu.errors import DataError

SHOWN_COLUMNS = 20

Wanted = Mapping[str, str]  # what a column holds (text, label, id, date, source) to its name; text always


def wanted_columns(format: DataFormat, labelled: bool = True) -> dict[str, str]:
    """The columns to read. Raises `DataError` where one name is given for text and label."""
    wanted = {"text": format.text_column or "text"}
    if labelled:
        wanted["label"] = format.label_column or "label"
    for role in ("id", "date", "source"):
        name = getattr(format, f"{role}_column")
        if name is not None:
            wanted[role] = name
    if wanted["text"] == wanted.get("label"):
        problem = f"text and label cannot be the same column {shown(wanted['text'])}"
        raise DataError(problem, "--text-column --label-column", "name two columns")
    return wanted


def find_columns(wanted: Wanted, header: Sequence[str], where: str) -> list[int]:
    """Place of each wanted column. Raises `DataError` for one that is missing or there twice."""
    for role, name in wanted.items():
        if name not in header:
            fix = f"name the {role} column with --{role}-column; {_listed(header, name)}"
            raise DataError(f"there is no column {shown(name)}", where, fix)
        if header.count(name) > 1:
            raise DataError(f"the column {shown(name)} stands twice", where, "give every column its own name")
    return [header.index(name) for name in wanted.values()]


def _listed(header: Sequence[str], name: str) -> str:
    names = [shown(column) for column in header[:SHOWN_COLUMNS]]
    more = ", ..." if len(header) > SHOWN_COLUMNS else ""
    folded = {column.casefold(): column for column in header[:SHOWN_COLUMNS]}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    guess = f" (did you mean {shown(folded[near[0]])}?)" if near else ""
    return f"the columns are: {', '.join(names)}{more}{guess}"
