"""Several processes at a time: order, signals, failures, and that none is left behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from duygu.errors import DuyguError, Interrupted
from duygu.verdict.processes import Task, run_all

CHILD = """
import os, pathlib, signal, sys, time
log, parent, signum, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
def note(number, frame):
    log.write_text(log.read_text() + "x")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, note)
log.write_text("")
print("hello", file=sys.stderr)
if parent:
    while len(list(log.parent.iterdir())) < 2:
        time.sleep(0.01)
    os.kill(parent, signum)
end = time.monotonic() + seconds
while time.monotonic() < end and not log.read_text():
    time.sleep(0.01)
time.sleep(0.2)
"""


def child(log: Path, seconds: float = 0.0, parent: int = 0, signum: int = 0) -> Task:
    words = [sys.executable, "-c", CHILD, str(log), str(parent), str(signum), str(seconds)]
    return Task(log.name, words)


def ends(code: int, seconds: float = 0.0) -> Task:
    return Task("child", [sys.executable, "-c", f"import sys, time; time.sleep({seconds}); sys.exit({code})"])


@pytest.mark.parametrize("at_once", [1, 3])
def test_every_task_runs_once_and_no_more_than_allowed_at_a_time(at_once: int) -> None:
    running: set[int] = set()
    most: list[int] = []
    codes: dict[int, int] = {}

    def began(number: int) -> None:
        running.add(number)
        most.append(len(running))

    def ended(number: int, code: int) -> None:
        running.remove(number)
        codes[number] = code

    run_all([ends(code, 0.1) for code in (0, 3, 0, 1, 0)], at_once, began, ended)
    assert codes == {0: 0, 1: 3, 2: 0, 3: 1, 4: 0}
    assert max(most) == at_once


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_every_child_exactly_once_and_starts_no_other(tmp_path: Path, signum: int) -> None:
    """The first child tells us to stop; each counts what it is handed in return and ends by itself."""
    logs = [tmp_path / name for name in ("first", "second", "third")]
    tasks = [child(logs[0], 20, os.getpid(), signum), child(logs[1], 20), child(logs[2], 20)]
    before = signal.getsignal(signum)
    told: list[int] = []
    with pytest.raises(Interrupted) as error:
        run_all(tasks, 2, lambda number: None, lambda number, code: told.append(number))
    assert [log.read_text() for log in logs[:2]] == ["x", "x"]
    assert not logs[2].exists()
    assert told == []
    assert error.value.exit_code == 128 + signum
    assert signal.getsignal(signum) is before


def test_a_failure_lets_the_others_save_and_starts_no_other(tmp_path: Path) -> None:
    def ended(number: int, code: int) -> None:
        if code:
            raise DuyguError("failed")

    log = tmp_path / "second"
    waits = Task("waits", ["sh", "-c", f"while [ ! -e {log} ]; do sleep 0.02; done; exit 1"])
    with pytest.raises(DuyguError, match="failed"):
        run_all([waits, child(log, 20), child(tmp_path / "third")], 2, lambda number: None, ended)
    assert log.read_text() == "x"
    assert not (tmp_path / "third").exists()


def test_lines_of_several_children_carry_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_all([child(tmp_path / "one"), child(tmp_path / "two")], 2, lambda number: None, lambda number, code: None)
    assert sorted(capsys.readouterr().err.splitlines()) == ["one: hello", "two: hello"]
