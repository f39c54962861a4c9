"""duygu fine-tunes Hugging Face encoders into text classifiers in PyTorch and in JAX, and says what differs.

The names below are loaded when they are first used, so importing duygu imports no framework and almost nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duygu.data.corpus import Corpus, read_corpus
    from duygu.data.split import Split, duplicate_groups, make_split, read_split, write_split
    from duygu.errors import (
        DataError,
        DuyguError,
        FolderError,
        GateError,
        ModelError,
        OutOfMemory,
        RecipeError,
        UserError,
    )
    from duygu.models.folder import open_classifier, open_model
    from duygu.recipe import Recipe
    from duygu.training.loop import Job, train
    from duygu.use.classifier import Classifier, Predictions
    from duygu.verdict.audit import audit
    from duygu.verdict.audit.findings import Audit, Finding
    from duygu.verdict.compare import compare, compare_runs
    from duygu.verdict.metrics import Scores, scores
    from duygu.verdict.parity import ParityResult, parity

__version__ = "0.1.0"

__all__ = [
    "Audit",
    "Classifier",
    "Corpus",
    "DataError",
    "DuyguError",
    "Finding",
    "FolderError",
    "GateError",
    "Job",
    "ModelError",
    "OutOfMemory",
    "ParityResult",
    "Predictions",
    "Recipe",
    "RecipeError",
    "Scores",
    "Split",
    "UserError",
    "audit",
    "compare",
    "compare_runs",
    "duplicate_groups",
    "make_split",
    "open_classifier",
    "open_model",
    "parity",
    "read_corpus",
    "read_split",
    "scores",
    "train",
    "write_split",
]

_ROOMS = {
    "duygu.data.corpus": ("Corpus", "read_corpus"),
    "duygu.data.split": ("Split", "duplicate_groups", "make_split", "read_split", "write_split"),
    "duygu.errors": (
        "DataError", "DuyguError", "FolderError", "GateError", "ModelError", "OutOfMemory", "RecipeError",
        "UserError",
    ),
    "duygu.models.folder": ("open_classifier", "open_model"),
    "duygu.recipe": ("Recipe",),
    "duygu.training.loop": ("Job", "train"),
    "duygu.use.classifier": ("Classifier", "Predictions"),
    "duygu.verdict.audit": ("audit",),
    "duygu.verdict.audit.findings": ("Audit", "Finding"),
    "duygu.verdict.compare": ("compare", "compare_runs"),
    "duygu.verdict.metrics": ("Scores", "scores"),
    "duygu.verdict.parity": ("ParityResult", "parity"),
}  # fmt: skip
_HOME = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    """The public ``name``, imported from its room at first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'duygu' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
