"""Weights & Biases, offline unless ``WANDB_MODE=online`` asks for its server; nothing is prompted.

Offline, a run that goes on is written anew under its old id: one folder is always the whole run, and syncing it again
replaces what was synced before. Online, the server says how far it has it.
"""

# pyright: basic
# because the package's functions have loose types

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from duygu.files import delete_folder, make_folder
from duygu.training.track.content import Confusion, Table
from duygu.training.track.tracker import Outcome, Tracked

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when the package is imported

import wandb

QUIET: dict[str, Any] = {"silent": True, "console": "off"}
UNASKED: dict[str, Any] = {  # what it would record of the machine and its code
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "save_code": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
EXIT_CODES: Mapping[Outcome, int] = {"finished": 0, "interrupted": 130, "failed": 1}
MATRIX = ("Actual", "Predicted", "nPredictions")  # columns of W&B's own confusion chart


def open_run(run: Tracked) -> WandB:
    """Start or go on. Raises PermissionError where it shall go online and has no key."""
    mode: Literal["online", "offline"] = "online" if os.environ.get("WANDB_MODE") == "online" else "offline"
    if mode == "online" and not wandb.login(prompt=False):
        raise PermissionError("WANDB_MODE=online needs a key: run wandb login")
    make_folder(run.folder)
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):  # else in the home folder
        os.environ.setdefault(name, str(run.folder / "cache"))
    before = sorted(run.folder.glob("wandb/*run-*-*"))
    tracker = WandB(run, mode, before[-1].name.rpartition("-")[2] if before else None)
    for path in before:
        if path.name.startswith("offline-"):
            delete_folder(path)
    return tracker


class WandB:
    """A `Tracker` that writes a ``.wandb`` file."""

    def __init__(self, run: Tracked, mode: Literal["online", "offline"], number: str | None) -> None:
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "duygu"),
            name=run.name,
            id=number,
            config=dict(run.facts),
            dir=run.folder,
            mode=mode,
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(program="duygu", **QUIET, **UNASKED),
        )
        self._mode, self._known = mode, self._run.starting_step

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A value per name."""
        if step >= self._known:
            self._run.log(dict(values), step=step)

    def confusion(self, step: int, matrix: Confusion) -> None:
        """As W&B's own chart, with the counts as its table."""
        cells = [
            [true, predicted, count]
            for true, row in zip(matrix.labels, matrix.counts, strict=True)
            for predicted, count in zip(matrix.labels, row, strict=True)
        ]
        table = wandb.Table(columns=list(MATRIX), data=cells)
        fields = {name: name for name in MATRIX}
        chart = wandb.plot_table("wandb/confusion_matrix/v1", table, fields, {"title": matrix.name})
        self._log(step, matrix.name, chart)

    def table(self, step: int, table: Table) -> None:
        """As a table."""
        self._log(step, table.name, wandb.Table(columns=list(table.columns), data=[list(row) for row in table.rows]))

    def end(self, outcome: Outcome) -> str:
        """Close the run with an exit code."""
        folder = Path(self._run.dir).parent
        self._run.finish(exit_code=EXIT_CODES[outcome])
        return str(self._run.url) if self._mode == "online" else shlex.join(("wandb", "sync", str(folder)))

    def _log(self, step: int, name: str, value: object) -> None:
        if step >= self._known:
            self._run.log({name: value}, step=step)
