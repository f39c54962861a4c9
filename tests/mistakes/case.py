"""One mistake that a user can make: what it is, how to make it, and what duygu must say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mistake:
    """A case of the table that `tests.mistakes.test_mistakes` runs and ``docs/mistakes.md`` shows."""

    area: str  # what it is about, in a word or two; groups the table
    what: str  # in a user's words
    make: Callable[[Path], list[str]]  # builds the inputs in a folder; the words after "duygu", which runs in it
    says: str  # a fragment that the message must hold
    where: str  # a fragment that names the place
