"""What every contender shares, whatever tool it measures: the job, the clock, the memory and the answer.

A contender is a script, run as ``python SCRIPT job.json`` in a process of its own. It prepares its tool in the way the
tool's documentation advises; what is timed, and how, is decided here alone. Only the standard library is used, so that
this runs in any tool's environment; it is imported from the folder of the script.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "NPROC")

Predictor = Callable[[list[str]], Sequence[Sequence[float]]]  # texts to probabilities, a row per text
Counter = Callable[[list[str]], int]  # texts to the number of their tokens, all of them encoded


@dataclass(frozen=True)
class Job:
    """What a contender is asked to do; ``input`` is the content of the workload's file."""

    model: str  # folder that duygu and transformers open
    plain: str  # folder of the same tokenizer without duygu's cleaning, as a tool's user would have it
    input: dict[str, Any]
    threads: int
    options: dict[str, Any]
    answer: Path
    began: float  # on the clock, before any framework was imported


@dataclass
class Training:
    """A tool that is ready for its first step: steps are lists of document numbers."""

    take: Callable[[Sequence[int]], float]  # one optimiser step; returns its loss, so the device has finished
    warm: Sequence[Sequence[int]]  # taken first; the very first one compiles
    timed: Sequence[Sequence[int]]
    computed: Callable[[Sequence[int]], int]  # tokens that the linear layers run over in a step
    shapes: int = 1  # compiled for these steps


@dataclass
class Laps:
    """Seconds and losses of steps, warm ones first."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def read_job() -> Job:
    """The job named on the command line. Limits this process's threads, so it comes before a framework is imported."""
    content = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    content["input"] = json.loads(Path(content["input"]).read_text(encoding="utf-8"))
    content["answer"] = Path(content["answer"])
    job = Job(**content, began=time.perf_counter())
    for name in LIMITS:
        os.environ[name] = str(job.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    if hasattr(os, "sched_setaffinity"):  # for tools that count processors and listen to no variable
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: job.threads])
    return job


def train(job: Job, prepare: Callable[[Job], Training], packages: Sequence[str]) -> None:
    """Set up, take the warm steps, time the others, answer."""
    training = prepare(job)
    setup = time.perf_counter() - job.began
    laps = Laps()
    for step in (*training.warm, *training.timed):
        began = time.perf_counter()
        laps.losses.append(training.take(step))
        laps.seconds.append(time.perf_counter() - began)
    answer_training(job, training, setup, laps, packages)


def answer_training(job: Job, training: Training, setup: float, laps: Laps, packages: Sequence[str]) -> None:
    """Answer with the steps of ``laps``, whoever drove them."""
    warm = len(training.warm)
    lengths = job.input["lengths"]
    answer(
        job,
        packages,
        setup_s=setup,
        first_step_s=laps.seconds[0],
        warm_s=laps.seconds[:warm],
        seconds=laps.seconds[warm:],
        losses=laps.losses,
        documents=[len(step) for step in training.timed],
        tokens=[sum(lengths[number] for number in step) for step in training.timed],
        computed=[training.computed(step) for step in training.timed],
        warm_computed=[training.computed(step) for step in training.warm],
        shapes=training.shapes,
    )


def score(job: Job, prepare: Callable[[Job], Predictor], packages: Sequence[str]) -> None:
    """Set up, warm up, time one pass from raw texts to probabilities and then single texts, answer."""
    predict = prepare(job)
    setup = time.perf_counter() - job.began
    share = job.options.get("share", 1.0)  # of the texts, for tools so slow that a part tells enough
    texts: list[str] = job.input["texts"][: max(1, round(share * len(job.input["texts"])))]
    warm = texts[: job.input["warm"]]
    first = _seconds(lambda: predict(texts[:1]))[0]
    predict(warm)
    seconds, probabilities = _seconds(lambda: predict(texts))
    singles: list[str] = job.input["singles"]
    for text in singles if job.options.get("compiles") else singles[:2]:
        predict([text])
    latencies = [_seconds(lambda text=text: predict([text]))[0] for text in singles]
    rows = [list(map(float, row)) for row in probabilities]
    answer(
        job, packages, setup_s=setup, first_step_s=first, seconds=[seconds], documents=[len(texts)],
        singles=latencies, probabilities=rows,
    )  # fmt: skip


def tokenise(job: Job, prepare: Callable[[Job], Counter], packages: Sequence[str]) -> None:
    """Set up, warm up on a few texts, time one pass over all; what was prepared returns the number of tokens."""
    encode = prepare(job)
    setup = time.perf_counter() - job.began
    texts: list[str] = job.input["texts"]
    first = _seconds(lambda: encode(texts[: job.input["warm"]]))[0]
    seconds, tokens = _seconds(lambda: encode(texts))
    answer(job, packages, setup_s=setup, first_step_s=first, seconds=[seconds], documents=[len(texts)], tokens=[tokens])


def answer(job: Job, packages: Sequence[str], **measured: object) -> None:
    """Write the answer, with this process's versions, threads and peak memory."""
    versions = {"python": platform.python_version()}
    for package in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    head = {"versions": versions, "threads": job.threads, "peak_bytes": peak_bytes()}
    job.answer.write_text(json.dumps(head | measured, allow_nan=False), encoding="utf-8")


def peak_bytes() -> int | None:
    """Peak resident bytes of this process so far, where the system tells them."""
    with suppress(OSError):
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None


def representative(costs: Sequence[float], count: int) -> list[int]:
    """``count`` positions whose mean cost is nearest to that of all: one of each of as many equal slices by cost.

    The middle of each slice is taken, then single picks move within their slices while that brings the mean nearer.
    """
    count = min(count, len(costs))
    order = sorted(range(len(costs)), key=lambda position: (costs[position], position))
    slices = [order[len(order) * k // count : len(order) * (k + 1) // count] for k in range(count)]
    picks = [part[len(part) // 2] for part in slices]
    target = count * sum(costs) / len(costs)
    for number, part in enumerate(slices):
        others = sum(costs[pick] for pick in picks) - costs[picks[number]]
        picks[number] = min(part, key=lambda position: abs(others + costs[position] - target))
    return picks


def padded(ids: Sequence[Sequence[int]], length: int, fill: int) -> list[list[int]]:
    """Rows of equal length."""
    return [[*row, *[fill] * (length - len(row))] for row in ids]


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Positions in batches of ``size``, longest first, so that a batch pads little."""
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    return [order[start : start + size] for start in range(0, len(order), size)]


def _seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result
