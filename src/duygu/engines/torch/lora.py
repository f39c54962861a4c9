"""Linear layers with adapters beside them, Hu et al. (2021), arXiv:2106.09685, or with weights of 4 bits, or both.

The JAX twin holds the same functions in the same order. Layers are put in the place of a module's own, so that its
``state_dict`` has PEFT's names: ``LAYER.lora_A.weight``. What an adapter reads is dropped by the hash of `dropout`: by
a place within the layers that nothing else uses, mixed with the layer's name.

    T  rows: tokens, or first tokens of documents      I  inputs      O  outputs      R  width of the adapter
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

from torch import Tensor, nn

from duygu.engines.torch.dropout import EMBEDDING, dropout, scramble
from duygu.engines.torch.nf4 import PackedWeight, packed_linear
from duygu.engines.torch.products import multiply
from duygu.models import nf4
from duygu.recipe import Recipe

_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.(.+)$")


class AdaptedLinear(nn.Module):
    """A linear layer that stays as it is, in full or in 4 bits, and the adapter that learns, if it has one."""

    def __init__(self, layer: nn.Linear, name: str, weights: Mapping[str, Tensor], recipe: Recipe) -> None:
        super().__init__()
        packed = {part: x for part in nf4.Packed.__slots__ if (x := weights.get(f"{name}.nf4.{part}")) is not None}
        self.nf4 = PackedWeight(packed) if packed else None
        self.weight = None if packed else layer.weight
        self.bias = layer.bias
        adapted = f"{name}.lora_A.weight" in weights
        self.lora_A = nn.Linear(layer.in_features, recipe.lora_rank, bias=False) if adapted else None
        self.lora_B = nn.Linear(recipe.lora_rank, layer.out_features, bias=False) if adapted else None
        self.scaling = recipe.lora_alpha / recipe.lora_rank
        self.rate = recipe.lora_dropout
        found = _LAYER.search(name)
        self.number, self.place = (int(found[1]), place_of(found[2])) if found else (-1, 0)
        self.keys: tuple[Tensor, Tensor] | None = None  # of the tokens, and where documents start

    def forward(self, x_TI: Tensor) -> Tensor:
        if self.nf4 is None:
            y_TO = multiply(x_TI, self.weight, self.bias)  # pyright: ignore[reportArgumentType]
        else:
            y_TO = packed_linear(x_TI, self.nf4.packed(), self.bias)
        return y_TO if self.lora_A is None else y_TO + self.adapter(x_TI)

    def adapter(self, x_TI: Tensor) -> Tensor:
        """What the adapter adds."""
        assert self.lora_A is not None
        assert self.lora_B is not None
        keys_T = None if self.keys is None else own_keys(*self.keys, len(x_TI), self.place)
        return self.lora_B(self.lora_A(dropout(x_TI, keys_T, self.rate))) * self.scaling


def own_keys(keys_T: Tensor, starts_D: Tensor, rows: int, place: int) -> Tensor:
    """A key for every row that an adapter reads: those of all tokens, or of the first of every document."""
    keys = keys_T if rows == len(keys_T) else keys_T.index_select(0, starts_D)
    return scramble(keys ^ place)


def place_of(name: str) -> int:
    """An int32 for a linear layer's name within its layer."""
    value = zlib.crc32(name.encode())
    return value - 2**32 if value >= 2**31 else value


def adapt(module: nn.Module, weights: Mapping[str, Tensor], recipe: Recipe) -> None:
    """Put an `AdaptedLinear` where ``weights`` have an adapter or a packed weight."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.Linear) and weights.keys() & {f"{name}.lora_A.weight", f"{name}.nf4.codes"}:
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, AdaptedLinear(layer, name, weights, recipe))


def begin(module: nn.Module, keys_LST: Tensor | None, starts_D: Tensor) -> None:
    """Tell the adapters of a module what to drop by in the pass that follows; without keys they drop nothing."""
    for layer in module.modules():
        if isinstance(layer, AdaptedLinear):
            layer.keys = None if keys_LST is None else (keys_LST[layer.number + 1][EMBEDDING], starts_D)
