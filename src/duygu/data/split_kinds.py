"""Splits that ask more of a model than a stratified one: every fold its test, the newest its test, a source its test.

All keep copies of a text on one side, and all are saved and read like any other split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from duygu.data.split import SHARES, Split, allocate, carve, checked_split
from duygu.errors import DataError

IntArray = NDArray[np.int32]

FEWER = "take fewer folds, or give more texts with this label that are not copies"
OTHER_SHARES = "change --shares, or take another --kind"
OTHER_SOURCE = "leave out a source that has texts with every label, beside others that have them too"


def make_folds(
    labels: IntArray, groups: IntArray, ids: Sequence[str], folds: int, seed: int = 0, where: str = "the documents"
) -> list[Split]:
    """``folds`` splits of N documents with ``labels`` and ``groups`` (N,): each document is tested in just one.

    Every fold is stratified and so is the fifth of the rest that validates. Raises `DataError` where a label is too
    small to be in every part.
    """
    fold_of = allocate(labels, groups, (1 / folds,) * folds, seed)
    splits: list[Split] = []
    for fold in range(folds):
        side, test = (np.flatnonzero(chosen).astype(np.int32) for chosen in (fold_of != fold, fold_of == fold))
        trained = carve(side, labels, groups, seed)
        splits.append(checked_split((*trained, test), labels, ids, seed, where, FEWER))
    return splits


def split_by_time(
    labels: IntArray,
    groups: IntArray,
    ids: Sequence[str],
    dates: Sequence[str | None],
    shares: Sequence[float] = SHARES,
    where: str = "the documents",
) -> Split:
    """The oldest of N documents train, the newest test; ``dates`` (N,) are ISO 8601, or None and then in no part.

    A part begins where a new date does. A later copy of a text that stands in an earlier part is in no part. Raises
    `DataError` where there are no dates, too few, or a part lacks a label.
    """
    dated = np.array([number for number, date in enumerate(dates) if date is not None], np.int32)
    if not len(dated):
        fix = "name a column with --date-column; file names tell dates in the form source_2024-01-31.txt"
        raise DataError("no document has a date", where, fix)
    when = np.array([str(date) for date in dates if date is not None])
    by_age = np.argsort(when, kind="stable")
    order, ordered = dated[by_age], [str(date) for date in when[by_age].tolist()]
    first, second = _cuts(ordered, shares, where)
    parts = [order[:first], order[first:second], order[second:]]
    kept = [
        parts[0],
        *(_without(part, groups, before) for part, before in ((parts[1], parts[:1]), (parts[2], parts[:2]))),
    ]
    notes = _left_out(len(ids) - len(dated), "have no date")
    notes += _left_out(len(order) - sum(map(len, kept)), "are later copies of texts in an earlier part")
    return checked_split([np.sort(part) for part in kept], labels, ids, 0, where, OTHER_SHARES, notes)


def split_by_source(
    labels: IntArray,
    groups: IntArray,
    ids: Sequence[str],
    sources: Sequence[str | None],
    left_out: str,
    seed: int = 0,
    where: str = "the documents",
) -> Split:
    """The source ``left_out`` is the test part; the other sources train, but for a fifth that validates.

    ``sources`` (N,) has None where unknown, and such documents are in no part; nor are texts of other sources that
    have a copy in the test part. Raises `DataError` for a source that is not there or lacks a label.
    """
    test = np.array([number for number, source in enumerate(sources) if source == left_out], np.int32)
    if not len(test):
        raise DataError(f"no document is of the source {left_out!r}", where, f"there are: {_named(sources)}")
    others = np.array([number for number, source in enumerate(sources) if source not in (None, left_out)], np.int32)
    side = _without(others, groups, [test])
    notes = _left_out(len(ids) - len(test) - len(others), "have no source")
    notes += _left_out(len(others) - len(side), f"are copies of texts of {left_out}")
    return checked_split((*carve(side, labels, groups, seed), test), labels, ids, seed, where, OTHER_SOURCE, notes)


def sources_to_leave_out(labels: IntArray, sources: Sequence[str | None], where: str = "the documents") -> list[str]:
    """The sources that have documents of every label, sorted. Raises `DataError` where there are none or only one."""
    names = sorted({source for source in sources if source is not None})
    if len(names) < 2:
        problem = "all documents are of one source" if names else "no document has a source"
        fix = "name a column with --source-column; file names tell sources in the form source_2024-01-31.txt"
        raise DataError(problem, where, fix)
    every = set(labels.tolist())
    held = {name: {int(labels[number]) for number, source in enumerate(sources) if source == name} for name in names}
    whole = [name for name in names if held[name] == every]
    if not whole:
        raise DataError("no source has documents of every label", where, "take another --kind")
    return whole


def _cuts(ordered: Sequence[str], shares: Sequence[float], where: str) -> tuple[int, int]:
    """Where validation and test begin: the changes of date that are nearest to the shares."""
    changes = [number for number in range(1, len(ordered)) if ordered[number] != ordered[number - 1]]
    if len(changes) < 2:
        problem = f"the documents have only {len(changes) + 1} different date(s), and three parts need three"
        raise DataError(problem, where, "give finer dates, or take another --kind")
    first = min(changes[:-1], key=lambda cut: abs(cut - shares[0] * len(ordered)))
    later = [cut for cut in changes if cut > first]
    return first, min(later, key=lambda cut: abs(cut - (shares[0] + shares[1]) * len(ordered)))


def _without(part: IntArray, groups: IntArray, before: Iterable[IntArray]) -> IntArray:
    """The documents of ``part`` that have no copy in the parts ``before``."""
    return part[~np.isin(groups[part], groups[np.concatenate(list(before))])]


def _left_out(count: int, why: str) -> list[str]:
    return [f"{count} documents {why} and are in no part of the split"] if count else []


def _named(sources: Sequence[str | None]) -> str:
    names = sorted({source for source in sources if source is not None})
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") if names else "none; name a --source-column"
