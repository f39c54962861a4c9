"""Linear layers with adapters beside them, Hu et al. (2021), arXiv:2106.09685, or with weights of 4 bits, or both.

The PyTorch twin holds the same functions in the same order. Names are PEFT's: ``LAYER.lora_A.weight``. What an adapter
reads is dropped by the hash of `dropout`: by a place within the layers that nothing else uses, mixed with the layer's
name.

    T  rows: tokens, or first tokens of documents      I  inputs      O  outputs      R  width of the adapter
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from duygu.engines.jax.dropout import EMBEDDING, dropout, scramble
from duygu.engines.jax.nf4 import packed_linear
from duygu.engines.jax.products import multiply
from duygu.models import nf4
from duygu.recipe import Recipe

PLACE = "adapters"  # among a layer's tensors


@partial(jax.tree_util.register_dataclass, data_fields=["keys_T", "starts_D"], meta_fields=["scaling", "rate"])
@dataclass(frozen=True)
class Adapters:
    """What the adapters of one layer need besides their tensors; those of stacked layers, one more axis before."""

    keys_T: Array | None  # what to drop by; without, nothing is dropped
    starts_D: Array | None  # where documents start
    scaling: float
    rate: float


def adapted_linear(x_TI: Array, w: Mapping[str, Any], name: str) -> Array:
    """(T, O): a linear layer that stays as it is, in full or in 4 bits, and the adapter that learns, if it has one."""
    bias_O = w.get(f"{name}.bias")
    if f"{name}.nf4.codes" in w:
        codes, scales, groups, offset = (w.get(f"{name}.nf4.{part}") for part in nf4.Packed.__slots__)
        y_TO = packed_linear(x_TI, (codes, scales, groups, offset), bias_O)
    else:
        y_TO = multiply(x_TI, w[f"{name}.weight"], bias_O)
    return y_TO + adapter(x_TI, w, name) if f"{name}.lora_A.weight" in w else y_TO


def adapter(x_TI: Array, w: Mapping[str, Any], name: str) -> Array:
    """What the adapter adds."""
    own: Adapters = w[PLACE]
    keys_T = None if own.keys_T is None else own_keys(own.keys_T, own.starts_D, len(x_TI), place_of(name))
    x_TI = dropout(x_TI, keys_T, own.rate)
    return multiply(multiply(x_TI, w[f"{name}.lora_A.weight"]), w[f"{name}.lora_B.weight"]) * own.scaling


def own_keys(keys_T: Array, starts_D: Array | None, rows: int, place: int) -> Array:
    """A key for every row that an adapter reads: those of all tokens, or of the first of every document."""
    keys = keys_T if rows == len(keys_T) else keys_T[starts_D]
    return scramble(keys ^ place)


def place_of(name: str) -> int:
    """An int32 for a linear layer's name within its layer."""
    value = zlib.crc32(name.encode())
    return value - 2**32 if value >= 2**31 else value


def is_adapted(w: Mapping[str, Any], name: str) -> bool:
    """Whether ``w`` has an adapter or a packed weight for a layer."""
    return f"{name}.lora_A.weight" in w or f"{name}.nf4.codes" in w


def begin(
    number: int | None, stacked: range, keys_LST: Array | None, starts_D: Array, recipe: Recipe
) -> dict[str, Adapters]:
    """What to lay among the tensors of layer ``number``, or without one among those of the ``stacked`` layers."""
    scaling, rate = recipe.lora_alpha / recipe.lora_rank, recipe.lora_dropout
    if keys_LST is None or not rate:
        return {PLACE: Adapters(None, None, scaling, rate)}
    keys_LT = keys_LST[1:, EMBEDDING]
    if number is not None:
        return {PLACE: Adapters(keys_LT[number], starts_D, scaling, rate)}
    starts_LD = jnp.broadcast_to(starts_D, (len(stacked), *starts_D.shape))
    return {PLACE: Adapters(keys_LT[stacked.start : stacked.stop], starts_LD, scaling, rate)}
