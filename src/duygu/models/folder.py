"""The model folder: check, read, start a head, write. It is data: nothing in it is executed or unpickled.

What is read: ``config.json`` by allow-list, safetensors files and the tokenizer's files. Everything is checked when a
folder is opened; only the numbers themselves stay on disk until a tensor is looked up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from duygu.data.tokens import TextTokenizer
from duygu.errors import ModelError
from duygu.files import make_folder, sync_folder, write_bytes
from duygu.models.account import Account, match_tensors
from duygu.models.adapter_folder import (
    Base,
    is_adapter,
    read_adapters,
    read_trained,
    recipe_of,
    refuse_adapters,
    require_base,
    require_same_base,
    write_adapters,
)
from duygu.models.adapters import quantised_tensors, with_adapters
from duygu.models.fallback import note
from duygu.models.folder_files import Folder, cut_entry, read_cut, read_folder, require_classifier, warnings_of
from duygu.models.packed_cache import cached
from duygu.models.padding import with_padding
from duygu.models.presets import PRESETS, ModelPreset
from duygu.models.progress import Progress, Talk
from duygu.models.source import Source, find_model, read_config
from duygu.models.spec import ModelSpec, family_of, read_labels, read_spec, tensor_shapes, write_config
from duygu.models.weights import LazyTensors, Weights, initialise, weights_digest, write_safetensors
from duygu.recipe import Recipe

__all__ = [
    "Account", "Model", "open_classifier", "open_model", "quantised", "weights_digest", "write_adapted", "write_model",
]  # fmt: skip

CALIBRATION = "calibration.json"  # the temperature; a file of its own, since other tools know nothing of it
TALK = Talk()
BY_DEFAULT = Recipe()


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be trained or used; its tensors are read, or made, one by one when they are looked up."""

    name: str  # as the user gave it
    spec: ModelSpec
    config: Mapping[str, object]  # the config.json that a result is written with
    tensors: Mapping[str, np.ndarray]  # complete, float32, in the order of `tensor_shapes`
    account: Account
    tokenizer: TextTokenizer
    length: int | None  # tokens per document and share of the head, where duygu wrote the folder
    head_share: float | None
    warnings: tuple[str, ...]
    revision: str | None = None  # "owner/name@commit" of a model that came from the hub
    windows: int = 1  # at most so many of a document, and how they overlap
    overlap: float = 0.0
    files: tuple[Path, ...] = ()  # that its weights are read from
    recipe: Recipe = BY_DEFAULT  # to start an engine with: that of the adapters, where there are any


def open_model(
    source: str | Path,
    labels: Sequence[str],
    seed: int,
    texts: Callable[[], Sequence[str]],
    progress: Progress = TALK,
    engines: Sequence[str] = (),
    pad_token: str = "",
) -> Model:
    """A model to train: a preset, a local Hugging Face folder or a model of the hub; its head is drawn from ``seed``.

    ``texts`` gives the training texts; it is called only for a preset whose tokenizer is trained on them. A folder
    of a preset's name is reached as ``./tiny``. ``pad_token`` is for models that name none. Raises `ModelError`, also
    for a model that one of ``engines`` cannot compute.
    """
    if isinstance(source, str) and source in PRESETS:
        return _from_scratch(PRESETS[source], labels, seed, texts())
    place = find_model(source, progress, engines)
    refuse_adapters(place.folder)
    folder = read_folder(place)
    spec = read_spec(folder.config, labels, folder.where)
    model = _loaded(folder, spec, seed)
    spec, tokenizer = with_padding(model.spec, model.tokenizer, pad_token, folder.where)
    return replace(model, spec=spec, config=write_config(spec), tokenizer=tokenizer)


def open_classifier(source: str | Path, progress: Progress = TALK, engines: Sequence[str] = ()) -> Model:
    """A finished classifier, in a folder or on the hub: every tensor is there and ``id2label`` names its labels.

    Raises `ModelError`, also for a model that one of ``engines`` cannot compute.
    """
    place = find_model(source, progress, engines)
    if is_adapter(place.folder):
        return _adapted(place, progress)
    found = read_folder(place)
    require_classifier(found)
    spec = read_spec(found.config, read_labels(found.config, found.where), found.where)
    return _loaded(found, spec, seed=None)


def write_model(
    folder: Path,
    spec: ModelSpec,
    tensors: Iterable[tuple[str, np.ndarray]],
    tokenizer: TextTokenizer,
    length: int,
    head_share: float,
    windows: int = 1,
    overlap: float = 0.0,
) -> None:
    """Write a folder that `open_classifier` and transformers' ``AutoModelForSequenceClassification`` open.

    ``tensors`` are exactly those of `tensor_shapes`, streamed: one at a time is in memory. All files are fsynced.
    """
    make_folder(folder)
    write_safetensors(folder / "model.safetensors", tensor_shapes(spec), tensors)
    _write_rest(folder, spec, tokenizer, length, cut_entry(length, head_share, windows, overlap))


def write_adapted(
    folder: Path,
    base: Base,
    spec: ModelSpec,
    recipe: Recipe,
    tensors: Iterable[tuple[str, np.ndarray]],
    tokenizer: TextTokenizer,
) -> None:
    """Write an adapter folder that `open_classifier` and PEFT open; ``tensors`` are what learnt, streamed."""
    make_folder(folder)
    write_adapters(folder, base, spec, recipe, tensors)
    about = {**cut_entry(*recipe.cut), "quantise": recipe.quantise, **({"base": base.digest} if base.digest else {})}
    _write_rest(folder, spec, tokenizer, recipe.length, about)


def _write_rest(
    folder: Path, spec: ModelSpec, tokenizer: TextTokenizer, length: int, about: Mapping[str, object]
) -> None:
    """All but the weights."""
    config = write_config(spec) | {"duygu": about}
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False, sort_keys=True)
    tokenizer.save(folder, length)
    write_bytes(folder / "config.json", f"{text}\n".encode())  # last: a folder cut short is no model
    sync_folder(folder)


def _from_scratch(preset: ModelPreset, labels: Sequence[str], seed: int, texts: Sequence[str]) -> Model:
    tokenizer = TextTokenizer.train(texts, preset.vocabulary)
    config = write_config(preset.spec(tokenizer.vocabulary, tokenizer.pad_id, labels))
    spec = read_spec(config, labels, f"preset {preset.name}")
    shapes = tensor_shapes(spec)
    tensors = LazyTensors({name: partial(initialise, name, shape, spec, seed) for name, shape in shapes.items()})
    account = Account(loaded=(), initialised=tuple(shapes), ignored=(), renamed=())
    return Model(preset.name, spec, config, tensors, account, tokenizer, None, None, tokenizer.warnings)


def _loaded(folder: Folder, spec: ModelSpec, seed: int | None) -> Model:
    """The folder's model; without a seed nothing may be initialised."""
    family, shapes = family_of(spec), tensor_shapes(spec)
    account, sources = match_tensors(folder.stored, family, shapes, seed is not None, str(folder.path))
    tokenizer = TextTokenizer.from_folder(folder.path)
    if tokenizer.vocabulary > spec.vocabulary:
        problem = f"the tokenizer has {tokenizer.vocabulary} entries, the word embedding only {spec.vocabulary} rows"
        raise ModelError(problem, str(folder.path), "put tokenizer and weights of the same model together")
    makers: dict[str, Callable[[], Weights]] = {}
    for tensor, shape in shapes.items():
        made = partial(initialise, tensor, shape, spec, seed or 0)
        makers[tensor] = sources[tensor].read if tensor in sources else made
    length, head_share, windows, overlap = read_cut(folder)
    through = () if spec.fallback is None else (note(spec.family),)
    warnings = (*through, *warnings_of(folder, family, account), *tokenizer.warnings)
    config = write_config(spec)
    name, revision = folder.source.name, folder.source.revision
    files = tuple(sorted({stored.path for stored in sources.values()}))
    return Model(
        name, spec, config, LazyTensors(makers), account, tokenizer, length, head_share, warnings, revision, windows,
        overlap, files,
    )  # fmt: skip


def _adapted(place: Source, progress: Progress) -> Model:
    """A classifier whose folder holds adapters: the model that these belong to, with them."""
    base, fields = read_adapters(place.folder)
    own = Folder(place, read_config(place.folder), {})
    spec = read_spec(own.config, read_labels(own.config, own.where), own.where)
    entry = own.config.get("duygu")
    recipe = recipe_of(place.folder, fields, entry)
    require_base(place.folder, base)
    model = _loaded(read_folder(find_model(base.source, progress)), spec, seed=0)
    require_same_base(place.folder, base, model.files, entry)
    started = with_adapters(model.tensors, spec, recipe, quantised(model, recipe, progress))
    trained = read_trained(place.folder, spec, recipe)
    tensors = LazyTensors(
        {name: partial((trained if name in trained else started).__getitem__, name) for name in started}
    )
    length, head_share, windows, overlap = read_cut(own)
    tokenizer = TextTokenizer.from_folder(place.folder)
    return replace(
        model, name=place.name, config=write_config(spec), tensors=tensors, tokenizer=tokenizer, length=length,
        head_share=head_share, windows=windows, overlap=overlap, recipe=recipe, warnings=tokenizer.warnings,
    )  # fmt: skip


def quantised(model: Model, recipe: Recipe, progress: Progress = TALK) -> Mapping[str, np.ndarray]:
    """The model's quantised tensors, from the cache where they were made before; none where the recipe wants none."""
    if recipe.quantise == "none":
        return {}
    shapes = tensor_shapes(model.spec)
    if not model.files:
        return quantised_tensors(model.tensors, shapes, recipe)
    return cached(model.files, model.tensors, shapes, recipe, progress)
