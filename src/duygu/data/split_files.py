"""Makes the splits of a corpus that `duygu split` is asked for, and writes them where nothing else stood."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from duygu.data.corpus import Corpus, read_corpus
from duygu.data.duplicates import duplicate_groups
from duygu.data.sources import BY_DEFAULT, DataFormat
from duygu.data.split import PARTS, SHARES, Split, make_split, write_split
from duygu.data.split_kinds import make_folds, sources_to_leave_out, split_by_source, split_by_time
from duygu.errors import FolderError, UserError

Kind = Literal["stratified", "kfold", "time", "source"]

_unsafe = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """Splits as they were asked for. Raises `UserError` for options that do not go together."""

    data: str
    out: Path
    kind: Kind = "stratified"
    folds: int = 5
    shares: tuple[float, ...] = ()  # train, validation, test; () for those of `make_split`
    left_out: str | None = None  # a source; None for each in turn
    seed: int = 0
    overwrite: bool = False
    format: DataFormat = BY_DEFAULT

    def __post_init__(self) -> None:
        if self.shares and self.kind in ("kfold", "source"):
            raise UserError(f"--kind {self.kind} has no shares to choose", "--shares", "leave --shares out")
        if self.shares and (len(self.shares) != len(PARTS) or not all(0 < share < 1e9 for share in self.shares)):
            raise UserError("three numbers above zero are needed", "--shares", "as in --shares 70,10,20")
        if self.left_out is not None and self.kind != "source":
            raise UserError(f"--kind {self.kind} leaves no source out", "--left-out", "add --kind source")


@dataclass(frozen=True, slots=True)
class SplitFile:
    """A split that was written."""

    path: Path
    split: Split
    what: str  # which one of several, such as "fold 1 of 5"; "" for an only one

    def as_json(self) -> dict[str, object]:
        """Path, digest, size of each part, warnings."""
        sizes = {part: len(getattr(self.split, part)) for part in PARTS}
        return {
            "file": str(self.path), "what": self.what, "digest": self.split.digest, **sizes,
            "warnings": list(self.split.warnings),
        }  # fmt: skip


def write_splits(request: SplitRequest, say: Callable[[str], None] = lambda _: None) -> list[SplitFile]:
    """Read the corpus, make its splits, write them. Raises `UserError`; then nothing was written.

    One split stands in ``out`` itself; of several, each stands beside it, as in ``split-fold1.json``.
    """
    corpus = read_corpus(request.data, **request.format.as_dict())
    for warning in corpus.warnings:
        say(warning)
    made = [SplitFile(path, split, what) for path, split, what in _named(request, _make(request, corpus))]
    _require_free([file.path for file in made], request.overwrite)
    for file in made:
        how: dict[str, object] = {"kind": request.kind, "what": file.what}
        write_split(file.path, file.split, corpus.ids, corpus.digest, how)
    return made


def _make(request: SplitRequest, corpus: Corpus) -> list[tuple[str, str, Split]]:
    """(end of the file's name, what it is, split) of each."""
    labels, ids, seed, where = corpus.labels, corpus.ids, request.seed, corpus.root
    groups = duplicate_groups(corpus.texts)
    total = sum(request.shares)
    shares = tuple(share / total for share in request.shares) or SHARES
    if request.kind == "stratified":
        return [("", "", make_split(labels, groups, ids, seed, shares, where))]
    if request.kind == "time":
        dates = corpus.dates or (None,) * len(ids)
        return [("", "", split_by_time(labels, groups, ids, dates, shares, where))]
    if request.kind == "kfold":
        folds = make_folds(labels, groups, ids, request.folds, seed, where)
        return [(f"fold{n}", f"fold {n} of {len(folds)}", split) for n, split in enumerate(folds, start=1)]
    sources = corpus.sources or (None,) * len(ids)
    chosen = [request.left_out] if request.left_out else sources_to_leave_out(labels, sources, where)
    return [
        (
            "" if request.left_out else source,
            f"{source} left out",
            split_by_source(labels, groups, ids, sources, source, seed, where),
        )
        for source in chosen
    ]


def _named(request: SplitRequest, made: Sequence[tuple[str, str, Split]]) -> list[tuple[Path, Split, str]]:
    """Each with a path of its own, whatever a source is called."""
    out, taken = request.out, set[str]()
    named: list[tuple[Path, Split, str]] = []
    for end, what, split in made:
        end = _unsafe.sub("_", end)[:80]
        while end.casefold() in taken:
            end += "_"
        taken.add(end.casefold())
        named.append((out.with_name(f"{out.stem}-{end}{out.suffix}") if end else out, split, what))
    return named


def _require_free(paths: Sequence[Path], overwrite: bool) -> None:
    for path in paths:
        if path.is_dir():
            raise FolderError("there is a folder of this name", str(path), "choose another --out")
        if path.exists() and not overwrite:
            raise FolderError("the file exists already", str(path), "add --overwrite, or choose another --out")
