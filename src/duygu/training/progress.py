"""What a run says while it works, on standard error only: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from duygu.errors import printable
from duygu.verdict.metrics import Scores

if TYPE_CHECKING:
    from rich.progress import Progress as RichBars


class Progress(Protocol):
    """What the loop tells. A phase ends when the next one starts."""

    def phase(self, name: str, total: int | None = None) -> None:
        """A stretch of work starts, of ``total`` units if that is known."""
        ...

    def advance(self, amount: int = 1, note: str = "") -> None:
        """``amount`` units of the phase are done; ``note`` is the newest number worth seeing."""
        ...

    def message(self, text: str) -> None:
        """A line to keep: a warning, what was found."""
        ...

    def epoch(self, number: int, epochs: int, train_loss: float | None, validation: Scores) -> None:
        """An epoch was evaluated; number 0 is before training, without a training loss."""
        ...


class Silent:
    """Says nothing."""

    def phase(self, name: str, total: int | None = None) -> None:
        """Nothing."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def epoch(self, number: int, epochs: int, train_loss: float | None, validation: Scores) -> None:
        """Nothing."""


SILENT = Silent()


class Lines(Silent):
    """Messages and epochs as plain lines; no phases, no bars."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    def message(self, text: str) -> None:
        """One line, control characters shown as such."""
        print(printable(text, keep="\n"), file=self._stream, flush=True)

    def epoch(self, number: int, epochs: int, train_loss: float | None, validation: Scores) -> None:
        """One line."""
        self.message(epoch_line(number, epochs, train_loss, validation))


class Bars:
    """A live bar per phase over the kept lines."""

    def __init__(self, bars: RichBars) -> None:
        self._bars = bars
        self._task = bars.add_task("starting", total=None, note="")

    def phase(self, name: str, total: int | None = None) -> None:
        """Replace the bar."""
        self._bars.remove_task(self._task)
        self._task = self._bars.add_task(name, total=total, note="")

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Move the bar; an empty note leaves the last one."""
        if note:
            self._bars.update(self._task, note=note)
        self._bars.advance(self._task, amount)

    def message(self, text: str) -> None:
        """A line above the bar."""
        self._bars.console.print(printable(text, keep="\n"), markup=False, highlight=False)

    def epoch(self, number: int, epochs: int, train_loss: float | None, validation: Scores) -> None:
        """A line above the bar."""
        self.message(epoch_line(number, epochs, train_loss, validation))


@contextmanager
def shown_progress() -> Generator[Progress]:
    """Bars where standard error is a terminal, else lines."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichBars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichBars(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True) as bars:
        yield Bars(bars)


def epoch_line(number: int, epochs: int, train_loss: float | None, validation: Scores) -> str:
    """One epoch in one line."""
    name = "before training" if number == 0 else f"epoch {number}/{epochs}"
    loss = "" if train_loss is None else f"train loss {train_loss:.4f}, "
    scores = f"loss {validation.loss:.4f}, accuracy {validation.accuracy:.4f}, macro-F1 {validation.macro_f1:.4f}"
    return f"{name}: {loss}validation {scores}"
