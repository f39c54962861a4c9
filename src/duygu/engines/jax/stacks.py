"""Tensors by Hugging Face's names and the same tensors as scanned layers need them: one array for all layers.

The last layer stands alone, because it computes less than the others (`duygu.engines.jax.bert.encode`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from duygu.engines.jax.bert import LAYERS
from duygu.training.parameters import Rule

Tree = dict[str, Array]  # names to tensors; a stacked one is named STACKED + its name within a layer
STACKED = LAYERS + "*."


@dataclass(frozen=True, slots=True)
class StackedRule:
    """`Rule` of a stacked tensor: (layers,) values, or (1,) for a tensor that stands alone."""

    scale: np.ndarray
    decay: bool
    trainable: np.ndarray


@dataclass(frozen=True, slots=True)
class Stacks:
    """Which tensors of a model lie in which stack."""

    names: tuple[str, ...]  # Hugging Face's, in the order of the spec
    layers: int

    def stack(self, tensors: Mapping[str, np.ndarray], prefix: str) -> Tree:
        """Tensors under ``prefix`` and their names, stacked in the order of the layers; 0 for one that is not there."""
        tree: Tree = {}
        for stacked, members in self._stacks():
            arrays = [_found(tensors, prefix, name) for name in members]
            tree[stacked] = jnp.array(np.stack(arrays) if stacked.startswith(STACKED) else arrays[0])
        return tree

    def unstack(self, tree: Tree, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
        """What `stack` stacked, by Hugging Face's names, in the order of the spec."""
        for name in self.names:
            stacked = self._stacked(name)
            yield prefix + name, np.asarray(tree[stacked] if stacked == name else tree[stacked][_layer(name)])

    def rules(self, rules: Mapping[str, Rule]) -> dict[str, StackedRule]:
        """The rules of stacked tensors, by stacked name."""
        found: dict[str, StackedRule] = {}
        for stacked, members in self._stacks():
            ones = [rules[member] for member in members]
            scale = np.array([one.scale * one.trainable for one in ones], np.float32)
            found[stacked] = StackedRule(scale, ones[0].decay, np.array([one.trainable for one in ones], np.float32))
        return found

    def parts(self, tree: Tree) -> tuple[Tree, Tree]:
        """The stacked tensors and those of the last layer, by their names within a layer."""
        last = f"{LAYERS}{self.layers - 1}."
        return _below(tree, STACKED), _below(tree, last)

    def _stacks(self) -> Iterator[tuple[str, list[str]]]:
        """Stacked name and members, in the order of the layers."""
        order = sorted(self.names, key=lambda name: (self._stacked(name), _layer(name)))
        for stacked, members in itertools.groupby(order, key=self._stacked):
            yield stacked, list(members)

    def _stacked(self, name: str) -> str:
        """The name under which a tensor is held: that of its stack for one of a layer but the last, else its own."""
        return name if _layer(name) in (-1, self.layers - 1) else STACKED + name.split(".", LAYERS.count(".") + 1)[-1]


def along_layers(values: np.ndarray, x: Array) -> np.ndarray | np.float32:
    """One value a layer, shaped to multiply a stacked tensor; a single one where all are equal."""
    return values[0] if (values == values[0]).all() else values.reshape(-1, *[1] * (x.ndim - 1))


def _found(tensors: Mapping[str, np.ndarray], prefix: str, name: str) -> np.ndarray:
    """A tensor, or zeros: what is frozen has no moments."""
    found = tensors.get(prefix + name)
    return np.zeros_like(tensors[name]) if found is None else found


def _layer(name: str) -> int:
    """The number of a tensor's layer, -1 outside the layers."""
    found = re.match(rf"{re.escape(LAYERS)}(\d+)\.", name)
    return int(found[1]) if found else -1


def _below(tree: Tree, prefix: str) -> Tree:
    return {name.removeprefix(prefix): x for name, x in tree.items() if name.startswith(prefix)}
