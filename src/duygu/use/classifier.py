"""Texts in, probabilities out: the one predictor behind Python, the command line and all that follows.

A finished model folder holds everything that decides an answer: weights, tokenizer, label names and how documents were
cut in training. So the same folder gives the same answers as the run that wrote it, in either engine. What
`Classifier.logits` gives is the model's own, as transformers has it; `Classifier.predict` divides it by the temperature
that was fitted on the validation part, which changes how sure an answer is and never which it is.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from duygu.data.corpus import Corpus, clean
from duygu.engines import ENGINES, Engine, EngineName, Placement, State, open_engine
from duygu.errors import DataError, ModelError, UserError
from duygu.files import read_json
from duygu.models.folder import CALIBRATION, Model, open_classifier
from duygu.models.progress import Talk
from duygu.models.source import hub_name
from duygu.recipe import Recipe
from duygu.training.out_of_memory import Watched
from duygu.training.plan import FloatArray, IntArray, evaluation_batches
from duygu.training.progress import shown_progress
from duygu.training.scoring import score
from duygu.verdict.metrics import Scores, probabilities, scores


@dataclass(frozen=True, slots=True)
class Predictions:
    """Answers for N texts: the most probable label of each, and all L probabilities."""

    names: tuple[str, ...]  # label names, in the order of the columns
    labels: tuple[str, ...]  # (N,) predicted label names
    probabilities: NDArray[np.float64]  # (N, L), rows sum to 1


@dataclass(frozen=True, slots=True)
class Classifier:
    """A finished model, loaded into one engine. Make one with `Classifier.open`."""

    model: Model
    engine: Engine
    state: State
    length: int  # tokens per document
    head_share: float
    windows: int = 1  # of a document at most, each of that length
    overlap: float = 0.0
    temperature: float = 1.0  # what logits are divided by before they become probabilities

    @classmethod
    def open(
        cls,
        folder: str | Path,
        engine: str | None = None,
        *,
        precision: Literal["fp32", "bf16"] = "fp32",
        threads: int = 0,
        device: str = "auto",
    ) -> Classifier:
        """Load a model folder, the model of a run folder or one of the hub; without ``engine``, in the first installed.

        fp32 by default, so that predictions repeat. Raises `ModelError` for a folder that is not a finished
        classifier and `UserError` for an engine that is not there.
        """
        opened = open_engine(engine or default_engine(), threads)
        with shown_progress() if hub_name(str(folder)) else nullcontext(Talk()) as progress:
            model = open_classifier(model_folder(folder), progress, [opened.name])
        defaults = Recipe()
        length = model.length or min(defaults.length, model.spec.positions)
        opened = Watched(opened, replace(model.recipe, length=length, long="windows", max_windows=model.windows))
        state = opened.start(model.spec, model.tensors, model.recipe, Placement(precision, threads, device))
        share = defaults.head_share if model.head_share is None else model.head_share
        temperature = read_temperature(model_folder(folder))
        return cls(model, opened, state, length, share, model.windows, model.overlap, temperature)

    @property
    def names(self) -> tuple[str, ...]:
        """Label names, in the order of the model's outputs."""
        return self.model.spec.labels

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """(N, L) float32, one row per text, in the order given."""
        if not texts:
            return np.zeros((0, len(self.names)), np.float32)
        cut = self.length, self.head_share, self.windows, self.overlap
        encoded = self.model.tokenizer.encode([clean(text).strip() for text in texts], *cut)
        every = np.arange(len(texts), dtype=np.int32)
        batches = evaluation_batches(every, encoded.lengths, self.engine.static_shapes, windows=encoded.windows)
        _, logits = score(self.engine, self.state, encoded, np.zeros_like(every), batches)
        return logits

    def predict(self, texts: Sequence[str]) -> Predictions:
        """The label and the calibrated probabilities of each text."""
        logits = self.logits(texts)
        labels = tuple(self.names[index] for index in np.argmax(logits, axis=1))
        return Predictions(self.names, labels, probabilities(logits.astype(np.float64) / self.temperature))

    def evaluate(self, corpus: Corpus, documents: IntArray | None = None) -> Scores:
        """Score the model on ``documents`` of the corpus (indices; all without them).

        As in a run's metrics, probabilities are the model's own. Labels meet by name; raises `DataError` for one that
        the model has not learnt.
        """
        chosen = np.arange(len(corpus.texts), dtype=np.int32) if documents is None else documents
        truth = self._numbers(corpus)[corpus.labels[chosen]]
        return scores(self.logits([corpus.texts[index] for index in chosen]), truth, self.names)

    def _numbers(self, corpus: Corpus) -> IntArray:
        """The model's number of each of the corpus's labels."""
        unknown = [name for name in corpus.names if name not in self.names]
        if unknown:
            problem = f"the model has not learnt the label {', '.join(unknown)}"
            raise DataError(problem, corpus.root, f"its labels are: {', '.join(self.names)}")
        return np.array([self.names.index(name) for name in corpus.names], np.int32)


def model_folder(folder: str | Path) -> Path:
    """The model folder itself: ``folder``, or ``model`` inside it where ``folder`` is a run."""
    path = Path(folder)
    inside = path / "model"
    return inside if not (path / "config.json").is_file() and inside.is_dir() else path


def read_temperature(folder: Path) -> float:
    """The temperature in ``calibration.json`` of a model folder; 1, which changes nothing, where there is none.

    Raises `ModelError` for one that is no positive number.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return 1.0
    found = read_json(path, error=ModelError).get("temperature")
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 < found < math.inf:
        raise ModelError(f"temperature {found!r} is no positive number", str(path), "remove the file")
    return float(found)


def test_part(model: str | Path, corpus: Corpus) -> IntArray | None:
    """The documents that a run kept for its test, where this is the corpus it learnt from; None for any other."""
    record = model_folder(model).parent / "data.json"
    if not record.is_file():
        return None
    data = read_json(record)
    if data.get("corpus") != corpus.digest:
        return None
    kept = set(data["parts"]["test"])
    return np.array([number for number, name in enumerate(corpus.ids) if name in kept], np.int32)


def installed_engines() -> tuple[EngineName, ...]:
    """The engines whose framework is installed, found without importing it."""
    return tuple(name for name in ENGINES if importlib.util.find_spec(name) is not None)


def default_engine() -> EngineName:
    """The first installed engine; raises `UserError` where there is none."""
    installed = installed_engines()
    if not installed:
        raise UserError("no engine is installed", "torch, jax", "pip install 'duygu[torch]' or 'duygu[jax]'")
    return installed[0]
