"""What a tool that follows runs has to do, and what it knows of the run. One file per tool does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from duygu.training.track.content import Cell, Confusion, Table

Outcome = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Tracked:
    """A run as a tool is told of it."""

    name: str
    folder: Path  # within the run folder, the tool's own
    facts: Mapping[str, Cell | None]  # recipe, engine, model, digests of the data


class Tracker(Protocol):
    """Made from a `Tracked`. A run that goes on is told from its first step again; what the tool has, it skips.

    May raise whatever its tool raises: who calls it goes on without it.
    """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers at a step, which never falls."""
        ...

    def confusion(self, step: int, matrix: Confusion) -> None:
        """A confusion matrix at a step."""
        ...

    def table(self, step: int, table: Table) -> None:
        """A table at a step."""
        ...

    def end(self, outcome: Outcome) -> str:
        """Make everything durable and close; the command that shows the run."""
        ...
