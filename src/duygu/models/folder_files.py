"""What lies in a model folder: its config, its tensors' headers, what duygu wrote there, and what to tell of the rest.

Headers and JSON are read here, numbers are not; pickles and code are named and never opened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from duygu.errors import ModelError
from duygu.models.account import Account, is_expected
from duygu.models.families import FAMILIES, Family
from duygu.models.foreign import refuse_files
from duygu.models.source import FETCH_AGAIN, SAFETENSORS, Source, read_config, shard_places
from duygu.models.spec import unknown_keys
from duygu.models.weights import Stored, read_header

SCHEMA, WINDOWED = 1, 2  # of the "duygu" entry in config.json; where documents are read in windows, it says more
CHOOSE = "choose a checkpoint that has model.safetensors"
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".h5", ".keras", ".msgpack", ".npz"})
CODE = frozenset({".py", ".pyc", ".so", ".ipynb"})
UNCASED = re.compile(r"^(?!loodos/)(.*/)?bert-base-turkish-(128k-)?uncased(@.*)?/?$")  # loodos' is another model
UNCASED_FAULT = (  # https://github.com/dbmdz/berts/issues/35
    "{}: its vocabulary has ç, ğ, ö, ş, ü and â, but the texts that it was pre-trained on had lost them, so these "
    "entries have learnt nothing; dbmdz/bert-base-turkish-cased has no such fault"
)


@dataclass(frozen=True, slots=True)
class Folder:
    """A model folder's config and tensor headers."""

    source: Source
    config: dict[str, object]
    stored: dict[str, Stored]

    @property
    def path(self) -> Path:
        """Of the config and the tokenizer."""
        return self.source.folder

    @property
    def where(self) -> str:
        """The config, for errors."""
        return str(self.path / "config.json")


def read_folder(source: Source) -> Folder:
    """Config and headers; nothing of a tensor but its name, shape and place. Raises `ModelError`."""
    config = read_config(source.folder)
    return Folder(source, config, _read_headers(source.weights))


def require_classifier(folder: Folder) -> None:
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


def cut_entry(length: int, head_share: float, windows: int, overlap: float) -> dict[str, object]:
    """The entry ``duygu`` of a config.json: what `read_cut` reads back."""
    cut: dict[str, object] = {"length": length, "head_share": head_share, "schema": SCHEMA}
    return cut if windows == 1 else cut | {"windows": windows, "overlap": overlap, "schema": WINDOWED}


def read_cut(folder: Folder) -> tuple[int | None, float | None, int, float]:
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


def warnings_of(folder: Folder, family: Family, account: Account) -> tuple[str, ...]:
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


def _counts(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= cast(float, value) <= 1


def _closed_files(folder: Path, suffixes: frozenset[str]) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in suffixes)


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
