"""A few SIGKILLs per engine; ``python benchmarks/kills.py`` is the long campaign."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("engine", "kills"), [("torch", 2), ("jax", 1)])
def test_killed_runs_end_as_an_undisturbed_one(engine: str, kills: int) -> None:
    pytest.importorskip(engine)
    command = [sys.executable, ROOT / "benchmarks" / "kills.py", "--kills", str(kills), "--engines", engine]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    row = re.search(rf"^\| {engine} \| (\d+) \| (\d+) \| \d+ \| 0 \| 0 \|", done.stdout, re.MULTILINE)
    assert row, done.stdout
    assert int(row[1]) >= kills
    assert int(row[2]) >= 1


def test_ctrl_c_saves_and_exits_with_130(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "duygu", "train", str(texts), "--engine", "torch", "--model", "tiny"]
    command += ["--out", str(out), "--threads", "1", "--set", "epochs=2000", "--set", "length=24"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lines = 0
    while lines < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
        lines = len((out / "history.jsonl").read_bytes().splitlines()) if (out / "history.jsonl").exists() else 0
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=20)
    assert process.returncode == 130
    step = re.search(r"after step (\d+)", talk)
    assert step, talk
    assert (out / "checkpoints" / f"step-{int(step[1]):06}" / "manifest.json").exists()


def test_a_second_signal_ends_at_once() -> None:
    code = """
        import time
        from duygu.training.signals import caught_signals
        with caught_signals() as signals, signals.deferred():
            print("ready", flush=True)
            while True:
                time.sleep(0.01)
                if signals._received:
                    print("seen", flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGTERM)
        assert process.stdout.readline() == "seen\n"
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(5) == 143
