"""The products of a linear layer, all three on the faster of PyTorch's libraries.

    T  rows      I  inputs      O  outputs

In fp32 on a CPU, PyTorch asks its BLAS. Where that is MKL and the processor is not Intel's, oneDNN, which PyTorch
brings along too, may be twice as fast. docs/performance.md has the figures.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS, WORK = 128, 2**24  # with fewer rows or multiplications, copies and calls outweigh the product
FAST = 1.4  # far from what timings of equal libraries differ by: another choice rounds otherwise
TIMINGS = 40  # of each library; a tenth of a second


def multiply(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """(T, O) in the type of ``x_TI``. What decides on the library also decides on the gradients'."""
    large = len(x_TI) >= ROWS and x_TI.numel() * len(weight_OI) >= WORK
    if large and x_TI.dtype == torch.float32 and x_TI.device.type == "cpu" and fast_onednn():
        return _Multiply.apply(x_TI, weight_OI, bias_O)
    return F.linear(x_TI, weight_OI, bias_O)


def by_onednn(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """(T, O) fp32: in oneDNN's type of tensor, ``x_TI`` takes the product there."""
    return F.linear(x_TI.to_mkldnn(), weight_OI, bias_O).to_dense()


class _Multiply(torch.autograd.Function):
    """PyTorch's own backward pass would keep the copies in oneDNN's type too: a third more memory in a step."""

    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x_TI, weight_OI)
        return by_onednn(x_TI, weight_OI, bias_O)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (g_TO,), (x_TI, weight_OI), (by_x, by_weight, by_bias) = gradients, ctx.saved_tensors, ctx.needs_input_grad
        x_gradient = by_onednn(g_TO, weight_OI.t()) if by_x else None
        weight_gradient = by_onednn(g_TO.t(), x_TI.t()) if by_weight else None
        return x_gradient, weight_gradient, g_TO.sum(dim=0) if by_bias else None


@functools.cache
def fast_onednn() -> bool:
    """Whether oneDNN, with the copies that it takes, is much faster."""
    if not torch.backends.mkldnn.is_available():
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other where other processes take turns, and both look alike
    try:
        best = _timings()
    finally:
        torch.set_num_threads(threads)
    return best[F.linear] > FAST * best[by_onednn]


@torch.no_grad()
def _timings() -> dict[Callable[..., Tensor], float]:
    """The best of many timings of each library, taken in turn; each shorter than a turn of the processor."""
    best: dict[Callable[..., Tensor], float] = {}
    x_TI, weight_OI = torch.ones(ROWS, 768), torch.ones(768, 768)
    for _ in range(TIMINGS):
        for product in (F.linear, by_onednn):
            began = time.perf_counter()
            product(x_TI, weight_OI)
            best[product] = min(best.get(product, math.inf), time.perf_counter() - began)
    return best
