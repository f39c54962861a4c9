"""Kill runs at random moments, resume until done, and compare the end with an undisturbed run's, to the bit.

    python benchmarks/kills.py --kills 50 --engines torch,jax

A small corpus is made up, a tiny run on it checkpoints after every step. Of every three kills (SIGKILL) one comes at a
moment drawn uniformly from the whole process, one from its training, one while a commit is under way. A kill counts as
"inside a commit" only if the unfinished commit is found on disk afterwards; the campaign goes on until a third are.
After every few kills the run is left to end: model, predictions and history (seconds aside) must equal the undisturbed
run's. Exit code 1 tells that one did not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from duygu.files import DELETED, PARTIAL

DONE = (0, 3)  # finished; finished and collapsed
KILLS_PER_RUN = 5
WORDS = {
    "calm": ["steady", "quiet", "even", "level", "plain", "usual", "settled"],
    "storm": ["sudden", "wild", "sharp", "violent", "broken", "steep", "torn"],
}
KNOBS = {"epochs": 3, "batch": 8, "length": 24, "precision": "fp32", "checkpoint_steps": 1}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a campaign on one engine found."""

    engine: str
    kills: int
    in_commit: int  # kills that left an unfinished commit on disk
    runs: int
    different: int  # runs that did not end as the undisturbed one
    failures: int  # processes that ended by themselves with an error
    seconds: float


def make_corpus(folder: Path) -> Path:
    """50 short made-up texts of two labels."""
    for label, words in WORDS.items():
        (folder / label).mkdir(parents=True)
        for number in range(25):
            chosen = " ".join(words[(number * step + step) % len(words)] for step in (1, 2, 3, 5))
            text = f"Station {number * 7919 % 997} saw {chosen} weather over field {number * 31 % 89}."
            (folder / label / f"{number:02}.txt").write_text(text, encoding="utf-8")
    return folder


def start(engine: str, corpus: Path, out: Path) -> subprocess.Popen[bytes]:
    """A process that trains, or goes on training, in ``out``."""
    settings = [part for name, value in KNOBS.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "duygu", "train", str(corpus), "--engine", engine, "--model", "tiny"]
    command += ["--out", str(out), "--threads", "1", "--resume", *settings]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def unfinished(out: Path) -> bool:
    """Whether a commit or a deletion is under way in ``out``, or was when its process died."""
    for folder in (out, out / "checkpoints"):
        try:
            if any(path.name.startswith((PARTIAL, DELETED)) for path in folder.iterdir()):
                return True
        except FileNotFoundError:
            continue
    return False


def kill(
    process: subprocess.Popen[bytes], out: Path, kind: int, span: tuple[float, float], dice: random.Random
) -> None:
    """Kill ``process``, which has just been started, at a random moment of this kind, unless it ends before."""
    whole, training = span
    began = time.time()
    if kind == 0:
        wait(process, dice.uniform(0, whole))
    else:
        while process.poll() is None and not trains(out, began):
            time.sleep(0.002)
        wait(process, dice.uniform(0, training))
    while kind == 2 and process.poll() is None and not unfinished(out):
        pass
    if kind == 2:
        time.sleep(dice.uniform(0, 0.003))
    process.kill()


def trains(out: Path, since: float) -> bool:
    """Whether the history was touched after ``since`` (seconds of the system's clock)."""
    history = out / "history.jsonl"
    return history.exists() and history.stat().st_mtime >= since


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Until the process ends or the time is over."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def result(out: Path) -> str:
    """One digest of everything that must repeat: weights, predictions, history without its seconds."""
    digest = hashlib.sha256()
    for name in ("model/model.safetensors", "model/tokenizer.json", "predictions.csv"):
        digest.update((out / name).read_bytes())
    for line in (out / "history.jsonl").read_text(encoding="utf-8").splitlines():
        digest.update(json.dumps(json.loads(line) | {"seconds": None}).encode())
    return digest.hexdigest()


def undisturbed(engine: str, corpus: Path, out: Path) -> tuple[str, tuple[float, float]]:
    """The digest of a run that nobody kills; seconds of its process, and of its training."""
    began = time.monotonic()
    process = start(engine, corpus, out)
    _, errors = process.communicate()
    assert process.returncode in DONE, errors.decode()
    whole = time.monotonic() - began
    trained = (out / "metrics.json").stat().st_mtime - (out / "environment.json").stat().st_mtime
    return result(out), (whole, trained)


def campaign(engine: str, kills: int, seed: int, corpus: Path, folder: Path) -> Outcome:
    """Kill runs of one engine ``kills`` times and more, until a third was inside a commit."""
    began = time.monotonic()
    wanted, span = undisturbed(engine, corpus, folder / "undisturbed")
    dice = random.Random(f"{engine}{seed}")
    done = in_commit = different = failures = 0
    for run in count(1):
        out = folder / f"run-{run}"
        for number in range(min(KILLS_PER_RUN, max(1, kills - done))):
            process = start(engine, corpus, out)
            kill(process, out, 2 - number % 3 if done < kills else 2, span, dice)
            failures += process.wait() not in (-9, *DONE)
            done += process.returncode == -9
            in_commit += process.returncode == -9 and unfinished(out)
        last = start(engine, corpus, out)
        _, errors = last.communicate()
        if last.returncode not in DONE:
            failures += 1
            print(errors.decode(), file=sys.stderr)
        different += last.returncode not in DONE or unfinished(out) or result(out) != wanted
        if done >= kills and 3 * in_commit >= kills:
            return Outcome(engine, done, in_commit, run, different, failures, time.monotonic() - began)
    raise AssertionError("count ends never")


def main() -> int:
    """Run the campaigns, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills per engine")
    parser.add_argument("--engines", default="torch,jax")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    print("| engine | kills | inside a commit | runs | not equal | errors | seconds |\n|---|---|---|---|---|---|---|")
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        corpus = make_corpus(Path(folder) / "corpus")
        for engine in options.engines.split(","):
            found = campaign(engine, options.kills, options.seed, corpus, Path(folder) / engine)
            cells = (found.kills, found.in_commit, found.runs, found.different, found.failures, round(found.seconds))
            print(f"| {engine} | {' | '.join(map(str, cells))} |", flush=True)
            bad += found.different + found.failures
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
