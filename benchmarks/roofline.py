"""How near the engines come to what the processor can multiply: operations, bytes, and the share of the matrix rate.

    python benchmarks/roofline.py bench.json

Measures the rate of the three products of a linear layer (forward, and both gradients) at BERTurk's sizes, each framework
in a process of its own, then divides the operations of a document of workloads W1 and W2 by it. The operations that are
counted are those that the mathematics needs: linear layers over real tokens (the last layer only for first tokens where
only they are read) and attention within each document. What a peer computes on padding counts as its loss.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROWS, SIZES = 2560, ((768, 2304), (768, 768), (768, 3072), (3072, 768))  # tokens of a step; inputs and outputs
HIDDEN, LAYERS, WIDE = 768, 12, 3072
PARAMETERS = 110e6  # of which every update reads and writes weight, gradient and two moments


def best_seconds(product: Callable[[], None]) -> float:
    product()
    found: list[float] = []
    for _ in range(12):
        began = time.perf_counter()
        product()
        found.append(time.perf_counter() - began)
    return sorted(found)[len(found) // 2]


def torch_products(precision: str, threads: int) -> list[tuple[float, Callable[[], None]]]:
    import torch

    torch.set_num_threads(threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    products: list[tuple[float, Callable[[], None]]] = []
    for inputs, outputs in SIZES:
        x, w, g = (torch.randn(a, b).to(dtype) for a, b in ((ROWS, inputs), (outputs, inputs), (ROWS, outputs)))
        for a, b in ((x, w.T), (g, w), (g.T, x)):
            products.append((2.0 * ROWS * inputs * outputs, lambda a=a, b=b: [torch.mm(a, b)] and None))
    return products


def jax_products(precision: str, threads: int) -> list[tuple[float, Callable[[], None]]]:
    from duygu.engines import open_engine

    open_engine("jax", threads)
    import jax
    import jax.numpy as jnp
    import numpy as np

    from duygu.engines.jax.linear import product, transposed

    dtype = {"fp32": jnp.float32, "bf16": jnp.bfloat16}[precision]
    products: list[tuple[float, Callable[[], None]]] = []
    random = np.random.default_rng(0)
    for inputs, outputs in SIZES:
        sizes = (ROWS, inputs), (outputs, inputs), (ROWS, outputs)
        x, w, g = (jnp.asarray(random.normal(size=size), dtype) for size in sizes)
        kinds = (
            (lambda a, b: product(a, b, (1, 1)), x, w),
            (lambda a, b: product(a, b, (1, 0)), g, w),
            (lambda a, b: product(transposed(a), b, (1, 0)), g, x),
        )
        for function, a, b in kinds:
            compiled: Any = jax.jit(function).lower(a, b).compile()
            run = lambda compiled=compiled, a=a, b=b: compiled(a, b).block_until_ready() and None  # noqa: E731
            products.append((2.0 * ROWS * inputs * outputs, run))
    return products


def rate(engine: str, precision: str, threads: int) -> float:
    """Operations per second over all products together, median timings."""
    make = {"torch": torch_products, "jax": jax_products}[engine]
    timed = [(operations, best_seconds(run)) for operations, run in make(precision, threads)]
    return sum(operations for operations, _ in timed) / sum(seconds for _, seconds in timed)


def operations(lengths: list[int], training: bool) -> float:
    """Floating-point operations of these documents: twice the multiplications, three times that in training."""
    tokens, documents = sum(lengths), len(lengths)
    full = 4 * HIDDEN * HIDDEN + 2 * HIDDEN * WIDE  # multiplications of a token in a layer
    last = 2 * HIDDEN * HIDDEN  # keys and values: all that the last layer computes for every token
    linear = tokens * ((LAYERS - 1) * full + last) + documents * (full - last)
    attention = (LAYERS - 1) * 2 * HIDDEN * sum(length * length for length in lengths) + 2 * HIDDEN * tokens
    return 2.0 * (linear + attention) * (3 if training else 1)


def measured_rates(threads: int) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for engine in ("torch", "jax"):
        for precision in ("fp32", "bf16"):
            command = [sys.executable, __file__, "--rate", engine, precision, "--threads", str(threads)]
            found[engine, precision] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, nargs="?", help="what duygu bench --out wrote")
    parser.add_argument("--rate", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.rate:
        print(rate(*given.rate, given.threads))
        return
    rates = measured_rates(given.threads)
    for (engine, precision), found in rates.items():
        print(f"{engine:5} {precision}: {found / 1e9:4.0f} GFLOP/s in the products of a linear layer", flush=True)
    if given.bench is not None:
        report(json.loads(given.bench.read_text(encoding="utf-8")), rates)


def report(bench: dict[str, Any], rates: dict[tuple[str, str], float]) -> None:
    raise NotImplementedError


if __name__ == "__main__":
    main()
