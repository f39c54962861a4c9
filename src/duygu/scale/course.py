"""A bench on its way: who takes part in what, what has been answered, what cannot be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duygu.scale.bars import Answer
from duygu.scale.measuring import Bench
from duygu.scale.roster import Contender
from duygu.scale.workloads import Part

Key = tuple[str, str, int]  # part, contender, round


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender in a workload, and the interpreter that it runs in."""

    part: Part
    contender: Contender
    python: Path

    @property
    def key(self) -> tuple[str, str]:
        """Part and contender, by name."""
        return self.part.name, self.contender.name


@dataclass(frozen=True, slots=True)
class Missing:
    """A contender that could not be measured in a workload."""

    part: str
    contender: Contender
    why: str


@dataclass(slots=True)
class Course:
    """All of one bench; it only grows."""

    bench: Bench
    rounds: int
    parts: Sequence[Part]
    entries: list[Entry] = field(default_factory=list[Entry])
    answers: dict[Key, Mapping[str, Any]] = field(default_factory=dict[Key, Mapping[str, Any]])
    missing: list[Missing] = field(default_factory=list[Missing])

    def is_missing(self, entry: Entry) -> bool:
        """Whether the entry has failed before."""
        return entry.key in {(one.part, one.contender.name) for one in self.missing}

    def turns(self) -> list[tuple[int, Entry]]:
        """Round and entry of every process, in order: workload by workload, the order rotated from round to round."""
        found: list[tuple[int, Entry]] = []
        for part in self.parts:
            entries = [entry for entry in self.entries if entry.part.name == part.name]
            for number in range(self.rounds):
                shift = number % max(1, len(entries))
                found += [(number, entry) for entry in (*entries[shift:], *entries[:shift])]
        return found

    def rounds_of(self, part: str) -> dict[str, dict[int, Answer]]:
        """The answers of a part by contender and round."""
        found: dict[str, dict[int, Answer]] = {}
        for (name, contender, number), answer in self.answers.items():
            if name == part:
                found.setdefault(contender, {})[number] = answer
        return found
