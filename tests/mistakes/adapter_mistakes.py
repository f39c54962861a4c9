"""Adapters and weights of 4 bits that cannot be trained or used: what a user gave, and what the answer says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from duygu.models.adapter_folder import base_of
from duygu.models.adapters import trained_shapes, with_adapters
from duygu.models.folder import open_model, write_adapted
from duygu.recipe import Recipe
from tests.mistakes.case import Mistake
from tests.mistakes.model_mistakes import train
from tests.mistakes.run_mistakes import asked
from tests.models.harms import QUERY, weights
from tests.models.small_models import LABELS, write_model_folder

Make = Callable[[Path], list[str]]
BASE, ADAPTERS = "base", "adapters"
RECIPE = Recipe(lora_rank=2, length=16)


def write_adapters(folder: Path) -> None:
    """What a run with adapters leaves, and the model that they belong to."""
    place = write_model_folder(folder / BASE)
    model = open_model(place, LABELS, 1, list)
    tensors = with_adapters(model.tensors, model.spec, RECIPE)
    learnt = {name: np.asarray(tensors[name]) for name in trained_shapes(model.spec, RECIPE)}
    base = base_of(str(place), None, model.files)
    write_adapted(folder / ADAPTERS, base, model.spec, RECIPE, learnt.items(), model.tokenizer)


def used(harm: Callable[[Path], object]) -> Make:
    """Predicting with adapters after ``harm`` to the folder that holds both."""

    def make(folder: Path) -> list[str]:
        write_adapters(folder)
        harm(folder)
        return ["predict", ADAPTERS, "hisse", "--engine", "torch", "--threads", "1"]

    return make


def trained_from(folder: Path) -> list[str]:
    write_adapters(folder)
    return train(folder, ADAPTERS)


def settings(**changes: object) -> Callable[[Path], object]:
    """Other values in ``adapter_config.json``."""

    def harm(folder: Path) -> None:
        path = folder / ADAPTERS / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")

    return harm


def other_weights(folder: Path) -> None:
    weights(lambda tensors: tensors[QUERY].__setitem__((3, 4), 1.0))(folder / BASE)


CASES = [
    ("--merge without adapters", asked("--merge"), "there are no adapters to merge", "--merge"),
    ("4 bits without adapters", asked("--set", "quantise=nf4"), "weights of 4 bits cannot learn", "quantise"),
    ("adapters for layers of another family", asked("--set", "lora_rank=4", "--set", "lora_targets=q_proj"),
     "no linear layer's name ends with q_proj", "lora_targets"),
    ("adapters for one layer", asked("--set", "lora_rank=4", "--set", "lora_targets=1.attention.self.query"),
     "would have adapters in 1 layers only", "lora_targets"),
    ("adapters and frozen layers", asked("--set", "lora_rank=4", "--set", "frozen=1"), "does not go with adapters",
     "frozen"),
    ("training from adapters", trained_from, "training starts from a whole model", ADAPTERS),
    ("adapters whose model was deleted", used(lambda folder: shutil.rmtree(folder / BASE)), "is no longer there",
     "base_model_name_or_path"),
    ("adapters whose model is another by now", used(other_weights), "trained beside other weights", "duygu: base"),
    ("adapters without their weights", used(lambda folder: (folder / ADAPTERS / "adapter_model.safetensors").unlink()),
     "cannot be opened", "adapter_model.safetensors"),
    ("adapters of another kind", used(settings(use_dora=True)), "a kind of adapter that is not computed here",
     "use_dora"),
    ("adapters that name no model", used(settings(base_model_name_or_path=None)), "does not say which model",
     "adapter_config.json"),
    ("adapters of another width", used(settings(r=4)), "its tensors are not those of its configuration",
     "adapter_model.safetensors"),
]  # fmt: skip

MISTAKES: list[Mistake] = [Mistake("Adapters", what, make, says, where) for what, make, says, where in CASES]
