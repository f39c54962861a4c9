"""SIGTERM and Ctrl-C: while training they wait for the step to end, before it they stop at once.

A second signal ends the process where it stands; what is on disk is valid at every moment.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from duygu.errors import Interrupted

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """What has arrived, and whether it may interrupt."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._deferred = False

    def check(self) -> None:
        """Raise `Interrupted` if a signal has arrived."""
        if self._received is not None:
            raise Interrupted(self._received)

    @contextmanager
    def deferred(self) -> Generator[None]:
        """Within, a signal only waits to be seen by `check`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def arrived(self, signum: int, frame: FrameType | None) -> None:
        """The handler."""
        if self._received is not None:
            os._exit(128 + signum)
        self._received = signum
        if not self._deferred:
            raise Interrupted(signum)


@contextmanager
def caught_signals() -> Generator[Signals]:
    """Handle `CAUGHT` within. Signals that the process ignores stay ignored, and so do all in other threads."""
    signals = Signals()
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in CAUGHT} if main else {}
    mine = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in mine:
        signal.signal(number, signals.arrived)
    try:
        yield signals
    finally:
        for number in mine:
            signal.signal(number, before[number])
