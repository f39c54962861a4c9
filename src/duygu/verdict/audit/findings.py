"""What an audit says: findings, each with a level, a sentence for people and numbers for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from duygu.data.corpus import Corpus
from duygu.data.split import IntArray

Level = Literal["fine", "look", "stop"]
LEVELS: tuple[Level, ...] = ("stop", "look", "fine")
LISTED = 1000  # documents or groups of them that one finding names
SHOWN = 160  # characters of a text that stand beside its id


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked into: all is ``fine``, somebody should ``look``, or ``stop`` before training."""

    name: str
    level: Level
    sentence: str
    numbers: Mapping[str, object]  # plain JSON values


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything that was found in a corpus, in the order of looking."""

    data: str  # as the user named it
    documents: int
    labels: Mapping[str, int]  # documents of each; none where the texts are unlabelled
    digest: str  # of the corpus
    split: str | None  # digest of the split that was given
    model: str | None  # whose tokenizer counted
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]  # of reading

    @property
    def stops(self) -> tuple[str, ...]:
        """Names of the findings that say stop."""
        return tuple(finding.name for finding in self.findings if finding.level == "stop")

    @property
    def verdict(self) -> str:
        """How many findings there are of each level, in words."""
        counts = {level: sum(finding.level == level for finding in self.findings) for level in LEVELS}
        return ", ".join(f"{count} {level}" for level, count in counts.items())

    def __getitem__(self, name: str) -> Finding:
        """The finding of this name; KeyError where it was not looked into."""
        return {finding.name: finding for finding in self.findings}[name]

    def as_json(self) -> dict[str, object]:
        """Plain JSON values, as ``audit.json`` holds them."""
        findings = [
            {"name": one.name, "level": one.level, "sentence": one.sentence, "numbers": dict(one.numbers)}
            for one in self.findings
        ]
        return {
            "schema": 1, "data": self.data, "verdict": self.verdict, "documents": self.documents,
            "labels": dict(self.labels), "digest": self.digest, "split": self.split, "model": self.model,
            "findings": findings, "warnings": list(self.warnings),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Subject:
    """What is audited: N documents and which of them are copies."""

    corpus: Corpus
    exact: IntArray  # (N,) groups of texts that are equal but for case, punctuation and spacing
    near: IntArray  # (N,) groups of near copies, exact ones included

    def ids(self, documents: IntArray) -> list[str]:
        """Names of documents, at most `LISTED`."""
        return [self.corpus.ids[number] for number in documents[:LISTED].tolist()]

    def share(self, documents: int) -> str:
        """A number of documents as a share of all."""
        return percent(documents / len(self.corpus.texts))


def level(look: bool, stop: bool = False) -> Level:
    """The level of a finding from what it takes for each."""
    return "stop" if stop else "look" if look else "fine"


def percent(share: float) -> str:
    """A share with one decimal, or two where it would look like nothing or all."""
    if 0 < share < 0.00005:
        return "under 0.01 %"
    decimals = 1 if 0.001 <= share <= 0.999 or share in (0, 1) else 2
    return f"{share * 100:.{decimals}f} %"


def several(groups: IntArray) -> list[IntArray]:
    """Documents of each group that has more than one, the largest group first."""
    order = np.argsort(groups, kind="stable").astype(np.int32)
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    found = [part for part in np.split(order, starts) if len(part) > 1]
    return sorted(found, key=lambda part: (-len(part), int(part[0])))
