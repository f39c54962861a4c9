"""Run folders as a training writes them, made from random logits: real arithmetic, no training."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duygu.files import write_json, write_text
from duygu.recipe import Recipe
from duygu.verdict.metrics import FloatArray, IntArray, probabilities, scores

NAMES = ("negative", "positive")
RECIPE = Recipe(epochs=2, precision="fp32")


@dataclass(frozen=True, slots=True)
class Written:
    """What makes one run folder; equal fields make twins."""

    engine: str = "torch"
    seed: int = 13
    names: tuple[str, ...] = NAMES
    documents: int = 120
    skill: float = 1.5  # how far the true label's logit stands out
    noise: int = 0  # seed of what this run alone gets wrong
    recipe: Recipe = RECIPE
    split_digest: str = "5" * 64
    start_digest: str = "a" * 64
    collapsed: bool = False
    first_id: int = 0
    fold: int | None = None
    copies: tuple[tuple[int, ...], ...] | None = ()  # documents that are copies; None as an older duygu has it
    temperature: float | None = 1.5
    model: str = "tiny"
    tokens: str = "e" * 64

    @property
    def labels(self) -> IntArray:
        """True labels, the same for every run."""
        return np.random.default_rng(7).integers(0, len(self.names), self.documents).astype(np.int32)

    def logits(self, skill: float) -> FloatArray:
        """Random logits (documents, labels): a part common to all runs, a part of this run."""
        shape = (self.documents, len(self.names))
        common = np.random.default_rng([self.seed, 1]).normal(size=shape)
        own = 0.15 * np.random.default_rng([self.seed, 2, self.noise]).normal(size=shape)
        return (common + own + skill * np.eye(len(self.names))[self.labels]).astype(np.float32)


def write_run(folder: Path, run: Written = Written()) -> Path:
    """Write ``run`` as a finished run folder."""
    folder.mkdir(parents=True)
    write_text(folder / "recipe.toml", run.recipe.changed({"seed": run.seed}).to_toml())
    write_json(folder / "metrics.json", _metrics(run))
    write_json(folder / "environment.json", {"start_weights": run.start_digest})
    data: dict[str, object] = {"corpus": "d" * 64, "tokens": run.tokens, "split": run.split_digest, "parts": {}}
    if run.copies is not None:
        data["copies"] = [[f"{number:04}.txt" for number in group] for group in run.copies]
    write_json(folder / "data.json", data)
    _write_predictions(folder / "predictions.csv", run)
    return folder


def change_json(path: Path, **changes: object) -> None:
    """Overwrite some keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def _metrics(run: Written) -> dict[str, object]:
    def measured(skill: float) -> dict[str, object]:
        return scores(run.logits(skill), run.labels, run.names).as_json()

    epochs = [
        {"epoch": epoch, "train_loss": 1.0, "validation": measured(epoch * run.skill / run.recipe.epochs)}
        for epoch in range(run.recipe.epochs + 1)
    ]
    return {
        "engine": run.engine,
        "model": run.model,
        "seed": run.seed,
        "fold": run.fold,
        "precision": run.recipe.precision,
        "threads": 2,
        "kept_epoch": run.recipe.epochs,
        "collapsed": run.collapsed,
        "restarts": 0,
        "temperature": run.temperature,
        "test": measured(run.skill),
        "validation": measured(run.skill),
        "epochs": epochs,
        "start": measured(0.0),
        "time": {
            "setup_s": 1.5,
            "compile_s": 3.0,
            "first_step_s": 0.25,
            "train_s": 75.0,
            "documents_per_s": 42.5,
            "tokens_per_s": 9e3,
        },
        "memory": {"peak_bytes": 512 << 20},
    }


def _write_predictions(path: Path, run: Written) -> None:
    probability = probabilities(run.logits(run.skill))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", "label", "predicted", *run.names])
        for number, (label, row) in enumerate(zip(run.labels, probability, strict=True), start=run.first_id):
            writer.writerow(
                [f"{number:04}.txt", "test", run.names[label], run.names[int(np.argmax(row))], *row.tolist()]
            )
        writer.writerow(["v.txt", "validation", run.names[0], run.names[0], *probability[0].tolist()])
