"""When a text was published and by whom, as columns or file names say it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_dotted = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?!\d)", re.ASCII)  # day, month, year
_named = re.compile(r"(?P<source>.+?)_(?P<date>\d{4}-\d\d-\d\d|\d{1,2}\.\d{1,2}\.\d{4}|\d{8})(?!\d)", re.ASCII)


def iso_date(text: str) -> str:
    """A date, or a date and a time, as ISO 8601 text that sorts by time; one with an offset is moved to UTC.

    Read are ISO 8601 (``2024-01-31``, ``2024-01-31T09:30``) and day.month.year. Midnight is the date alone. Raises
    ValueError for anything else.
    """
    swapped = _dotted.sub(lambda found: f"{found[3]}-{found[2]:0>2}-{found[1]:0>2}", text.strip(), count=1)
    return iso_moment(datetime.fromisoformat(swapped))


def iso_moment(moment: datetime) -> str:
    """The same of a moment; raises ValueError where it leaves the calendar."""
    try:
        whole = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except OverflowError as error:
        raise ValueError(str(error)) from error
    return whole.isoformat().removesuffix("T00:00:00")


def source_and_date(name: str) -> tuple[str | None, str | None]:
    """What a file name of the form ``SOURCE_DATE...`` tells, such as ``gazette_2024-01-31_2``; else None, None."""
    found = _named.match(name)
    if not found:
        return None, None
    try:
        return found["source"], iso_date(found["date"])
    except ValueError:
        return None, None
