"""AdamW as the recipe pins it, and what a run goes on with.

The PyTorch twin holds the same functions in the same order. optax makes the step; its rate and the decay of the weights
are `duygu.engines.jax.engine.Compute.update`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from duygu.engines.jax.stacks import Stacks, Tree
from duygu.recipe import Recipe

Moments = Any  # optax's state of Adam: count, mu and nu, the last two trees like the masters


def optimiser(recipe: Recipe) -> optax.GradientTransformation:
    """What makes a step of a gradient and its moments."""
    return optax.scale_by_adam(b1=recipe.beta1, b2=recipe.beta2, eps=recipe.eps)


def moments(stacks: Stacks, tensors: Mapping[str, np.ndarray], masters: Tree) -> Moments:
    """Adam's moments: those that ``tensors`` holds, else zeros."""
    if "adam.count" not in tensors:
        zeros = [{name: jnp.zeros_like(x) for name, x in masters.items()} for _ in range(2)]
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), *zeros)
    count = jnp.asarray(int(tensors["adam.count"]), jnp.int32)
    return optax.ScaleByAdamState(count, stacks.stack(tensors, "adam.m/"), stacks.stack(tensors, "adam.v/"))


def averages(stacks: Stacks, tensors: Mapping[str, np.ndarray], masters: Tree, recipe: Recipe) -> Tree:
    """The averages: those that ``tensors`` holds, else the masters as they are; none where the recipe wants none."""
    if not recipe.ema:
        return {}
    if f"ema/{stacks.names[0]}" in tensors:
        return stacks.stack(tensors, "ema/")
    return {name: jnp.array(x) for name, x in masters.items()}  # copies: an update takes over the masters' memory


def clip(gradient: Tree, limit: float) -> tuple[Tree, Array]:
    """The gradient, scaled to the global norm ``limit`` if it is longer (0 never does), and the norm it had."""
    norm = optax.tree.norm(gradient)
    if limit:
        shrink = jnp.minimum(1.0, limit / (norm + 1e-6))  # PyTorch's rule, to the epsilon
        gradient = jax.tree.map(lambda g: g * shrink, gradient)
    return gradient, norm
