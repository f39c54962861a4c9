"""One local layer of ModernBERT on one long document, forward and backward: time and memory by length.

    python benchmarks/long_documents.py                            # both engines, 1,024 to 8,192 tokens
    python benchmarks/long_documents.py --lengths 1024 2048

The layer is 256 wide with 4 heads and sees 64 tokens to either side. PyTorch attends at once, every score computed and
the far ones masked, or in blocks, as it does from 512 tokens on; JAX attends in blocks on a CPU whatever the length.
Memory is what the process's peak (VmHWM) rose by during a pass. Every cell is a process of its own; time is the best of
three passes. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from duygu.models.spec import ModelSpec

WAYS = ("torch at once", "torch in blocks", "jax in blocks")
CHILD = "child"
MIB = 1 << 20
SPEC = ModelSpec(
    family="modernbert", vocabulary=100, positions=8192, segments=0, layers=3, hidden=256, heads=4, intermediate=384,
    activation="gelu", norm_eps=1e-5, dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0,
    initializer_range=0.02, pad_id=0, labels=("a", "b"), global_every=3, window=64, theta=160_000.0,
    local_theta=10_000.0,
)  # fmt: skip


def table(ways: list[str], lengths: list[int]) -> None:
    print("| tokens |" + "".join(f" {way} |" for way in ways), "|---:|" + "---:|" * len(ways), sep="\n", flush=True)
    for length in lengths:
        cells = [measured(way, length) for way in ways]
        print(f"| {length:,} | " + " | ".join(cells) + " |", flush=True)


def measured(way: str, length: int) -> str:
    """Seconds and MiB of a pass, in a process of its own."""
    command = [sys.executable, __file__, CHILD, way, str(length)]
    seconds, size = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return f"{float(seconds):.2f} s, {int(size):,} MiB"


def measure(one_pass: Callable[[], object]) -> tuple[float, int]:
    """Best seconds of three passes, and by how many MiB the first raised the process's peak."""
    ctypes.CDLL(None).malloc_trim(0)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    seconds = [_timed(one_pass)]
    peak = _memory("VmHWM")
    seconds += [_timed(one_pass) for _ in range(2)]
    return min(seconds), round((peak - before) / MIB)


def torch_pass(length: int, at_once: bool) -> Callable[[], object]:
    import torch

    from duygu.engines.torch import attention, modernbert
    from duygu.engines.torch.bert import Layout

    if at_once:
        attention.is_long = lambda length, window: False
    places = torch.arange(length)
    layout = Layout(places, places, torch.tensor([0]), torch.tensor([length]), ((1, length),))
    layer, reach = modernbert.Layer(SPEC, 1), modernbert.reaches(layout, SPEC)[1]
    h_TC = torch.randn(length, SPEC.hidden, requires_grad=True)
    return lambda: layer(h_TC, layout, None, reach).sum().backward()


def jax_pass(length: int) -> Callable[[], object]:
    import jax
    import jax.numpy as jnp

    from duygu.engines.jax import modernbert
    from duygu.engines.jax.bert import Layout
    from duygu.models.spec import tensor_shapes
    from duygu.models.weights import initialise

    shapes = {name: shape for name, shape in tensor_shapes(SPEC).items() if name.startswith("model.layers.1.")}
    w = {name.removeprefix("model.layers.1."): initialise(name, shape, SPEC, 0) for name, shape in shapes.items()}
    places = jnp.arange(length)
    layout = Layout(places, places, jnp.array([0]), jnp.array([length]), places, places, ((1, length),))

    def loss(w: Any, h_TC: Any) -> Any:
        turns_22TK, windows_2 = modernbert.reaches(layout, SPEC)
        return modernbert.layer(w, h_TC, layout, None, (turns_22TK[1], windows_2[1]), SPEC).sum()

    w, h_TC = jax.device_put((w, np.random.default_rng(0).standard_normal((length, SPEC.hidden), np.float32)))
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(w, h_TC).compile()
    return lambda: jax.block_until_ready(compiled(w, h_TC))


def _timed(one_pass: Callable[[], object]) -> float:
    began = time.perf_counter()
    one_pass()
    return time.perf_counter() - began


def _memory(name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    given = parser.parse_args()
    table(given.ways, given.lengths)


def child(way: str, length: int) -> None:
    print(*measure(jax_pass(length) if way.startswith("jax") else torch_pass(length, way.endswith("at once"))))


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main()
