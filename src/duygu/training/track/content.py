"""What a tracker is told, made from lines of ``history.jsonl`` and from ``metrics.json``: names, numbers and tables.

Both engines write these files through one code, so they are told in one form, whatever the tool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from duygu.verdict.metrics import Scores

Cell = str | int | float
SCORES = ("loss", "accuracy", "macro_f1", "mcc")
STEP = ("loss", "lr", "grad_norm", "seconds")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under column heads; ``name`` has its part of the data first, as in ``validation/labels``."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts (L, L) of true label (row) against predicted label (column)."""

    name: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def table(self) -> Table:
        """With the true label in front of each row."""
        rows = (tuple[Cell, ...]([label, *row]) for label, row in zip(self.labels, self.counts, strict=True))
        return Table(self.name, ("true", *(f"predicted {label}" for label in self.labels)), tuple(rows))


def step_scalars(line: Mapping[str, float]) -> dict[str, float]:
    """Of an optimiser step."""
    return {f"train/{name}": line[name] for name in STEP}


def score_scalars(part: str, found: Scores) -> dict[str, float]:
    """Of an evaluation of one part of the data."""
    values = {name: float(getattr(found, name)) for name in SCORES}
    values |= {"brier": found.calibration.brier, "ece": found.calibration.ece}
    return {f"{part}/{name}": value for name, value in values.items()}


def confusion(part: str, found: Scores) -> Confusion:
    """The confusion matrix of one part."""
    return Confusion(f"{part}/confusion", found.labels, found.confusion)


def label_table(part: str, found: Scores) -> Table:
    """A row per label."""
    pairs = zip(found.labels, found.per_label, strict=True)
    rows = ((name, label.precision, label.recall, label.f1, label.support) for name, label in pairs)
    return Table(f"{part}/labels", ("label", "precision", "recall", "f1", "support"), tuple(rows))


def final_table(parts: Iterable[tuple[str, Scores]]) -> Table:
    """A row per part, scored with the weights that the run keeps."""
    rows = (
        (part, found.documents, *score_scalars(part, found).values(), *found.accuracy_interval) for part, found in parts
    )
    columns = ("part", "documents", *SCORES, "brier", "ece", "accuracy_low", "accuracy_high")
    return Table("final/scores", columns, tuple(rows))
