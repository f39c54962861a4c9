"""Checkpoints: where a run stands, and all it takes to go on from there in either engine.

``checkpoints/step-000123/`` holds ``state.json``, ``tensors.safetensors`` (weights, ``adam.m/NAME``, ``adam.v/NAME``,
``adam.count``, ``ema/NAME``, all under Hugging Face's names) and a manifest; ``checkpoints/best-0004/`` the weights
after epoch 4. Beside adapters the model's own weights are in neither; the run's record has their digest. A run that
began again goes on in ``step-1-000000/``. The two newest are kept, with every best that one of them may need. Nothing
random is saved: data order and dropout are functions of seed and step.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from duygu.errors import DuyguError, FolderError, UserError
from duygu.files import delete_folder, make_folder, new_folder, read_json, verify, write_json
from duygu.models.adapters import trained_shapes
from duygu.models.families import Shapes
from duygu.models.spec import ModelSpec
from duygu.models.weights import LazyTensors, read_header, write_safetensors
from duygu.recipe import Recipe
from duygu.training.parameters import parameter_rules

KEPT = 2
STEP = "step-"
BEST = "best-"
TENSORS = "tensors.safetensors"
STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Tally:
    """Time and work of the optimiser steps so far; warm ones are all but a process's first."""

    train_s: float = 0.0
    warm_s: float = 0.0
    warm_documents: int = 0
    warm_tokens: int = 0

    @property
    def documents_per_s(self) -> float | None:
        """Training speed once warm; None after a single step."""
        return self.warm_documents / self.warm_s if self.warm_s else None

    @property
    def tokens_per_s(self) -> float | None:
        """Real tokens, padding aside."""
        return self.warm_tokens / self.warm_s if self.warm_s else None

    def plus(self, seconds: float, documents: int, tokens: int, warm: bool) -> Tally:
        """With one more step."""
        if not warm:
            return Tally(self.train_s + seconds, self.warm_s, self.warm_documents, self.warm_tokens)
        work = (self.warm_s + seconds, self.warm_documents + documents, self.warm_tokens + tokens)
        return Tally(self.train_s + seconds, *work)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a run stands."""

    step: int = 0  # optimiser steps taken
    epoch: int = 0  # epochs evaluated
    best_epoch: int = 0  # of the evaluated ones; 0 before the first
    history_bytes: int = 0  # of history.jsonl that belong to these steps and epochs
    attempt: int = 0  # how often the run has started again; steps and epochs are those of this attempt
    tally: Tally = Tally()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was verified."""

    folder: Path
    mark: Mark

    @property
    def tensors(self) -> Mapping[str, np.ndarray]:
        """Weights and moments, read one by one."""
        return _read_tensors(self.folder)


class Checkpoints:
    """The checkpoints of one run, in its folder ``checkpoints``."""

    def __init__(self, folder: Path, spec: ModelSpec, recipe: Recipe) -> None:
        self.folder = folder
        self._weights = trained_shapes(spec, recipe)
        self._shapes = _with_moments(self._weights, recipe)

    @property
    def bytes(self) -> int:
        """About the size of one checkpoint."""
        return _bytes(self._shapes)

    def missing_bytes(self) -> int:
        """Disk space that a run still needs: three checkpoints (one is written before the oldest goes) and a best."""
        return max(1, KEPT + 1 - len(_steps(self.folder))) * self.bytes + _bytes(self._weights)

    def save(self, mark: Mark, tensors: Iterable[tuple[str, np.ndarray]], about: Mapping[str, object]) -> None:
        """Commit a checkpoint and delete what is older than needed. One of the same step stays as it is."""
        target = self.folder / f"{STEP}{_again(mark.attempt)}{mark.step:06}"
        if not target.exists():
            make_folder(self.folder)
            with new_folder(target, self.bytes) as folder:
                wanted = ((name, tensor) for name, tensor in tensors if name in self._shapes)
                write_safetensors(folder / TENSORS, self._shapes, _finite(wanted))
                write_json(folder / STATE, {**asdict(mark), "about": about})
        self._prune(mark)

    def save_best(self, attempt: int, epoch: int, tensors: Iterable[tuple[str, np.ndarray]]) -> None:
        """Commit the weights after ``epoch``; the best before it goes with the checkpoints that may need it."""
        target = _best(self.folder, attempt, epoch)
        if target.exists():  # of a time after the checkpoint that this run went on from
            delete_folder(target)
        make_folder(self.folder)
        with new_folder(target, _bytes(self._weights)) as folder:
            write_safetensors(folder / TENSORS, self._weights, _finite(tensors))

    def best(self, attempt: int, epoch: int) -> Mapping[str, np.ndarray]:
        """The weights after ``epoch``; raises `FolderError` where they are damaged."""
        folder = _best(self.folder, attempt, epoch)
        verify(folder)
        return _read_tensors(folder)

    def _prune(self, mark: Mark) -> None:
        newest, older = _steps(self.folder)[:KEPT], _steps(self.folder)[KEPT:]
        marks = (mark, *map(_read_mark, newest))
        needed = {_best(self.folder, known.attempt, known.best_epoch) for known in marks}
        for folder in [*older, *(best for best in self.folder.glob(f"{BEST}*") if best not in needed)]:
            delete_folder(folder)


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest sound checkpoint in ``folder``, if any; damaged ones are deleted with one warning."""
    damaged: list[str] = []
    found = None
    for candidate in _steps(folder):
        try:
            found = _verified(candidate)
            break
        except UserError as error:
            damaged.append(f"{candidate.name} ({error.problem})")
            delete_folder(candidate)
    if damaged:
        instead = f"going on from {found.folder.name}" if found else "none is left, so training starts anew"
        warn(f"damaged checkpoint: {', '.join(damaged)}; {instead}")
    return found


def _verified(folder: Path) -> Checkpoint:
    verify(folder)
    mark = _read_mark(folder)
    if mark.best_epoch:
        verify(_best(folder.parent, mark.attempt, mark.best_epoch))
    return Checkpoint(folder, mark)


def _steps(folder: Path) -> list[Path]:
    """Folders of checkpoints, newest first."""
    return sorted(folder.glob(f"{STEP}*"), key=_attempt_and_step, reverse=True)


def _attempt_and_step(folder: Path) -> tuple[int, int]:
    *attempt, step = map(int, re.findall(r"\d+", folder.name))
    return (attempt[0] if attempt else 0), step


def _best(folder: Path, attempt: int, epoch: int) -> Path:
    return folder / f"{BEST}{_again(attempt)}{epoch:04}"


def _again(attempt: int) -> str:
    """What the names of a later attempt's folders have before the number."""
    return f"{attempt}-" if attempt else ""


def _read_mark(folder: Path) -> Mark:
    value = read_json(folder / STATE)
    try:
        fields = {name: value[name] for name in ("step", "epoch", "best_epoch", "history_bytes")}
        return Mark(**fields, attempt=value.get("attempt", 0), tally=Tally(**value["tally"]))
    except (KeyError, TypeError) as error:
        raise FolderError(f"not the state of a checkpoint: {error}", str(folder / STATE)) from error


def _read_tensors(folder: Path) -> Mapping[str, np.ndarray]:
    return LazyTensors({name: stored.read for name, stored in read_header(folder / TENSORS).items()})


def _with_moments(weights: Shapes, recipe: Recipe) -> Shapes:
    """Names and shapes of everything in a checkpoint."""
    trained = [name for name, rule in parameter_rules(weights, recipe).items() if rule.trainable]
    moments = {f"{prefix}/{name}": weights[name] for prefix in ("adam.m", "adam.v") for name in trained}
    averages = {f"ema/{name}": shape for name, shape in weights.items()} if recipe.ema else {}
    return {**weights, **moments, "adam.count": (), **averages}


def _bytes(shapes: Shapes) -> int:
    return 4 * sum(math.prod(shape) for shape in shapes.values())


def _finite(tensors: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors, each found finite: a broken state must not replace a good one."""
    for name, tensor in tensors:
        if not (np.isfinite(tensor.min()) and np.isfinite(tensor.max())):
            raise DuyguError(f"{name} is no longer finite, so it is not saved; a lower lr or precision=fp32 may help")
        yield name, tensor
