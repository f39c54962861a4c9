"""How time grows with the length of documents and with their number, in both engines: a fit, and a picture.

    python benchmarks/cost.py MODEL --plot docs/figures/cost.svg      # needs matplotlib: pip install 'duygu[bench]'

16 documents (``--documents``) of equal length are trained on (one step) and scored, for each length; then 16 to 256
documents of mixed lengths are scored. Every repeat takes all cases in a new order, so that a drift of the machine makes
no slope; each case counts with its median. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from duygu.engines import Placement, StepKey, open_engine
from duygu.models.folder import open_classifier
from duygu.recipe import Recipe
from duygu.training.plan import assemble, evaluation_batches, fit_shapes

LENGTHS = (32, 64, 128, 192, 256, 320, 384, 448, 512)
NUMBERS = (16, 32, 64, 128, 256)
DOCUMENTS = 16
TITLES = {
    "training": "one training step, {} documents",
    "scoring": "scoring {} documents",
    "documents": "scoring documents of 32 to 256 tokens",
}


def measure(given: argparse.Namespace) -> dict[str, dict[int, float]]:
    """Median seconds of each case of one engine, by kind and size."""
    engine = open_engine(given.engine, given.threads)
    opened = open_classifier(Path(given.model))
    recipe = Recipe()
    state = engine.start(opened.spec, opened.tensors, recipe, Placement(given.precision, given.threads))
    words, count = np.random.default_rng(0), given.documents

    def documents(lengths: list[int]) -> list[np.ndarray]:
        return [words.integers(5, opened.spec.vocabulary, size=length).astype(np.int32) for length in lengths]

    def train(length: int) -> None:
        nonlocal state
        ids, numbers = documents([length] * count), np.arange(count, dtype=np.int32)
        (shape,) = fit_shapes([np.full(count, length, np.int32)], 1, engine.static_shapes)
        state, result = engine.step(state, [assemble(ids, numbers, numbers % 2, shape)], 1e-6, StepKey(1, 1))
        _ = result.loss

    def score(lengths: list[int]) -> None:
        ids, numbers = documents(lengths), np.arange(len(lengths), dtype=np.int32)
        for part, shape in evaluation_batches(numbers, np.array(lengths, np.int32), engine.static_shapes):
            engine.logits(state, assemble([ids[n] for n in part], part, part % 2, shape))

    mixed = [32 + (n * 7919) % 225 for n in range(max(given.numbers))]
    cases: dict[tuple[str, int], Callable[[], None]] = {}
    for length in given.lengths:
        cases["training", length] = lambda length=length: train(length)
        cases["scoring", length] = lambda length=length: score([length] * count)
    for number in given.numbers:
        cases["documents", number] = lambda number=number: score(mixed[:number])
    return timed(cases, given.repeats)


def timed(cases: dict[tuple[str, int], Callable[[], None]], repeats: int) -> dict[str, dict[int, float]]:
    """Each case once to warm up, then ``repeats`` times in an order drawn anew."""
    seconds: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    order = list(cases)
    for repeat in range(repeats + 1):
        random.Random(repeat).shuffle(order)
        for case in order:
            began = time.perf_counter()
            cases[case]()
            if repeat:
                seconds[case].append(time.perf_counter() - began)
    found: dict[str, dict[int, float]] = {kind: {} for kind in TITLES}
    for (kind, size), took in sorted(seconds.items()):
        found[kind][size] = statistics.median(took)
    return found


def fit(points: dict[int, float]) -> dict[str, float]:
    """The straight line of least squares through (size, seconds), and how much of the variance it explains."""
    x, y = np.array(list(points), float), np.array(list(points.values()))
    slope, start = np.polyfit(x, y, 1)
    left = y - (slope * x + start)
    return {"slope": float(slope), "start": float(start), "r2": float(1 - left.var() / y.var())}


def plot(result: dict[str, Any], out: Path) -> None:
    import matplotlib.pyplot as plt

    plt.rcParams["svg.fonttype"] = "none"  # text stays text
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    colours = {"torch": "#d9480f", "jax": "#1864ab"}
    for axis, (kind, title) in zip(axes, TITLES.items(), strict=True):
        for name, found in result["engines"].items():
            points, line = found[kind]["seconds"], found[kind]["fit"]
            sizes = np.array([int(size) for size in points], float)
            axis.plot(sizes, list(points.values()), "o", color=colours[name], markersize=5)
            label = f"{name}, {result['precision']}: R² = {line['r2']:.4f}"
            axis.plot(sizes, line["slope"] * sizes + line["start"], "-", color=colours[name], label=label)
        axis.set(title=title.format(result["documents"]), ylabel="seconds", ylim=(0, None), xlim=(0, None))
        axis.set_xlabel("documents" if kind == "documents" else "tokens in each document")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, loc="upper left")
        axis.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a finished classifier's folder")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="of equal length, at a time")
    parser.add_argument("--numbers", type=int, nargs="+", default=NUMBERS)
    parser.add_argument("--plot", type=Path, help="an .svg or .png to draw")
    given = parser.parse_args()
    if given.engine:
        print(json.dumps(measure(given)))
        return
    if given.plot and importlib.util.find_spec("matplotlib") is None:  # found out before minutes of measuring
        parser.error("--plot needs matplotlib: pip install 'duygu[bench]'")
    result: dict[str, Any] = {"model": Path(given.model).name, "precision": given.precision}
    result |= {"documents": given.documents, "engines": {}}
    for name in ("torch", "jax"):
        done = subprocess.run([sys.executable, *sys.argv, "--engine", name], check=True, capture_output=True, text=True)
        kinds = json.loads(done.stdout)
        points = {kind: {int(size): took for size, took in found.items()} for kind, found in kinds.items()}
        result["engines"][name] = {kind: {"seconds": found, "fit": fit(found)} for kind, found in points.items()}
    if given.plot:
        plot(result, given.plot)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
