"""The model folder: resolve, check, read, start a head, write. It is data: nothing in it is executed or unpickled.

What is read: ``config.json`` by allow-list, safetensors files and the tokenizer's files. Everything is checked when a
folder is opened; only the numbers themselves stay on disk until a tensor is looked up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from duygu.data.tokens import TextTokenizer
from duygu.errors import ModelError
from duygu.files import make_folder, read_json, sync_folder, write_bytes
from duygu.models.account import Account, is_expected, match_tensors
from duygu.models.presets import PRESETS, ModelPreset
from duygu.models.spec import (
    FAMILIES,
    Family,
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

__all__ = ["Account", "Model", "open_classifier", "open_model", "weights_digest", "write_model"]

SCHEMA = 1  # of the "duygu" entry in config.json
JSON_LIMIT = 16 << 20  # bytes
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".h5", ".keras", ".msgpack", ".npz"})
CODE = frozenset({".py", ".pyc", ".so", ".ipynb"})


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


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder's config and tensor headers."""

    path: Path
    config: dict[str, object]
    stored: dict[str, Stored]

    @property
    def where(self) -> str:
        return str(self.path / "config.json")


def open_model(source: str | Path, labels: Sequence[str], seed: int, texts: Callable[[], Sequence[str]]) -> Model:
    """A model to train: a preset by name, or a local Hugging Face folder; its head is new, drawn from ``seed``.

    ``texts`` gives the training texts; it is called only for a preset whose tokenizer is trained on them. A folder
    of a preset's name is reached as ``./tiny``. Raises `ModelError`.
    """
    if isinstance(source, str) and source in PRESETS:
        return _from_scratch(PRESETS[source], labels, seed, texts())
    folder = _read_folder(source)
    spec = read_spec(folder.config, labels, folder.where)
    return _loaded(str(source), folder, spec, seed)


def open_classifier(folder: str | Path) -> Model:
    """A finished classifier: every tensor is in the folder and its labels are in ``id2label``. Raises `ModelError`."""
    found = _read_folder(folder)
    family = family_of(found.config, found.where)
    _require_classifier(found, family)
    spec = read_spec(found.config, read_labels(found.config, found.where), found.where)
    return _loaded(str(folder), found, spec, seed=None)


def write_model(
    folder: Path,
    spec: ModelSpec,
    tensors: Iterable[tuple[str, np.ndarray]],
    tokenizer: TextTokenizer,
    length: int,
    head_share: float,
) -> None:
    """Write a folder that `open_classifier` and transformers' ``AutoModelForSequenceClassification`` open.

    ``tensors`` are exactly those of `tensor_shapes`, streamed: one at a time is in memory. All files are fsynced.
    """
    make_folder(folder)
    write_safetensors(folder / "model.safetensors", tensor_shapes(spec), tensors)
    config = write_config(spec) | {"duygu": {"length": length, "head_share": head_share, "schema": SCHEMA}}
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


def _loaded(name: str, folder: _Folder, spec: ModelSpec, seed: int | None) -> Model:
    """The folder's model; without a seed nothing may be initialised."""
    family, shapes = FAMILIES[spec.family], tensor_shapes(spec)
    account, sources = match_tensors(folder.stored, family, shapes, seed is not None, str(folder.path))
    tokenizer = TextTokenizer.from_folder(folder.path)
    if tokenizer.vocabulary > spec.vocabulary:
        problem = f"the tokenizer has {tokenizer.vocabulary} entries, the word embedding only {spec.vocabulary} rows"
        raise ModelError(problem, str(folder.path), "put tokenizer and weights of the same model together")
    makers: dict[str, Callable[[], Weights]] = {}
    for tensor, shape in shapes.items():
        made = partial(initialise, tensor, shape, spec, seed or 0)
        makers[tensor] = sources[tensor].read if tensor in sources else made
    length, head_share = _truncation(folder)
    warnings = (*_warnings(folder, family, account), *tokenizer.warnings)
    config = write_config(spec)
    return Model(name, spec, config, LazyTensors(makers), account, tokenizer, length, head_share, warnings)


def _require_classifier(folder: _Folder, family: Family) -> None:
    """Refuse what has the tensors of a classifier of one label per text but is none."""
    fix = "train it first: duygu train DATA --model FOLDER --out RUN"
    architectures = folder.config.get("architectures") or [family.architecture]
    if not isinstance(architectures, list) or family.architecture not in architectures:
        problem = f"a model of architectures {architectures!r} is no text classifier"
        raise ModelError(problem, f"{folder.where}: architectures", fix)
    kind = folder.config.get("problem_type")
    if kind not in (None, "single_label_classification"):
        raise ModelError(f"problem_type {kind!r} does not choose one label", f"{folder.where}: problem_type", fix)


def _truncation(folder: _Folder) -> tuple[int | None, float | None]:
    """Length and head share that duygu recorded when it wrote the folder."""
    entry = folder.config.get("duygu")
    if entry is None:
        return None, None
    record = cast(dict[str, object], entry) if isinstance(entry, dict) else {}
    length, share = record.get("length"), record.get("head_share")
    if type(length) is not int or length < 1 or type(share) not in (int, float) or not 0 <= cast(float, share) <= 1:
        fix = 'write it as {"length": 256, "head_share": 0.75, "schema": 1} or remove it'
        raise ModelError("the entry duygu is not understood", f"{folder.where}: duygu", fix)
    if record.get("schema") != SCHEMA:
        problem = f"the folder has schema {record.get('schema')!r}, this version reads {SCHEMA}"
        raise ModelError(problem, f"{folder.where}: duygu", "use the version of duygu that wrote it")
    return length, float(cast(float, share))


def _warnings(folder: _Folder, family: Family, account: Account) -> tuple[str, ...]:
    """What the user should know: files left alone, config keys and tensors not used, a head replaced."""
    closed = sorted(path.name for path in folder.path.iterdir() if path.suffix.lower() in PICKLES | CODE)
    unknown = unknown_keys(folder.config)
    head = [name for name in account.ignored if name in family.head]
    odd = [name for name in account.ignored if name not in head and not is_expected(name, family)]
    messages = (
        (closed, "never opened, since such files can hold code: {}"),
        (unknown, "config.json keys that are not known here and not used: {}"),
        (head, "the checkpoint's own classifier is replaced by a new one: {}"),
        (odd, "tensors that a classifier does not need are ignored: {}"),
    )
    return tuple(text.format(", ".join(names)) for names, text in messages if names)


def _read_folder(source: str | Path) -> _Folder:
    path = _resolve(source)
    if not (path / "config.json").exists():
        fix = "give the folder that holds config.json, model.safetensors and the tokenizer's files"
        raise ModelError("the folder has no config.json", str(path), fix)
    config = read_json(path / "config.json", JSON_LIMIT, ModelError)
    family_of(config, str(path / "config.json"))
    return _Folder(path, config, _read_headers(path))


def _resolve(source: str | Path) -> Path:
    """The local folder that ``source`` names."""
    fix = f"give a folder, or a preset: {', '.join(PRESETS)}"
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            return path
        if path.exists():
            raise ModelError("a model is a folder, and this is a file", str(path), "give the folder around it")
    except (OSError, RuntimeError) as error:
        raise ModelError(f"the model folder cannot be reached: {error}", f"--model {source}", fix) from error
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(source)):
        fix = (
            f"for a model of the Hugging Face hub: hf download {source} --local-dir FOLDER, then give FOLDER; or {fix}"
        )
    raise ModelError(f"there is no model folder {str(source)!r}", f"--model {source}", fix)


def _read_headers(folder: Path) -> dict[str, Stored]:
    """Every tensor of ``model.safetensors`` or of the shards that its index lists."""
    if (folder / "model.safetensors").exists():
        return read_header(folder / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return _read_shards(folder, index)
    names = sorted(path.name for path in folder.iterdir())
    pickles = [name for name in names if Path(name).suffix.lower() in PICKLES]
    fix = "choose a checkpoint that has model.safetensors"
    if not pickles:
        raise ModelError("the folder has no model.safetensors", str(folder), fix)
    problem = f"the weights are only there as {', '.join(pickles)}, and opening a pickle can run any code in it"
    fix += ", or convert it where you trust it: load it with transformers and call save_pretrained"
    raise ModelError(problem, str(folder), fix)


def _read_shards(folder: Path, index: Path) -> dict[str, Stored]:
    """Every tensor, from exactly the shard that the index names for it."""
    places = read_json(index, JSON_LIMIT, ModelError).get("weight_map")
    fix = "fetch the index and all shards again from the model's source"
    if not isinstance(places, dict) or not places:
        raise ModelError("the index has no weight_map", str(index), fix)
    weight_map = cast(dict[str, object], places)
    for name in weight_map.values():
        if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", name):
            raise ModelError(f"the shard {name!r} is not a plain .safetensors file name", str(index), fix)
    shards = sorted({cast(str, name) for name in weight_map.values()})
    found = [stored for shard in shards for stored in read_header(folder / shard).values()]
    by_place = {(stored.name, stored.path.name): stored for stored in found}
    wrong = {name for name, _ in by_place.keys() ^ weight_map.items()}
    if wrong:
        problem = f"the shards do not hold what the index says: {', '.join(sorted(wrong))}"
        raise ModelError(problem, str(index), fix)
    return {name: stored for (name, _), stored in by_place.items()}
