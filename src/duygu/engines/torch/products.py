"""The products of a linear layer, all three by the faster of PyTorch's libraries.

    T  rows      I  inputs      O  outputs

In fp32 on a CPU, PyTorch asks its BLAS. Where that is MKL and the processor is not Intel's, oneDNN, which PyTorch
brings along too, may be twice as fast. It compiles a kernel for every shape, and exact layouts have many, so that few
of them are kept. docs/performance.md has the figures.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS, WORK = 128, 2**24  # with fewer rows or multiplications, copies and calls outweigh the product
KERNELS = 128  # all of a step; of oneDNN's own 1,024, most are for token counts that hardly come again: .6 MiB each
CAPACITY = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")  # its variables, the new and the old


def multiply(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """(T, O) in the type of ``x_TI``. What decides on the library also decides on the gradients'."""
    large = len(x_TI) >= ROWS and x_TI.numel() * len(weight_OI) >= WORK
    if large and x_TI.dtype == torch.float32 and x_TI.device.type == "cpu" and prefers_onednn():
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


def keep_few_kernels() -> None:
    """Let oneDNN forget kernels sooner, unless its user has said when. It asks once, at its first product."""
    if not any(name in os.environ for name in CAPACITY):
        os.environ[CAPACITY[0]] = str(KERNELS)


@functools.cache
def prefers_onednn() -> bool:
    """Whether BLAS is MKL, oneDNN is there, and the processor is an x86 that is not Intel's.

    Not asked by timing: a run that goes on in another process would round otherwise if a busy machine misled it.
    """
    about = Path("/proc/cpuinfo")  # Linux's; elsewhere BLAS stays
    text = about.read_text(errors="replace") if about.exists() else ""
    vendors = re.findall(r"^vendor_id\s*: (\w+)", text, re.MULTILINE)
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return both and bool(vendors) and "GenuineIntel" not in vendors
