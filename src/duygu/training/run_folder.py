"""The files of a run folder: everything needed to believe, repeat or resume a run, and who may write there.

``recipe.toml`` comes first and makes the folder a run; ``metrics.json`` comes last and makes the run finished. What
must be equal for a run to go on is compared here, and what differs is named.
"""

from __future__ import annotations

import csv
import hashlib
import io
import platform
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from duygu.data.corpus import Corpus
from duygu.data.duplicates import copies
from duygu.data.sources import BY_DEFAULT, DataFormat
from duygu.data.split import Split
from duygu.data.tokens import Encoded
from duygu.engines import Engine, Placement
from duygu.errors import FolderError, UserError
from duygu.files import delete_folder, locked, make_folder, on_disk, read_json, read_text, sweep, write_json, write_text
from duygu.recipe import Recipe
from duygu.training.machine import processor, versions
from duygu.training.plan import IntArray
from duygu.verdict.metrics import probabilities

FILES = (
    "metrics.json",
    "report.html",
    "predictions.csv",
    "history.jsonl",
    "environment.json",
    "data.json",
    "recipe.toml",
)
FOLDERS = ("checkpoints", "model", "tracking")
BARS = 40  # of the lengths' histogram, besides the last
LAYOUT = ("microbatch", "gradient_checkpointing")  # recipe fields that decide how a step is computed, not which
SOURCES = 100  # the most frequent ones that the record counts
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # what a spreadsheet would run


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run folder that this process has locked."""

    path: Path

    @property
    def started(self) -> bool:
        """Whether it holds a run."""
        return (self.path / "recipe.toml").exists()

    @property
    def finished(self) -> bool:
        """Whether it holds a run that ended."""
        return (self.path / "metrics.json").exists()

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def history(self) -> Path:
        """File of one line per step and evaluation."""
        return self.path / "history.jsonl"

    def metrics(self) -> dict[str, Any]:
        """What a finished run found."""
        return read_json(self.path / "metrics.json")

    def data(self) -> dict[str, Any]:
        """What the run learns from."""
        return read_json(self.path / "data.json")

    def environment(self) -> dict[str, Any]:
        """What the run computes on."""
        return read_json(self.path / "environment.json")

    def write_environment(self, value: Mapping[str, object]) -> None:
        """Replace ``environment.json``."""
        write_json(self.path / "environment.json", value)

    def begin(self, recipe: Recipe, data: Mapping[str, object], environment: Mapping[str, object]) -> None:
        """Write the record of a new run."""
        write_text(self.path / "recipe.toml", recipe.to_toml())
        write_json(self.path / "data.json", data)
        self.write_environment(environment)

    def model_to_write(self) -> Path:
        """Where the model goes, with nothing there: one from before a kill is deleted."""
        path = self.path / "model"
        if path.exists():
            delete_folder(path)
        return path

    def accept_recipe(self, recipe: Recipe) -> None:
        """Raise `UserError` if the run that goes on has another recipe, but for what trains the same."""
        path = self.path / "recipe.toml"
        if path.exists():
            changed = [item for item in self._changes(recipe).items() if item[0] not in LAYOUT]
            _refuse(path, "recipe", [f"{name} was {was}, now {now}" for name, (was, now) in changed])

    def laid_out_anew(self, recipe: Recipe) -> dict[str, object]:
        """The entry of a record that says what of `LAYOUT` is no longer as the run began; nothing where all is."""
        changed = {name: now for name, (_, now) in self._changes(recipe).items() if name in LAYOUT}
        return {"recipe": changed} if changed else {}

    def accept_data(self, corpus: Corpus, split: Split) -> None:
        """Raise `UserError` if the run that goes on read other documents or another split."""
        self._compare("data.json", {"corpus": corpus.digest, "split": split.digest})

    def accept_model(self, tokens: str, weights: str) -> None:
        """Raise `UserError` if the run that goes on began with another tokenizer or other weights (digests)."""
        self._compare("data.json", {"tokens": tokens})
        self._compare("environment.json", {"start_weights": weights})

    def clear(self) -> None:
        """Delete the run: first what makes it finished, last what makes it a run. Stopped in between, it can go on."""
        finished, *others = FILES
        with on_disk(self.path):
            (self.path / finished).unlink(missing_ok=True)
        for name in FOLDERS:
            if (self.path / name).exists():
                delete_folder(self.path / name)
        with on_disk(self.path):
            for name in others:
                (self.path / name).unlink(missing_ok=True)

    def _changes(self, recipe: Recipe) -> dict[str, tuple[object, object]]:
        """Fields of the recipe that the run began with another value of: that, and the value now."""
        path = self.path / "recipe.toml"
        was, now = Recipe.from_toml(read_text(path), str(path)).as_dict(), recipe.as_dict()
        return {name: (was[name], now[name]) for name in now if was[name] != now[name]}

    def _compare(self, name: str, now: Mapping[str, str]) -> None:
        path = self.path / name
        if path.exists():
            was = read_json(path)
            _refuse(path, "data or model", [key.replace("_", " ") for key in now if was.get(key) != now[key]])


@contextmanager
def open_run(path: Path, resume: bool, overwrite: bool) -> Generator[RunFolder]:
    """Lock and tidy a run folder. Raises `FolderError` where there is something that may not be touched."""
    if resume and overwrite:
        raise UserError("both go on and start again?", "--resume --overwrite", "give one of the two")
    make_folder(path)
    folder = RunFolder(path)
    others = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if others and not folder.started:
        problem = f"the folder is not empty and holds no run: {', '.join(others[:3])}"
        raise FolderError(problem, str(path), "choose another --out")
    with locked(path):
        for place in (path, folder.checkpoints):
            sweep(place)
        if folder.started and overwrite:
            folder.clear()
        elif folder.started and not resume:
            fix = "add --resume to go on, --overwrite to replace it, or choose another --out"
            raise FolderError("the folder holds a run already", str(path), fix)
        yield folder


def data_record(
    corpus: Corpus,
    split: Split,
    encoded: Encoded,
    limit: int,
    tokens: str,
    real_share: float,
    format: DataFormat,
) -> dict[str, object]:
    """Content of ``data.json``; ``limit`` is the most tokens that a document may have."""
    dates = sorted(date for date in corpus.dates if date is not None)
    sources = Counter(source for source in corpus.sources if source is not None)
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    counts = np.bincount(corpus.labels, minlength=len(corpus.names)).tolist()
    return {
        "corpus": corpus.digest,
        "root": corpus.root,
        "format": format.as_dict(),
        "documents": len(corpus.texts),
        "labels": dict(zip(corpus.names, counts, strict=True)),
        "encodings": dict(corpus.encodings),
        "dates": {"documents": len(dates), "first": dates[0], "last": dates[-1]} if dates else None,
        "sources": dict(sources.most_common(SOURCES)),
        "tokens": tokens,
        "truncated": int((encoded.whole > encoded.lengths).sum()),
        "left_out": int((encoded.whole - encoded.lengths).sum(dtype=np.int64)),
        "windows": _windows(encoded),
        "lengths": length_record(encoded.whole, limit),
        "real_share": real_share,
        "warnings": [*corpus.warnings, *split.warnings],
        "split": split.digest,
        "split_seed": split.seed,
        "parts": {name: [corpus.ids[number] for number in numbers] for name, numbers in parts.items()},
        **({} if corpus.groups is None else {"copies": copies(corpus.groups, corpus.ids)}),
    }


def _windows(encoded: Encoded) -> dict[str, int] | None:
    """How many windows were made of how many documents that need several; None for a run without."""
    if encoded.windows is None:
        return None
    counts = encoded.windows.counts(encoded.lengths)
    return {
        "documents": int((counts > 1).sum()),
        "windows": int(counts.sum()),
        "most": int(counts.max()),
        "computed": int(encoded.computed.sum(dtype=np.int64)),
        "step": encoded.windows.step,
    }


def length_record(whole: IntArray, limit: int) -> dict[str, object]:
    """Tokens per document before the cut at ``limit``: quantiles, and counts in bins of equal ``width`` from 0.

    The last bin also has all that is longer; a few very long documents would else leave no room for the others.
    """
    width = max(1, -(-max(int(np.quantile(whole, 0.99)), limit) // BARS))
    places = np.minimum(whole // width, BARS)
    quantiles = {f"p{share}": int(np.quantile(whole, share / 100, method="higher")) for share in (25, 50, 75, 95)}
    longest = int(whole.max())
    counts = np.bincount(places).tolist()
    return {"limit": limit, **quantiles, "longest": longest, "width": width, "counts": counts}


def recorded_format(folder: Path, data: str, given: DataFormat = BY_DEFAULT) -> DataFormat:
    """How ``data`` is laid out: as ``given``, else as the run in ``folder`` read it, if that is what it read."""
    record = folder / "data.json"
    if given != BY_DEFAULT or not record.is_file():
        return given
    was = read_json(record)
    found, names = was.get("format"), {field.name for field in fields(DataFormat)}
    if not isinstance(found, dict) or Path(str(was.get("root"))).absolute() != Path(data).absolute():
        return given
    words = cast(dict[str, object], found)
    return DataFormat(**{name: str(value) for name, value in words.items() if name in names})


def environment_record(engine: Engine, placement: Placement) -> dict[str, object]:
    """The part of ``environment.json`` that another process on another machine would change."""
    probe = engine.probe()
    return {
        "engine": engine.name,
        "device": probe.device,
        "devices": probe.devices,
        "precision": placement.precision,
        "threads": placement.threads,
        "platform": platform.platform(),
        "processor": processor(),
        "versions": versions(engine.name),
    }


def tokens_digest(encoded: Encoded) -> str:
    """SHA-256 over every document's token ids."""
    digest = hashlib.sha256(np.asarray(encoded.offsets, "<i8").tobytes())
    digest.update(np.asarray(encoded.ids, "<i4").tobytes())
    return digest.hexdigest()


def predictions_table(corpus: Corpus, parts: Mapping[str, tuple[IntArray, NDArray[np.float32]]]) -> str:
    """CSV text: a row per document of every part, given as document numbers (N,) and logits (N, L)."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    names = [safe_cell(name) for name in corpus.names]
    table.writerow(["id", "split", "label", "predicted", *(f"p({name})" for name in names)])
    for part, (numbers, logits) in parts.items():
        rows = zip(numbers.tolist(), np.argmax(logits, axis=1).tolist(), probabilities(logits).tolist(), strict=True)
        for number, predicted, row in rows:
            labels = (names[corpus.labels[number]], names[predicted])
            table.writerow([safe_cell(corpus.ids[number]), part, *labels, *map(repr, row)])
    return text.getvalue()


def safe_cell(text: str) -> str:
    """``text``, quoted where a spreadsheet would take it for a formula (OWASP ASVS 1.2.10)."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _refuse(path: Path, what: str, changed: Sequence[str]) -> None:
    if changed:
        fix = "give what the run began with, or --overwrite to start again"
        raise UserError(f"this run began with another {what}: {'; '.join(changed)}", str(path), fix)
