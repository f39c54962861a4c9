"""The model that a run leaves: whole, or the adapters that it learnt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from duygu.models.adapter_folder import base_of, leaves_adapters
from duygu.models.adapters import merged
from duygu.models.folder import write_adapted, write_model
from duygu.recipe import Recipe
from duygu.training.preparation import Setup, first_tensors


def write_result(folder: Path, setup: Setup, recipe: Recipe, tensors: Iterable[tuple[str, np.ndarray]]) -> None:
    """Fill the model folder of a run with what its engine gives, streamed."""
    model, spec = setup.model, setup.model.spec
    if leaves_adapters(model.name, recipe):
        base = base_of(model.name, model.revision, model.files)
        write_adapted(folder, base, spec, recipe, tensors, model.tokenizer)
        return
    if recipe.lora_rank:
        tensors = merged(first_tensors(model, recipe), dict(tensors), spec, recipe)
    write_model(folder, spec, tensors, model.tokenizer, *recipe.cut)
