"""AdamW as the recipe pins it, and what a run goes on with.

The JAX twin holds the same functions in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from duygu.recipe import Recipe
from duygu.training.parameters import parameter_rules


def optimiser(
    masters: Mapping[str, nn.Parameter], tensors: Mapping[str, np.ndarray], recipe: Recipe
) -> torch.optim.AdamW:
    """AdamW with one parameter group per rule, and the moments that ``tensors`` holds."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, rule in parameter_rules(list(masters), recipe).items():
        masters[name].requires_grad_(rule.trainable)
        if rule.trainable:
            groups.setdefault((rule.scale, rule.decay), []).append(masters[name])
    adam = torch.optim.AdamW(
        [
            {"params": parameters, "scale": scale, "weight_decay": recipe.weight_decay if decay else 0.0}
            for (scale, decay), parameters in groups.items()
        ],
        lr=recipe.lr,
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.eps,
        fused=True,
    )
    adam.state.update(moments(masters, tensors))
    return adam


def moments(masters: Mapping[str, nn.Parameter], tensors: Mapping[str, np.ndarray]) -> dict[Tensor, dict[str, Tensor]]:
    """Adam's moments that ``tensors`` holds, by master; PyTorch makes zeros of those that are absent."""
    return {
        master: {
            "step": torch.tensor(float(tensors["adam.count"])),
            "exp_avg": torch.from_numpy(tensors[f"adam.m/{name}"].copy()).to(master.device),
            "exp_avg_sq": torch.from_numpy(tensors[f"adam.v/{name}"].copy()).to(master.device),
        }
        for name, master in masters.items()
        if f"adam.m/{name}" in tensors
    }


def averages(
    masters: Mapping[str, nn.Parameter], tensors: Mapping[str, np.ndarray], recipe: Recipe
) -> dict[str, Tensor]:
    """The averages: those that ``tensors`` holds, else the masters as they are; none where the recipe wants none."""
    if not recipe.ema:
        return {}
    found: dict[str, Tensor] = {}
    for name, master in masters.items():
        held = tensors.get(f"ema/{name}")
        found[name] = master.detach().clone() if held is None else torch.from_numpy(held.copy()).to(master.device)
    return found


def clip(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale the gradient to the global norm ``limit`` if it is longer (0 never does); returns the norm it had."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if limit:
        shrink = (limit / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(shrink)
    return norm


def count(adam: torch.optim.AdamW) -> float:
    """Updates that the optimiser has made."""
    return max((float(entry["step"]) for entry in adam.state.values()), default=0.0)
