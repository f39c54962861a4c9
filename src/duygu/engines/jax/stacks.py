"""Tensors by Hugging Face's names and the same tensors as scanned layers need them: one array for all layers.

A layer that computes less than the others stands alone: the last of BERT (`duygu.engines.jax.bert.encode`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array

from duygu.training.parameters import Rule

Tree = dict[str, Array]  # names to tensors; a stacked one is named as its members are, with * for the layer's number


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
    prefix: str  # a layer's tensors are this, a dot, its number, a dot and the name within it
    stacked: range  # numbers of the layers that are alike; the others stand alone

    def stack(
        self, tensors: Mapping[str, np.ndarray], prefix: str, dtype: Callable[[str, np.dtype], Any] = lambda _, own: own
    ) -> Tree:
        """Tensors under ``prefix`` and their names, stacked in the order of the layers; 0 for one that is not there.

        ``dtype`` says by name and type in what type to hold a tensor. No more than one is in memory besides its stack.
        """
        tree: Tree = {}
        for stacked, members in self._stacks():
            first = _found(tensors, prefix, members[0])
            kind = dtype(stacked, first.dtype)
            if not stacked.startswith(f"{self.prefix}.*."):
                tree[stacked] = _placed(first.astype(kind, copy=False))
                continue
            rows = np.empty((len(members), *first.shape), kind)
            rows[0] = first
            for number, name in enumerate(members[1:], 1):
                rows[number] = _found(tensors, prefix, name)
            tree[stacked] = _placed(rows)
        return tree

    def unstack(self, tree: Tree, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
        """What `stack` stacked, by Hugging Face's names, in the order of the spec."""
        for name in self.names:
            stacked, index = self._stacked(name), self._layer(name) - self.stacked.start
            yield prefix + name, np.asarray(tree[stacked] if stacked == name else tree[stacked][index])

    def rules(self, rules: Mapping[str, Rule]) -> dict[str, StackedRule]:
        """The rules of stacked tensors, by stacked name."""
        found: dict[str, StackedRule] = {}
        for stacked, members in self._stacks():
            ones = [rules[member] for member in members]
            scale = np.array([one.scale * one.trainable for one in ones], np.float32)
            found[stacked] = StackedRule(scale, ones[0].decay, np.array([one.trainable for one in ones], np.float32))
        return found

    def layer(self, tree: Tree, number: int | None) -> Tree:
        """Tensors by their names within a layer: those of a layer that stands alone, or the stacked ones."""
        prefix = f"{self.prefix}.{'*' if number is None else number}."
        return {name.removeprefix(prefix): x for name, x in tree.items() if name.startswith(prefix)}

    def _stacks(self) -> Iterator[tuple[str, list[str]]]:
        """Stacked name and members, in the order of the layers."""
        order = sorted(self.names, key=lambda name: (self._stacked(name), self._layer(name)))
        for stacked, members in itertools.groupby(order, key=self._stacked):
            yield stacked, list(members)

    def _stacked(self, name: str) -> str:
        """The name under which a tensor is held: that of its stack, or its own."""
        number = self._layer(name)
        return name if number not in self.stacked else name.replace(f"{self.prefix}.{number}.", f"{self.prefix}.*.", 1)

    def _layer(self, name: str) -> int:
        """The number of a tensor's layer, -1 outside the layers."""
        found = re.match(rf"{re.escape(self.prefix)}\.(\d+)\.", name)
        return int(found[1]) if found else -1


def along_layers(values: np.ndarray, x: Array) -> np.ndarray | np.float32:
    """One value a layer, shaped to multiply a stacked tensor; a single one where all are equal."""
    return values[0] if (values == values[0]).all() else values.reshape(-1, *[1] * (x.ndim - 1))


def _placed(x: np.ndarray) -> Array:
    """On the device, in memory of its own: what an update takes over must be nobody else's."""
    return jax.device_put(x, may_alias=False).block_until_ready()  # else many copies wait for their turn


def _found(tensors: Mapping[str, np.ndarray], prefix: str, name: str) -> np.ndarray:
    """A tensor, or zeros: what is frozen has no moments."""
    found = tensors.get(prefix + name)
    return np.zeros_like(tensors[name]) if found is None else found
