"""The adapter folder: what a run with adapters learnt, as PEFT writes and reads it, and what duygu needs besides.

``adapter_config.json`` names the model that the adapters belong to; ``adapter_model.safetensors`` has them and the
head. ``config.json`` holds the labels and, under ``duygu``, how documents were cut, whether the layers' own weights
were quantised, and which weights of a folder they were trained beside. ``peft.PeftModel.from_pretrained`` opens the
folder, and so does `duygu.models.folder.open_classifier`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from duygu.errors import ModelError, RecipeError
from duygu.files import read_json, write_bytes
from duygu.models.adapters import adapted_layers, trained_shapes
from duygu.models.families import Shapes
from duygu.models.presets import PRESETS
from duygu.models.source import ADAPTERS as CONFIG
from duygu.models.source import SAFETENSORS
from duygu.models.spec import ModelSpec, tensor_shapes
from duygu.models.weights import LazyTensors, file_digests, read_header, write_safetensors
from duygu.recipe import Recipe

WEIGHTS = "adapter_model.safetensors"
BASE = "base_model_name_or_path"
PREFIX = "base_model.model."  # of every name in PEFT's files
UNUSUAL: Mapping[str, tuple[object, ...]] = {  # what would change the arithmetic, and what it must be
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_rslora": (False,),
    "use_dora": (False,),
    "fan_in_fan_out": (False,),
    "layers_to_transform": (),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "lora_bias": (False,),
}


@dataclass(frozen=True, slots=True)
class Base:
    """The model that adapters belong to."""

    name: str  # a folder in full, or owner/name of the hub
    revision: str | None  # the hub's commit
    digest: str | None = None  # of a folder's weight files, as the adapters were trained beside; a commit never changes

    @property
    def source(self) -> str:
        """What `duygu.models.source.find_model` finds it by."""
        return f"{self.name}@{self.revision}" if self.revision else self.name


def base_of(name: str, revision: str | None, files: Sequence[Path]) -> Base:
    """The base that a run began with: the model as the user gave it, ``owner/name@commit`` of one of the hub, and the
    files of its weights."""
    if revision:
        repository, _, commit = revision.partition("@")
        return Base(repository, commit)
    return Base(str(Path(name).expanduser().resolve()), None, digest_of(files))


def digest_of(files: Sequence[Path]) -> str:
    """SHA-256 over the digests of a model's weight files, in the order of their names."""
    return hashlib.sha256("".join(file_digests(files)).encode()).hexdigest()


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds adapters and not a model."""
    return (folder / CONFIG).is_file()


def refuse_adapters(folder: Path) -> None:
    """Raise `ModelError` for a folder of adapters, where a model to train is wanted."""
    if is_adapter(folder) and not any((folder / name).exists() for name in SAFETENSORS):
        base, _ = read_adapters(folder)
        problem = "the folder holds adapters, and training starts from a whole model"
        fix = f"start from {base.source}, or train the adapters with --merge and start from what that leaves"
        raise ModelError(problem, str(folder), fix)


def leaves_adapters(model: str, recipe: Recipe) -> bool:
    """Whether a run of ``model`` leaves an adapter folder, or a whole model.

    Adapters to a model from scratch, which has no files, belong to nothing that could be opened again.
    """
    return recipe.lora_rank > 0 and recipe.lora_save == "adapter" and model not in PRESETS


def write_adapters(
    folder: Path, base: Base, spec: ModelSpec, recipe: Recipe, tensors: Iterable[tuple[str, np.ndarray]]
) -> None:
    """Write PEFT's two files; ``tensors`` are those of `trained_shapes`, streamed."""
    shapes = {f"{PREFIX}{name}": shape for name, shape in trained_shapes(spec, recipe).items()}
    write_safetensors(folder / WEIGHTS, shapes, ((f"{PREFIX}{name}", tensor) for name, tensor in tensors))
    alpha = float(recipe.lora_alpha)
    config: dict[str, object] = {
        BASE: base.name,
        "revision": base.revision,
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "r": recipe.lora_rank,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "lora_dropout": recipe.lora_dropout,
        "target_modules": list(adapted_layers(tensor_shapes(spec), recipe)),
        "modules_to_save": saved_modules(trained_shapes(spec, recipe)),
        "bias": "none",
        "inference_mode": True,
    }
    write_bytes(folder / CONFIG, f"{json.dumps(config, indent=2)}\n".encode())


def read_adapters(folder: Path) -> tuple[Base, dict[str, Any]]:
    """The base and the fields of a recipe that the adapters were trained with. Raises `ModelError`."""
    where = str(folder / CONFIG)
    config = read_json(folder / CONFIG, error=ModelError)
    for key, usual in UNUSUAL.items():
        if config.get(key) and config[key] not in usual:
            problem = f"{key} = {config[key]!r} is a kind of adapter that is not computed here"
            raise ModelError(problem, f"{where}: {key}", "merge it into its model with PEFT, and give that folder")
    name, revision = config.get(BASE), config.get("revision")
    targets = config.get("target_modules")
    if not isinstance(name, str) or not isinstance(targets, list) or not isinstance(revision, str | None):
        problem = "it does not say which model the adapters belong to, or which layers have them"
        raise ModelError(problem, where, "give a folder that duygu train wrote")
    fields = {
        "lora_rank": config.get("r"),
        "lora_alpha": config.get("lora_alpha"),
        "lora_targets": ",".join(map(str, cast(list[object], targets))),
    }
    return Base(name, revision), fields


def require_base(folder: Path, base: Base) -> None:
    """Raise `ModelError` for a base that was a folder and is no longer there."""
    path = Path(base.name)
    if path.is_absolute() and not path.is_dir():
        problem = f"the model that these adapters belong to is no longer there: {path}"
        fix = f"put that folder back, or write where it is now, in full, as {BASE} in {CONFIG}"
        raise ModelError(problem, f"{folder / CONFIG}: {BASE}", fix)


def require_same_base(folder: Path, base: Base, files: Sequence[Path], entry: object) -> None:
    """Raise `ModelError` where the base's weights are others than those that the adapters were trained beside.

    ``entry`` is what config.json says under ``duygu``; a folder that says nothing of its base is believed.
    """
    was = cast(dict[str, object], entry).get("base") if isinstance(entry, dict) else None
    if was is None or base.revision is not None or was == digest_of(files):
        return
    problem = f"these adapters were trained beside other weights than those that are now in {base.name}"
    fix = "put the weights back as they were, or train again; if only the file is another, not its numbers, remove base"
    raise ModelError(problem, f"{folder / 'config.json'}: duygu: base", fix)


def read_trained(folder: Path, spec: ModelSpec, recipe: Recipe) -> Mapping[str, np.ndarray]:
    """Adapters and head, read one by one. Raises `ModelError` where they are not all there, or are others."""
    stored = {name.removeprefix(PREFIX): tensor for name, tensor in read_header(folder / WEIGHTS).items()}
    wanted: Shapes = trained_shapes(spec, recipe)
    wrong = sorted(
        name
        for name in wanted.keys() | stored.keys()
        if name not in wanted or name not in stored or stored[name].shape != wanted[name] or not stored[name].readable
    )
    if wrong:
        problem = f"its tensors are not those of its configuration: {', '.join(wrong[:5])}"
        raise ModelError(problem, str(folder / WEIGHTS), "take both files from one and the same run")
    return LazyTensors({name: stored[name].read for name in wanted})


def recipe_of(folder: Path, fields: Mapping[str, Any], entry: object) -> Recipe:
    """The recipe to start an engine with; ``entry`` is what config.json says under ``duygu``."""
    kind = cast(dict[str, object], entry).get("quantise", "none") if isinstance(entry, dict) else "none"
    try:
        return Recipe().changed({**fields, "quantise": kind})
    except RecipeError as error:
        raise ModelError(error.problem, str(folder / CONFIG), "give a folder that duygu train wrote") from error


def saved_modules(trained: Shapes) -> list[str]:
    """PEFT's ``modules_to_save``: the modules of the head. PEFT adds ``classifier``, so its parts must not be named."""
    heads = [name.rpartition(".")[0] for name in trained if ".lora_" not in name]
    return list(dict.fromkeys("classifier" if head.startswith("classifier.") else head for head in heads))
