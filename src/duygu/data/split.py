"""Which documents train, which validate, which test: stratified by label, copies on one side, saved as ids.

The split has a seed of its own, so that all runs of a comparison share one. Groups of copies come from
`duygu.data.duplicates`; a group lies in one part, whole. A split that the user gives is checked and never rearranged:
what is wrong with it is an error, what is doubtful about it (a copy of a test text among the training texts) a warning.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from duygu.data.duplicates import EXACT_LIMIT, duplicate_groups
from duygu.errors import DataError
from duygu.files import read_json, write_json

__all__ = [
    "PARTS", "SHARES", "Split", "allocate", "carve", "checked_split", "duplicate_groups", "make_split", "read_split",
    "write_split",
]  # fmt: skip

IntArray = NDArray[np.int32]

PARTS = ("train", "validation", "test")
SHARES = (0.64, 0.16, 0.20)
CARVED = (0.8, 0.2)  # of the training side, where a split names no validation part
MORE = "give more texts with this label that are not copies"
NUMBERED = "row-"  # how ids begin that are numbers of rows


@dataclass(frozen=True, slots=True)
class Split:
    """Three disjoint parts of a corpus as indices of documents, ascending."""

    train: IntArray
    validation: IntArray
    test: IntArray
    seed: int
    digest: str  # sha256 over the ids of the parts
    warnings: tuple[str, ...]


def make_split(
    labels: IntArray,
    groups: IntArray,
    ids: Sequence[str],
    seed: int = 0,
    shares: Sequence[float] = SHARES,
    where: str = "the documents",
) -> Split:
    """64 % train, 16 % validation, 20 % test of N documents with ``labels`` (N,) and copies in ``groups`` (N,).

    Each label has these ``shares`` within one document, as far as whole groups allow. Raises `DataError`, which names
    ``where``, if a label has too few groups to be in every part.
    """
    parts = allocate(labels, groups, shares, seed)
    indices = [np.flatnonzero(parts == number).astype(np.int32) for number in range(len(PARTS))]
    return checked_split(indices, labels, ids, seed, where, MORE)


def checked_split(
    documents: Sequence[IntArray],
    labels: IntArray,
    ids: Sequence[str],
    seed: int,
    where: str,
    fix: str,
    warnings: Sequence[str] = (),
) -> Split:
    """A split with these ``documents`` in its three parts; raises `DataError` where a part lacks a label."""
    indices: dict[str, IntArray] = dict(zip(PARTS, documents, strict=True))
    _check_labels(indices, labels, ids, where, fix)
    return _split(indices, ids, seed, [*warnings, *_inexact(ids)])


def write_split(
    path: str | Path, split: Split, ids: Sequence[str], corpus_digest: str, how: Mapping[str, object] | None = None
) -> None:
    """Save a split as the ids of its documents, with its digest, its seed and the digest of the corpus.

    ``how`` says how it was made, for whoever reads the file.
    """
    names = {part: [ids[index] for index in getattr(split, part)] for part in PARTS}
    head = {"seed": split.seed, "digest": split.digest, "corpus": corpus_digest, **(how or {})}
    write_json(Path(path), {**head, **names})


def read_split(
    path: str | Path,
    ids: Sequence[str],
    labels: IntArray,
    groups: IntArray,
    seed: int = 0,
    corpus_digest: str | None = None,
) -> Split:
    """A saved split, or any JSON object with lists ``train`` and ``test`` of ids or of file names that are unique.

    Without ``validation`` a fifth of the training side becomes it, drawn with ``seed``. Raises `DataError` for ids
    that are unknown, ambiguous or in two places, and for a part that is empty or lacks a label. A split that was saved
    for a corpus other than ``corpus_digest`` has a warning.
    """
    where = str(path)
    content = read_json(Path(path), error=DataError)
    places = _places(ids)
    parts = [part for part in PARTS if part != "validation" or content.get(part) is not None]
    indices = {part: np.sort(_find(_names(content, part, where), places, where)) for part in parts}
    _check_disjoint(indices, ids, where)
    if "validation" not in indices:
        side = indices["train"]
        indices["train"], indices["validation"] = carve(side, labels, groups, seed)
    elif type(content.get("seed")) is int:
        seed = cast(int, content["seed"])
    _check_labels(indices, labels, ids, where, "move some of its documents there, or let duygu make the split")
    doubts = [*_doubts(indices, groups), *_inexact(ids)]
    if corpus_digest is not None and content.get("corpus", corpus_digest) not in ("", corpus_digest):
        doubts.append(f"{where} was made for a corpus with other {_moved(ids)}")
    split = _split(indices, ids, seed, doubts)
    if content.get("digest", split.digest) != split.digest:
        changed = f"{where} was changed after it was written: its digest does not fit its ids"
        return replace(split, warnings=(*split.warnings, changed))
    return split


def _split(indices: Mapping[str, IntArray], ids: Sequence[str], seed: int, warnings: Sequence[str]) -> Split:
    names = {part: sorted([str(ids[index]) for index in indices[part].tolist()]) for part in PARTS}
    digest = hashlib.sha256(json.dumps(names, sort_keys=True, allow_nan=False).encode()).hexdigest()
    return Split(indices["train"], indices["validation"], indices["test"], seed, digest, tuple(warnings))


def carve(side: IntArray, labels: IntArray, groups: IntArray, seed: int) -> tuple[IntArray, IntArray]:
    """The documents of a training side that train, and the fifth of them that validates."""
    parts = allocate(labels[side], groups[side], CARVED, seed)
    return side[parts == 0], side[parts == 1]


def allocate(labels: IntArray, groups: IntArray, shares: Sequence[float], seed: int) -> IntArray:
    """(N,) number of each document's part, a group's documents together.

    Groups go, the largest first and else in seeded order, to the part that still wants most documents of their labels.
    Every part wants at least one of each label.
    """
    numbers = np.unique(groups, return_inverse=True)[1]
    counts = np.zeros((numbers.max(initial=-1) + 1, labels.max(initial=-1) + 1), np.int64)
    np.add.at(counts, (numbers, labels), 1)
    totals = counts.sum(axis=0)
    wanted = np.outer(shares, totals)
    wanted[1:] = np.maximum(wanted[1:], np.minimum(totals, 1))
    wanted[0] = totals - wanted[1:].sum(axis=0)
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    parts = np.zeros(len(counts), np.int32)
    for group in order:
        parts[group] = np.argmax(wanted @ counts[group])
        wanted[parts[group]] -= counts[group]
    return parts[numbers]


def _names(content: Mapping[str, object], part: str, where: str) -> list[str]:
    names = content.get(part)
    fix = 'write {"train": [ids], "validation": [ids], "test": [ids]}; validation may be left out'
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast(list[object], names)):
        raise DataError(f"the split has no list of ids named {part!r}", where, fix)
    if not names:
        raise DataError(f"the {part} part of the split is empty", where, fix)
    return [unicodedata.normalize("NFC", name) for name in cast(list[str], names)]


def _places(ids: Sequence[str]) -> dict[str, list[int]]:
    """Documents by id, and by file name."""
    places: dict[str, list[int]] = {}
    for index, id in enumerate(ids):
        places.setdefault(id.rpartition("/")[2], []).append(index)
    return places | {id: [index] for index, id in enumerate(ids)}


def _find(names: Sequence[str], places: Mapping[str, list[int]], where: str) -> IntArray:
    unknown = [name for name in names if name not in places]
    if unknown:
        problem = f"{len(unknown)} document(s) of the split are not in the corpus, such as {unknown[0]}"
        raise DataError(problem, where, "use a split of this corpus, or let duygu make one")
    unclear = [name for name in names if len(places[name]) > 1]
    if unclear:
        problem = f"{len(unclear)} name(s) of the split fit several documents, such as {unclear[0]}"
        raise DataError(problem, where, "write them with their folder, such as label/name.txt")
    return np.array([places[name][0] for name in names], np.int32)


def _check_disjoint(indices: Mapping[str, IntArray], ids: Sequence[str], where: str) -> None:
    """No document may be named twice, in one part or in two."""
    named = np.concatenate(list(indices.values()))
    repeated = np.flatnonzero(np.bincount(named, minlength=len(ids)) > 1)
    if len(repeated):
        problem = f"{len(repeated)} document(s) stand twice in the split, such as {ids[repeated[0]]}"
        raise DataError(problem, where, "name every document once")


def _check_labels(indices: Mapping[str, IntArray], labels: IntArray, ids: Sequence[str], where: str, fix: str) -> None:
    """Every label of the corpus must be in every part."""
    for label in np.unique(labels):
        lacking = [part for part in PARTS if label not in labels[indices[part]]]
        if lacking:
            holders = np.flatnonzero(labels == label)
            problem = (
                f"the {lacking[0]} part has no document with the label of {ids[holders[0]]}, which has {len(holders)}"
            )
            raise DataError(problem, where, fix)


def _doubts(indices: Mapping[str, IntArray], groups: IntArray) -> list[str]:
    """Copies that a given split has on both sides, and documents that it does not name."""
    seen = np.concatenate([groups[indices["train"]], groups[indices["validation"]]])
    leaks = {
        "test": int(np.isin(groups[indices["test"]], seen).sum()),
        "validation": int(np.isin(groups[indices["validation"]], groups[indices["train"]]).sum()),
    }
    doubts = [
        f"{count} of {len(indices[part])} {part} documents have a copy or near copy among those trained on: "
        f"scores on them flatter the model"
        for part, count in leaks.items()
        if count
    ]
    left = len(groups) - sum(len(part) for part in indices.values())
    return [*doubts, f"{left} documents of the corpus are in no part of the split and are not used"] if left else doubts


def _moved(ids: Sequence[str]) -> str:
    if not ids[0].startswith(NUMBERED):
        return "texts, labels or documents: those of the same ids are used"
    return "rows, and rows are known by their numbers alone: give ids with --id-column and split again"


def _inexact(ids: Sequence[str]) -> list[str]:
    if len(ids) <= EXACT_LIMIT:
        return []
    return [f"near copies among more than {EXACT_LIMIT:,} documents are found by MinHash, which may miss some"]
