"""What fetching and converting a model tells its caller; `duygu.training.progress` shows it as bars."""

from __future__ import annotations

import sys
from typing import Protocol

from duygu.errors import printable


class Progress(Protocol):
    """A phase ends when the next one starts."""

    def phase(self, name: str, total: int | None = None) -> None:
        """A stretch of work starts, of ``total`` units if that is known."""
        ...

    def advance(self, amount: int = 1, note: str = "") -> None:
        """``amount`` units of the phase are done."""
        ...

    def message(self, text: str) -> None:
        """A line to keep."""
        ...


class Talk:
    """Messages as plain lines on standard error, nothing else."""

    def phase(self, name: str, total: int | None = None) -> None:
        """Nothing."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """One line, control characters shown as such."""
        print(printable(text, keep="\n"), file=sys.stderr, flush=True)
