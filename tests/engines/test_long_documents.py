"""Documents of thousands of tokens: attention in blocks is the attention at once, and takes memory linear in length."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from duygu.engines import ENGINES, StepKey, open_engine
from duygu.engines.torch import attention
from duygu.engines.torch.attention import attend, attend_causally, is_long
from duygu.models.spec import ModelSpec
from duygu.recipe import Recipe
from duygu.training.plan import assemble, fit_shapes
from tests.engines.cases import FP32
from tests.engines.shapes import MODERNBERT, random_tensors

GROUPS = ((2, 75), (1, 60), (3, 9))  # blocks and parts of one; the second is long for small windows only
WINDOWS = (None, 0, 5, 30, 100)


def attended(qkv: Tensor, g: Tensor, keys: Tensor | None, window: int | None) -> tuple[Tensor, Tensor]:
    """What tokens take, and the gradient by queries, keys and values."""
    qkv = qkv.detach().requires_grad_()
    context_TC = attend(qkv, GROUPS, keys, 0.3, window)
    (gradient,) = torch.autograd.grad(context_TC, qkv, g)
    return context_TC.detach(), gradient


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dropped", [True, False])
def test_blocks_are_attention_at_once(window: int | None, dropped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    random, tokens = torch.Generator().manual_seed(1), sum(count * length for count, length in GROUPS)
    qkv, g = (torch.randn(tokens, *shape, generator=random) for shape in ((3, 2, 8), (16,)))
    keys = torch.randint(-(2**31), 2**31, (tokens, 2), generator=random).int() if dropped else None
    expected = attended(qkv, g, keys, window)
    monkeypatch.setattr(attention, "BLOCK", 16)
    monkeypatch.setattr(attention, "LONG", 70)
    assert [is_long(length, window) for _, length in GROUPS] == [True, window in (0, 5), False]
    for found, wanted in zip(attended(qkv, g, keys, window), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


def test_blocks_of_shared_heads_that_see_nothing_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four heads of queries, two of keys and values; the oracle is PyTorch's own attention, document by document."""
    random, tokens = torch.Generator().manual_seed(3), sum(count * length for count, length in GROUPS)
    q, k, v, g = (torch.randn(tokens, heads, 8, generator=random) for heads in (4, 2, 2, 4))
    monkeypatch.setattr(attention, "BLOCK", 16)
    monkeypatch.setattr(attention, "LONG", 70)
    found = [x.clone().requires_grad_() for x in (q, k, v)]
    wanted = [x.clone().requires_grad_() for x in (q, k, v)]
    context_TC = attend_causally(found[0], found[1], found[2], GROUPS, None, 0.0)
    sizes = [length for count, length in GROUPS for _ in range(count)]
    documents = zip(*(x.transpose(0, 1).split(sizes, dim=1) for x in wanted), strict=True)
    own = [F.scaled_dot_product_attention(*one, is_causal=True, enable_gqa=True) for one in documents]
    oracle_TC = torch.cat(own, dim=1).transpose(0, 1).flatten(1)
    torch.testing.assert_close(context_TC, oracle_TC, atol=1e-6, rtol=0)
    gradients = (torch.autograd.grad(x, of, g.flatten(1)) for x, of in ((context_TC, found), (oracle_TC, wanted)))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=0)


def test_masks_of_blocks_are_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are unit vectors make the context the dropped probabilities themselves."""
    length, random = 96, torch.Generator().manual_seed(2)
    qkv = torch.cat([torch.randn(length, 2, 1, length, generator=random), torch.eye(length)[:, None, None]], dim=1)
    keys = torch.randint(-(2**31), 2**31, (length, 1), generator=random).int()
    masks: list[Tensor] = []
    for block in (4096, 32):
        monkeypatch.setattr(attention, "BLOCK", block)
        monkeypatch.setattr(attention, "LONG", block)
        masks.append(attend(qkv, ((1, length),), keys, 0.3) == 0)
    assert 0.25 < masks[0].float().mean() < 0.35
    assert torch.equal(*masks)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize(("window", "reach"), [(64, 256), (None, None)])
def test_no_tensor_of_torch_grows_with_length_squared(window: int | None, reach: int | None) -> None:
    """Of local layers the largest is queries, keys and values; of others the scores of a block."""
    for length in (4096, 8192):
        qkv = torch.randn(length, 3, 1, 8, requires_grad=True)
        with Largest() as largest:
            attend(qkv, ((1, length),), None, 0.0, window).sum().backward()
        assert largest.elements <= max(3 * length * 8, 128 * (reach or length))


def test_a_document_of_8192_tokens_has_one_gradient_in_both_engines() -> None:
    """A layer that sees all and a local one, dropout on; the other engine is the oracle."""
    spec = small(layers=2, global_every=2)
    ids = np.random.default_rng(3).integers(1, 100, size=8192).astype(np.int32)
    one, other = (gradient(name, spec, ids) for name in ENGINES)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.linalg.norm(other[name] - value) < 1e-4 * np.linalg.norm(value), name


def small(**changes: Any) -> ModelSpec:
    """All tokens of the last layer are read, or it would be no local layer of a whole document."""
    return replace(MODERNBERT, hidden=16, heads=1, intermediate=24, pooling="mean", **changes)


def gradient(name: str, spec: ModelSpec, ids: np.ndarray) -> dict[str, np.ndarray]:
    engine, zero = open_engine(name), np.zeros(1, np.int32)
    shape = fit_shapes([np.array([len(ids)], np.int32)], 1, engine.static_shapes)[0]
    state = engine.start(spec, random_tensors(spec, 0.2), Recipe(), FP32)
    return dict(engine.gradients(state, assemble([ids], zero, zero, shape), StepKey(13, 1)))
