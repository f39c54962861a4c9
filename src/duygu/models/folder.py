"""The model folder: check, read, start a head, write. It is data: nothing in it is executed or unpickled.

What is read: ``config.json`` by allow-list, safetensors files and the tokenizer's files. Everything is checked when a
folder is opened; only the numbers themselves stay on disk until a tensor is looked up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from duygu.data.tokens import TextTokenizer
from duygu.errors import ModelError
from duygu.files import make_folder, sync_folder, write_bytes
from duygu.models.account import Account, is_expected, match_tensors
from duygu.models.adapter_folder import Base, is_adapter, read_adapters, read_trained, recipe_of, write_adapters
from duygu.models.adapters import quantised_tensors, with_adapters
from duygu.models.fallback import note
from duygu.models.families import FAMILIES, Family
from duygu.models.foreign import refuse_files
from duygu.models.packed_cache import cached
from duygu.models.padding import with_padding
from duygu.models.presets import PRESETS, ModelPreset
from duygu.models.progress import Progress, Talk
from duygu.models.source import FETCH_AGAIN, SAFETENSORS, Source, find_model, read_config, shard_places
from duygu.models.spec import (
    ModelSpec,
    family_of,
    read_labels,
    read_spec,
    tensor_shapes,
    unknown_keys,
    write_config,
)
from duygu.models.weights import (
    LazyTensors,
    Stored,
    Weights,
    initialise,
    read_header,
    weights_digest,
    write_safetensors,
)
from duygu.recipe import Recipe

__all__ = [
    "Account", "Model", "open_classifier", "open_model", "quantised", "weights_digest", "write_adapted", "write_model",
]  # fmt: skip

SCHEMA, WINDOWED = 1, 2  # of the "duygu" entry in config.json; where documents are read in windows, it says more
CALIBRATION = "calibration.json"  # the temperature; a file of its own, since other tools know nothing of it
TALK = Talk()
BY_DEFAULT = Recipe()
CHOOSE = "choose a checkpoint that has model.safetensors"
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".h5", ".keras", ".msgpack", ".npz"})
CODE = frozenset({".py", ".pyc", ".so", ".ipynb"})
UNCASED = re.compile(r"^(?!loodos/)(.*/)?bert-base-turkish-(128k-)?uncased(@.*)?/?$")  # loodos' is another model
UNCASED_FAULT = (  # https://github.com/dbmdz/berts/issues/35
    "{}: its vocabulary has ç, ğ, ö, ş, ü and â, but the texts that it was pre-trained on had lost them, so these "
    "entries have learnt nothing; dbmdz/bert-base-turkish-cased has no such fault"
)


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


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder's config and tensor headers."""

    source: Source
    config: dict[str, object]
    stored: dict[str, Stored]

    @property
    def path(self) -> Path:
        return self.source.folder

    @property
    def where(self) -> str:
        return str(self.path / "config.json")


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
    folder = _read_folder(find_model(source, progress, engines))
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
    found = _read_folder(place)
    _require_classifier(found)
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
    _write_rest(folder, spec, tokenizer, length, _cut(length, head_share, windows, overlap))


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
    _write_rest(folder, spec, tokenizer, recipe.length, {**_cut(*recipe.cut), "quantise": recipe.quantise})


def _cut(length: int, head_share: float, windows: int, overlap: float) -> dict[str, object]:
    """What `_truncation` reads back."""
    cut: dict[str, object] = {"length": length, "head_share": head_share, "schema": SCHEMA}
    return cut if windows == 1 else cut | {"windows": windows, "overlap": overlap, "schema": WINDOWED}


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


def _loaded(folder: _Folder, spec: ModelSpec, seed: int | None) -> Model:
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
    length, head_share, windows, overlap = _truncation(folder)
    through = () if spec.fallback is None else (note(spec.family),)
    warnings = (*through, *_warnings(folder, family, account), *tokenizer.warnings)
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
    own = _Folder(place, read_config(place.folder), {})
    spec = read_spec(own.config, read_labels(own.config, own.where), own.where)
    recipe = recipe_of(place.folder, fields, own.config.get("duygu"))
    model = _loaded(_read_folder(find_model(base.source, progress)), spec, seed=0)
    started = with_adapters(model.tensors, spec, recipe, quantised(model, recipe, progress))
    trained = read_trained(place.folder, spec, recipe)
    tensors = LazyTensors(
        {name: partial((trained if name in trained else started).__getitem__, name) for name in started}
    )
    length, head_share, windows, overlap = _truncation(own)
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


def _require_classifier(folder: _Folder) -> None:
    """Refuse what has the tensors of a classifier of one label per text but is none."""
    fix = "train it first: duygu train DATA --model FOLDER --out RUN"
    family = FAMILIES.get(str(folder.config["model_type"]))
    wanted = re.escape(family.architecture) if family else r"\w+ForSequenceClassification"  # a fallback's all end so
    architectures = folder.config.get("architectures")
    names = cast(list[object], architectures) if isinstance(architectures, list) else []
    if architectures and not any(re.fullmatch(wanted, str(name)) for name in names):
        problem = f"a model of architectures {architectures!r} is no text classifier"
        raise ModelError(problem, f"{folder.where}: architectures", fix)
    kind = folder.config.get("problem_type")
    if kind not in (None, "single_label_classification"):
        raise ModelError(f"problem_type {kind!r} does not choose one label", f"{folder.where}: problem_type", fix)


def _truncation(folder: _Folder) -> tuple[int | None, float | None, int, float]:
    """Length, head share, most windows and their overlap, as duygu recorded them when it wrote the folder."""
    entry = folder.config.get("duygu")
    if entry is None:
        return None, None, 1, 0.0
    record = cast(dict[str, object], entry) if isinstance(entry, dict) else {}
    length, share = record.get("length"), record.get("head_share")
    windows, overlap = record.get("windows", 1), record.get("overlap", 0.0)
    if not (_counts(length) and _is_share(share) and _counts(windows) and _is_share(overlap)):
        fix = 'write it as {"length": 256, "head_share": 0.75, "schema": 1} or remove it'
        raise ModelError("the entry duygu is not understood", f"{folder.where}: duygu", fix)
    if record.get("schema") not in (SCHEMA, WINDOWED):
        problem = f"the folder has schema {record.get('schema')!r}, this version reads {SCHEMA} and {WINDOWED}"
        raise ModelError(problem, f"{folder.where}: duygu", "use the version of duygu that wrote it")
    return cast(int, length), float(cast(float, share)), cast(int, windows), float(cast(float, overlap))


def _counts(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= cast(float, value) <= 1


def _warnings(folder: _Folder, family: Family, account: Account) -> tuple[str, ...]:
    """What the user should know: files left alone, config keys and tensors not used, a head replaced."""
    source = folder.source
    closed = [name for name in _closed_files(source.folder, PICKLES | CODE) if name not in source.converted]
    unknown = unknown_keys(folder.config)
    names = (source.name, str(source.revision), str(folder.config.get("_name_or_path")))
    uncased = [name for name in names if UNCASED.search(name)][:1]
    head = [name for name in account.ignored if name in family.head]
    odd = [name for name in account.ignored if name not in head and not is_expected(name, family)]
    messages = (
        (closed, "never opened, since such files can hold code: {}"),
        (unknown, "config.json keys that are not known here and not used: {}"),
        (head, "the checkpoint's own classifier is replaced by a new one: {}"),
        (odd, "tensors that a classifier does not need are ignored: {}"),
        (uncased, UNCASED_FAULT),
    )
    return tuple(text.format(", ".join(names)) for names, text in messages if names)


def _closed_files(folder: Path, suffixes: frozenset[str]) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in suffixes)


def _read_folder(source: Source) -> _Folder:
    config = read_config(source.folder)
    return _Folder(source, config, _read_headers(source.weights))


def _read_headers(folder: Path) -> dict[str, Stored]:
    """Every tensor of ``model.safetensors`` or of the shards that its index lists."""
    whole, index = (folder / name for name in SAFETENSORS)
    if whole.exists():
        return read_header(whole)
    if index.exists():
        return _read_shards(folder, index)
    refuse_files((path.name for path in folder.iterdir()), str(folder))
    closed = _closed_files(folder, PICKLES)
    if not closed:
        raise ModelError("the folder has no model.safetensors", str(folder), CHOOSE)
    problem = f"the weights are only there as {', '.join(closed)}, and opening such a file can run any code in it"
    fix = f"{CHOOSE}, or convert it where you trust it: load it with transformers and call save_pretrained"
    raise ModelError(problem, str(folder), fix)


def _read_shards(folder: Path, index: Path) -> dict[str, Stored]:
    """Every tensor, from exactly the shard that the index names for it."""
    places = shard_places(index)
    found = [stored for shard in sorted(set(places.values())) for stored in read_header(folder / shard).values()]
    by_place = {(stored.name, stored.path.name): stored for stored in found}
    wrong = {name for name, _ in by_place.keys() ^ places.items()}
    if wrong:
        problem = f"the shards do not hold what the index says: {', '.join(sorted(wrong))}"
        raise ModelError(problem, str(index), FETCH_AGAIN)
    return {name: stored for (name, _), stored in by_place.items()}
