"""Runs as processes of their own, some at a time, that are stopped together.

What asks us to stop is handed to every child once, so that all can save; no child is left behind, whatever happens.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from duygu.errors import Interrupted, printable

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = "interrupted; --resume goes on from here"
LOOK = 0.05  # seconds between looks at which of several children has ended


@dataclass(frozen=True, slots=True)
class Task:
    """A command under a name, which begins every line it says where several run at a time."""

    name: str
    command: Sequence[str]


@dataclass(slots=True)
class _Children:
    """Those that run now; ``received`` is what asked us to stop."""

    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict[int, "subprocess.Popen[bytes]"])
    echoes: dict[int, threading.Thread] = field(default_factory=dict[int, threading.Thread])
    received: list[int] = field(default_factory=list[int])

    def forward(self, signum: int, frame: FrameType | None) -> None:
        """The handler."""
        self.received.append(signum)
        for child in list(self.running.values()):
            child.send_signal(signum)

    def start(self, number: int, task: Task, echoed: bool) -> None:
        """Begin a child in a process group of its own: a terminal's Ctrl-C would reach it twice, and a second kills."""
        child = subprocess.Popen(
            task.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0,
            stderr=subprocess.PIPE if echoed else None,
        )  # fmt: skip
        self.running[number] = child
        if echoed:
            self.echoes[number] = threading.Thread(target=_echo, args=(task.name, child), daemon=True)
            self.echoes[number].start()
        if self.received:  # it came before the child could be told
            child.send_signal(self.received[0])

    def wait(self) -> Iterator[tuple[int, int]]:
        """(number, exit code) of every child that has ended, once one has."""
        if len(self.running) == 1:
            next(iter(self.running.values())).wait()
        while not (ended := [number for number, child in self.running.items() if child.poll() is not None]):
            time.sleep(LOOK)
        for number in ended:
            code = self.running.pop(number).returncode
            if number in self.echoes:
                self.echoes.pop(number).join()
            yield number, code


def run_all(
    tasks: Sequence[Task], at_once: int, began: Callable[[int], None], ended: Callable[[int, int], None]
) -> None:
    """Run every task, ``at_once`` at a time; ``began`` hears its number, ``ended`` its number and exit code.

    What ``ended`` raises stops the others, which save. Raises `Interrupted` after a signal, when all have ended.
    """
    children = _Children()
    with _handling(children.forward):
        try:
            for number, task in enumerate(tasks):
                if children.received:
                    break
                began(number)
                children.start(number, task, echoed=at_once > 1)
                while len(children.running) >= at_once:
                    _tell(children, ended)
            while children.running:
                _tell(children, ended)
        finally:
            _stop(children)
    if children.received:
        raise Interrupted(children.received[0], STOPPED)


def _tell(children: _Children, ended: Callable[[int, int], None]) -> None:
    for number, code in children.wait():
        if not children.received:
            ended(number, code)


def _stop(children: _Children) -> None:
    """Ask what still runs to save and end, unless it was asked."""
    if not children.received:
        for child in children.running.values():
            child.send_signal(signal.SIGTERM)
    while children.running:
        for _ in children.wait():
            pass


def _echo(name: str, child: subprocess.Popen[bytes]) -> None:
    """Pass on what a child says, line by line under its name."""
    assert child.stderr is not None
    with child.stderr:
        for line in child.stderr:
            print(f"{name}: {printable(line.decode(errors='replace').rstrip())}", file=sys.stderr, flush=True)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Answer `FORWARDED` signals with ``handler``, except ignored ones; outside the main thread change nothing."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in FORWARDED} if main else {}
    mine = {number: previous for number, previous in before.items() if previous != signal.SIG_IGN}
    for number in mine:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in mine.items():
            signal.signal(number, previous)
