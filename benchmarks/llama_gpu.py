"""Llama 3.1 8B in 4 bits on one GPU: adapters trained by both engines in one call, with what it takes.

    python benchmarks/llama_gpu.py --out llama.json                 # 16 GB on disk, then 4 GB in ~/.cache/duygu/nf4
    python benchmarks/llama_gpu.py --precision fp32 --microbatches 2 --steps 3
    python benchmarks/llama_gpu.py --device cpu --scale tiny --layers 2 --steps 2

The real shape and random weights, as `llama_cpu` writes them; the recipe preset llama-4bit: steps of 8 documents of 512
tokens, two at a time or all at once, which is the same step. Each row is a process of its own, JAX's one that compiles
with an empty cache and one that finds it filled and is measured. JAX takes memory as it needs it, so that its peak is
one. Said of each: peak device memory as the framework counts it, what the driver says is in use at the end (kernels and
unused blocks too; others' as well), VmHWM of the host, the prediction, tokens per second once warm, seconds to start
and to compile, and the loss of every step. Of every pair of engines: the largest relative difference of a loss, and
whether it is within the limit of ``duygu parity``, to which fp32 is held; bf16 rounds products differently in each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpu import opened, write_random

from duygu.doctor import ask_engine
from duygu.engines import ENGINES, Engine, Placement, StepKey, open_engine
from duygu.models.folder import quantised
from duygu.models.presets import recipe_preset
from duygu.recipe import Recipe
from duygu.scale.memory import with_recipe
from duygu.training.machine import gpus, peak_memory
from duygu.training.plan import Batch, assemble, fit_shapes
from duygu.training.preparation import first_tensors
from duygu.verdict.parity import LOSS, LOSS_FLOOR

BATCH = 8
TOKENS = {"full": 512, "tiny": 64}  # of every document
BARS = {"most": 16e9, "aim": 9e9}  # bytes on the device
CACHE_ALL = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}


def main() -> None:
    given = arguments()
    if given.engine:
        print(json.dumps(one(given)))
        return
    require_gpu(given)
    write_random(given.folder, "llama", given.scale, given.layers)
    quantised(opened(given.folder), knobs(given))  # kept, so that no engine's process does it
    rows: list[dict[str, Any]] = []
    for precision in given.precision.split(","):
        for microbatch in map(int, given.microbatches.split(",")):
            for engine in given.engines.split(","):
                rows.append(measured(given, engine, precision, microbatch))
                tell(rows[-1])
                found = {"rows": rows, "pairs": pairs(rows)}
                if given.out:  # after each, so that what was measured stays
                    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for pair in pairs(rows):
        limit = f", {'within' if pair['equal'] else 'BEYOND'} {LOSS:g}" if pair["held"] else ""
        print(f"{pair['what']}: losses apart by {pair['apart']:.1e}{limit}", file=sys.stderr)
    print(json.dumps({"rows": rows, "pairs": pairs(rows)}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--scale", choices=tuple(TOKENS), default="full")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--precision", default="bf16,fp32")
    parser.add_argument("--microbatches", default="2,8", help=f"documents at a time, of {BATCH} a step")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--folder", type=Path, default=Path("llama-random"), help="where the model is, or is written")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--microbatch", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def require_gpu(given: argparse.Namespace) -> None:
    """End before anything large is written where an engine would compute on the CPU unasked."""
    for engine in given.engines.split(",") if given.device == "gpu" else ():
        found = ask_engine(engine, lambda _: None)
        if found.get("device", "cpu") == "cpu":
            problem = found["problem"] or "no GPU here"
            raise SystemExit(f"{engine}: {problem}; --device cpu --scale tiny tries the script without one")


def knobs(given: argparse.Namespace) -> Recipe:
    """The recipe preset llama-4bit with what the script varies."""
    changes = {"batch": BATCH, "microbatch": given.microbatch, "length": TOKENS[given.scale]}
    return recipe_preset("llama-4bit").recipe.changed({**changes, "precision": given.precision.partition(",")[0]})


def measured(given: argparse.Namespace, engine: str, precision: str, microbatch: int) -> dict[str, Any]:
    """A row: JAX cold, then warm; what the last process measured, with both compile times."""
    options = {"--engine": engine, "--precision": precision, "--microbatch": microbatch}
    command = [sys.executable, *sys.argv, *(str(word) for option in options.items() for word in option)]
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, **CACHE_ALL, "JAX_COMPILATION_CACHE_DIR": cache}
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        environment |= {"JAX_PLATFORMS": "cpu"} if given.device == "cpu" else {}
        for steps in (0, given.steps) if engine == "jax" else (given.steps,):
            words = [*command, "--steps", str(steps)]
            done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.returncode)
            found.append(json.loads(done.stdout))
    return {**found[-1], "compile_cold_s": found[0]["compile_s"]}


def one(given: argparse.Namespace) -> dict[str, Any]:
    """One engine, precision and microbatch, in this process."""
    recipe, model, engine = knobs(given), opened(given.folder), open_engine(given.engine)
    clock = time.perf_counter()
    placement = Placement("bf16" if recipe.precision == "bf16" else "fp32", 0, given.device)
    state = engine.start(model.spec, first_tensors(model, recipe), recipe, placement)
    started, clock = time.perf_counter() - clock, time.perf_counter()
    engine.compile(state, list({batch.shape for batch in step_batches(engine, recipe, model.spec.vocabulary, 1)}), [])
    compiled, losses, seconds = time.perf_counter() - clock, list[float](), list[float]()
    for number in range(1, given.steps + 1):
        batches = step_batches(engine, recipe, model.spec.vocabulary, number)
        clock = time.perf_counter()
        state, result = engine.step(state, batches, recipe.lr, StepKey(recipe.seed, number))
        losses.append(result.loss)
        seconds.append(time.perf_counter() - clock)
    warm = sum(seconds[1:])
    peak, cards = engine.peak_bytes() or peak_memory(), gpus()
    need = with_recipe(model.spec, recipe, engine.name, recipe.precision, recipe.microbatch)
    return {
        "engine": engine.name, "device": engine.probe().device, "precision": recipe.precision,
        "documents": recipe.microbatch, "tokens": recipe.length, "start_s": started, "compile_s": compiled,
        "tokens_per_s": BATCH * recipe.length * len(seconds[1:]) / warm if warm else None, "losses": losses,
        "peak_bytes": peak, "driver_bytes": cards[0]["memory_bytes"] - cards[0]["free_bytes"] if cards else None,
        "host_peak_bytes": peak_memory(),
        "predicted_bytes": need.on_device if given.device == "gpu" else need.total,
        **{name: peak < bar for name, bar in BARS.items()},
    }  # fmt: skip


def step_batches(engine: Engine, recipe: Recipe, vocabulary: int, number: int) -> list[Batch]:
    """The documents of a step, the same for both engines and however many are computed at a time."""
    random = np.random.default_rng(number)
    ids_BT = random.integers(1, vocabulary - 1, (BATCH, recipe.length)).astype(np.int32)
    labels_B = random.integers(0, 2, BATCH).astype(np.int32)
    whole, weights = np.arange(BATCH, dtype=np.int32), np.ones(BATCH, np.float32)
    parts = [whole[first : first + recipe.microbatch] for first in range(0, BATCH, recipe.microbatch)]
    shapes = fit_shapes([np.full(len(part), recipe.length, np.int32) for part in parts], 1, engine.static_shapes)
    return [
        assemble(list(ids_BT[part]), part, labels_B[part], shape, weights[part], normaliser=float(BATCH))
        for part, shape in zip(parts, shapes, strict=True)
    ]


def pairs(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Losses of two rows that differ in their engine only, and of every other way to take the same steps."""
    found: list[dict[str, Any]] = []
    for number, other in enumerate(rows):
        for row in rows[:number]:
            differ = [name for name in ("engine", "precision", "documents") if row[name] != other[name]]
            if len(differ) == 1:
                a, b = np.array(row["losses"]), np.array(other["losses"])
                apart = float(np.max(np.abs(a - b) / np.maximum(a, LOSS_FLOOR), initial=0.0))
                what = " / ".join(f"{one['engine']} {one['precision']} {one['documents']}" for one in (row, other))
                held = row["precision"] == other["precision"] == "fp32"
                found.append({"what": what, "differ": differ[0], "apart": apart, "held": held, "equal": apart <= LOSS})
    return found


def tell(row: Mapping[str, Any]) -> None:
    """A row in a line."""
    rate = "" if row["tokens_per_s"] is None else f"{row['tokens_per_s']:.0f} tokens/s, "
    bars = ", ".join(f"{'under' if row[name] else 'OVER'} {bar / 1e9:g}" for name, bar in BARS.items())
    print(
        f"{row['engine']:5} {row['precision']} {row['documents']} x {row['tokens']}: {rate}peak "
        f"{row['peak_bytes'] / 1e9:.2f} GB ({bars}; predicted {row['predicted_bytes'] / 1e9:.2f}), host "
        f"{row['host_peak_bytes'] / 1e9:.2f} GB, start {row['start_s']:.0f} s, compile {row['compile_cold_s']:.1f} / "
        f"{row['compile_s']:.1f} s", file=sys.stderr, flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
