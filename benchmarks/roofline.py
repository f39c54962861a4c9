"""How near the engines come to what the processor can multiply: operations, bytes, and the share of the matrix rate.

    python benchmarks/roofline.py bench.json --model /tmp/bert-base

Measures the rate of the three products of a linear layer (forward, and both gradients) at BERTurk's sizes, each
framework in a process of its own, then holds what the engines reach in workload W1 against it. Counted is what the
mathematics needs (`duygu.scale.operations`), attention at the mean length. Padding and everything else is loss.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from duygu.models.folder import open_classifier
from duygu.models.spec import ModelSpec
from duygu.scale.operations import operations

ROWS, SIZES = 2560, ((768, 2304), (768, 768), (768, 3072), (3072, 768))  # tokens of a step; inputs and outputs
ENGINES = {"duygu-torch": "torch", "duygu-torch-fp32": "torch", "duygu-jax": "jax", "duygu-jax-fp32": "jax"}


def best_seconds(product: Callable[[], object]) -> float:
    product()
    found: list[float] = []
    for _ in range(12):
        began = time.perf_counter()
        product()
        found.append(time.perf_counter() - began)
    return sorted(found)[len(found) // 2]


def torch_products(precision: str, threads: int) -> list[tuple[float, Callable[[], object]]]:
    import torch

    from duygu.engines.torch.products import multiply

    torch.set_num_threads(threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    products: list[tuple[float, Callable[[], object]]] = []
    for inputs, outputs in SIZES:
        x, w, g = (torch.randn(a, b).to(dtype) for a, b in ((ROWS, inputs), (outputs, inputs), (ROWS, outputs)))
        for a, b in ((x, w), (g, w.T), (g.T, x.T)):
            products.append((2.0 * ROWS * inputs * outputs, partial(multiply, a, b)))
    return products


def jax_products(precision: str, threads: int) -> list[tuple[float, Callable[[], object]]]:
    from duygu.engines import open_engine

    open_engine("jax", threads)
    import jax
    import jax.numpy as jnp
    import numpy as np

    from duygu.engines.jax.linear import product, transposed

    dtype = {"fp32": jnp.float32, "bf16": jnp.bfloat16}[precision]
    products: list[tuple[float, Callable[[], object]]] = []
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
            products.append((2.0 * ROWS * inputs * outputs, partial(_finish, compiled, a, b)))
    return products


def _finish(compiled: Any, a: Any, b: Any) -> None:
    compiled(a, b).block_until_ready()


def rate(engine: str, precision: str, threads: int) -> float:
    """Operations per second over all products together, median timings."""
    make = {"torch": torch_products, "jax": jax_products}[engine]
    timed = [(operations, best_seconds(run)) for operations, run in make(precision, threads)]
    return sum(operations for operations, _ in timed) / sum(seconds for _, seconds in timed)


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
    parser.add_argument("--model", type=Path, help="the folder of the model that W1 trained, for its sizes")
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
        report(json.loads(given.bench.read_text(encoding="utf-8")), open_classifier(given.model).spec, rates)


def report(bench: dict[str, Any], spec: ModelSpec, rates: dict[tuple[str, str], float]) -> None:
    """A line for each of duygu's contenders in W1: documents per second, and of the end that the processor sets."""
    part = next((part for part in bench["parts"] if part["name"] == "W1"), None)
    if part is None:
        raise SystemExit("this bench holds no W1: run duygu bench --workloads W1 --out FILE")
    for contender in part["contenders"]:
        engine = ENGINES.get(contender["name"])
        if engine is None:
            continue
        answer = contender["rounds"][0]
        documents, tokens = sum(answer["documents"]), sum(answer["tokens"])
        each = operations(spec, [round(tokens / documents)] * documents, training=True) / documents
        end, found = rates[engine, contender["precision"]] / each, contender["summary"]["documents_per_s"]["median"]
        print(
            f"{contender['title']}: {each / 1e9:.0f} GFLOP a document, at most {end:.2f} documents/s, "
            f"measured {found:.2f}: {found / end:.0%} of the matrix rate"
        )


if __name__ == "__main__":
    main()
