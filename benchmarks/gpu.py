"""Workload W5: both engines on a GPU in one call: training at several batch sizes and scoring, in bf16.

    python benchmarks/bert_base.py write ../shared/tokenizers/tr_wordpiece_32k_cased /tmp/bert-base
    python benchmarks/gpu.py /tmp/bert-base ../shared/data/bist --out gpu.json

Each engine has processes of its own: one that compiles with an empty cache, one that finds that cache filled and is
measured. Said of each: documents and tokens per second, the share of the matrix rate that a large bf16 product reaches
in the same process, peak device memory, and compile time cold and warm. Operations are counted by hand
(`duygu.scale.operations`). ``--device cpu --batches 4 --steps 2`` with a small model tries it anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from duygu.data.corpus import read_corpus
from duygu.engines import Placement, StepKey, open_engine
from duygu.models.folder import open_classifier
from duygu.recipe import Recipe
from duygu.scale.operations import operations
from duygu.training.machine import peak_memory
from duygu.training.plan import assemble, evaluation_batches, make_plan

SIDE = 8192  # of the square product that tells the matrix rate


def matrix_rate(engine: str, side: int) -> float:
    """Operations per second of one large bf16 product."""
    if engine == "torch":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        a = torch.randn(side, side, device=device).bfloat16()
        multiply = lambda: float((a @ a)[0, 0])  # noqa: E731
    else:
        import jax
        import jax.numpy as jnp

        a = jax.random.normal(jax.random.key(0), (side, side), jnp.bfloat16)
        product = jax.jit(lambda x: jnp.matmul(x, x, preferred_element_type=jnp.float32))
        multiply = lambda: product(a).block_until_ready()  # noqa: E731
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        multiply()
        best = min(best, time.perf_counter() - began)
    return 2.0 * side**3 / best


def one(given: argparse.Namespace) -> dict[str, Any]:
    """One batch size in one engine: training steps, then a scoring pass over the same documents."""
    corpus = read_corpus(given.data)
    engine = open_engine(given.engine)
    probe = engine.probe()
    if given.device == "gpu" and probe.device == "cpu":
        raise SystemExit(f"{given.engine}: no GPU here; --device cpu tries the script without one")
    model = open_classifier(given.model)
    recipe = Recipe(batch=given.batch, epochs=1 + given.batch * (given.steps + 2) // len(corpus.texts))
    encoded = model.tokenizer.encode(corpus.texts, recipe.length, recipe.head_share)
    every = np.arange(len(corpus.texts), dtype=np.int32)
    steps = make_plan(every, encoded.lengths, recipe, engine.static_shapes).steps[: given.steps]
    state = engine.start(model.spec, model.tensors, recipe, Placement("bf16", 0, given.device))
    began = time.perf_counter()
    engine.compile(state, list(dict.fromkeys(shape for step in steps for shape in step.shapes)), [])
    compiled, seconds = time.perf_counter() - began, list[float]()
    for step in (steps[0], *steps):
        (part,), (shape,) = step.microbatches, step.shapes
        began = time.perf_counter()
        batch = assemble(encoded.take(part), part, corpus.labels[part], shape)
        state, result = engine.step(state, [batch], step.lr, StepKey(recipe.seed, step.number))
        _ = result.loss
        seconds.append(time.perf_counter() - began)
    taken = np.concatenate([step.documents for step in steps])
    trained, scored = sum(seconds[1:]), score_seconds(engine, state, encoded, corpus.labels, every[: given.documents])
    lengths = encoded.lengths[taken].tolist()
    rate = matrix_rate(given.engine, given.side)
    scored_lengths = encoded.lengths[: given.documents].tolist()
    return {
        "engine": given.engine, "device": probe.device, "version": probe.version, "batch": given.batch,
        "documents_per_s": len(taken) / trained, "tokens_per_s": sum(lengths) / trained, "compile_s": compiled,
        "matrix_rate": rate, "share": operations(model.spec, lengths, True) / trained / rate,
        "score_documents_per_s": len(scored_lengths) / scored,
        "score_share": operations(model.spec, scored_lengths, False) / scored / rate,
        "peak_bytes": engine.peak_bytes() or peak_memory(),
    }  # fmt: skip


def score_seconds(engine: Any, state: Any, encoded: Any, labels: Any, documents: Any) -> float:
    """Seconds of a second pass; the first compiles."""
    batches = evaluation_batches(documents, encoded.lengths, engine.static_shapes)
    for _ in range(2):
        began = time.perf_counter()
        for part, shape in batches:
            engine.logits(state, assemble(encoded.take(part), part, labels[part], shape))
    return time.perf_counter() - began


def measured(engine: str, batch: int) -> dict[str, Any]:
    """Cold, then warm; what the warm process measured, with both compile times."""
    with tempfile.TemporaryDirectory() as cache:
        found: list[dict[str, Any]] = []
        for _ in range(2 if engine == "jax" else 1):
            command = [sys.executable, *sys.argv, "--engine", engine, "--batch", str(batch)]
            environment = {**os.environ, "XDG_CACHE_HOME": cache}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.returncode)
            found.append(json.loads(done.stdout))
    return {**found[-1], "compile_cold_s": found[0]["compile_s"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--batches", default="16,64,256")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--documents", type=int, default=1024, help="to score")
    parser.add_argument("--side", type=int, default=SIDE, help="of the product that tells the matrix rate")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.engine:
        print(json.dumps(one(given)))
        return
    results: list[dict[str, Any]] = []
    for engine in ("torch", "jax"):
        for batch in map(int, given.batches.split(",")):
            row = measured(engine, batch)
            results.append(row)
            print(
                f"{engine:5} batch {batch:3}: {row['documents_per_s']:7.1f} documents/s, {row['share']:.2f} of "
                f"{row['matrix_rate'] / 1e12:.2f} TFLOP/s, {row['peak_bytes'] / 2**30:.1f} GiB, compile "
                f"{row['compile_cold_s']:.1f} / {row['compile_s']:.1f} s; scores {row['score_documents_per_s']:.1f}/s",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
