"""oneDNN's products in PyTorch against float64, and when they are chosen."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from duygu.engines.torch import products
from duygu.engines.torch.products import CAPACITY


def results(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, g_TO: Tensor, again: bool) -> list[Tensor]:
    """The product and its gradients."""
    inputs = [x.clone().requires_grad_() for x in (x_TI, weight_OI, bias_O) if x is not None]
    y_TO = checkpoint(products.multiply, *inputs, use_reentrant=False) if again else products.multiply(*inputs)
    assert isinstance(y_TO, Tensor)
    return [y_TO.detach(), *torch.autograd.grad(y_TO, inputs, g_TO)]


@pytest.mark.parametrize("again", [False, True], ids=["kept", "again"])
@pytest.mark.parametrize("biased", [True, False], ids=["biased", "bare"])
def test_products_by_onednn_match_float64(biased: bool, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)
    monkeypatch.setattr(products, "WORK", 0)
    generator = torch.Generator().manual_seed(7)
    x_TI, weight_OI, bias_O, g_TO = (
        torch.randn(shape, generator=generator) for shape in ((133, 40), (24, 40), (24,), (133, 24))
    )
    found = results(x_TI, weight_OI, bias_O if biased else None, g_TO, again)
    x, w, g = x_TI.double(), weight_OI.double(), g_TO.double()
    wanted = [F.linear(x, w, bias_O.double() if biased else None), g @ w, g.T @ x, g.sum(dim=0)]
    for ours, theirs in zip(found, wanted, strict=False):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=2e-5)
    assert len(found) == 3 + biased


@pytest.mark.parametrize(
    ("rows", "dtype", "fast", "chosen"),
    [
        (512, torch.float32, True, True),
        (512, torch.float32, False, False),
        (512, torch.bfloat16, True, False),
        (16, torch.float32, True, False),
    ],
    ids=["large", "slower", "bf16", "few rows"],
)
def test_onednn_multiplies_only_where_it_pays(
    rows: int, dtype: torch.dtype, fast: bool, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "prefers_onednn", lambda: fast)
    calls: list[int] = []

    def counted(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        calls.append(len(x_TI))
        return F.linear(x_TI, weight_OI, bias_O)

    monkeypatch.setattr(products, "by_onednn", counted)
    products.multiply(torch.ones(rows, 256, dtype=dtype), torch.ones(256, 256, dtype=dtype))
    assert calls == ([rows] if chosen else [])


SHAPES = """
import torch
from duygu.engines import open_engine
from duygu.engines.torch.products import KERNELS, by_onednn
open_engine("torch")
for rows in (*range(1, KERNELS + 20), 1):
    by_onednn(torch.ones(rows, 8), torch.ones(4, 8))
"""


@pytest.mark.parametrize(("given", "forgotten"), [({}, True), ({CAPACITY[1]: "1024"}, False)], ids=["ours", "theirs"])
def test_kernels_of_many_shapes_are_not_kept(given: dict[str, str], forgotten: bool) -> None:
    """By oneDNN's own log: the first shape's kernel is made again after many others, unless the user wanted it kept."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    environment = {name: value for name, value in os.environ.items() if name not in CAPACITY}
    words = [sys.executable, "-c", SHAPES]
    done = subprocess.run(
        words, env={**environment, "ONEDNN_VERBOSE": "2", **given}, capture_output=True, text=True, check=True
    )
    made = [line for line in done.stdout.splitlines() if ",create:" in line and "mb1ic8oc4" in line]
    assert ["cache_miss" in line for line in made] == [True, forgotten], done.stdout[:2000]
