"""A run followed in W&B, TensorBoard or MLflow: the lines of ``history.jsonl``, told as they are written.

The history stays the truth. Each tool writes within the run folder and is asked for by name; without a name nothing is
imported. A tool that fails is named once and left behind: no training ends for it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec

from duygu.errors import Interrupted, UserError
from duygu.files import read_json, read_text
from duygu.recipe import Recipe
from duygu.training.run_folder import RunFolder
from duygu.training.track.content import confusion, final_table, label_table, score_scalars, step_scalars
from duygu.training.track.tracker import Outcome, Tracked, Tracker
from duygu.verdict.metrics import Scores

TOOLS = {  # and the packages that each needs
    "wandb": ("wandb",),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}
FOLDER = "tracking"  # within the run folder, with one folder per tool
PARTS = ("validation", "test")
ENVIRONMENT = ("engine", "model", "model_revision", "precision", "device", "threads", "start_weights")
DATA = ("documents", "corpus", "split", "tokens")  # the last three are SHA-256

Line = Mapping[str, Any]
Say = Callable[[str], None]
P = ParamSpec("P")


def require(tools: Sequence[str]) -> None:
    """Raise `UserError` for a tool that is not known, not installed or named twice."""
    for tool in tools:
        if tool not in TOOLS:
            raise UserError(f"there is no tracker {tool!r}", "--track", f"choose from: {', '.join(TOOLS)}")
        for package in TOOLS[tool]:
            found = importlib.util.find_spec(package)
            if found is None or found.origin is None:  # without one, it is a folder of that name and no package
                fix = f"pip install 'duygu[{tool}]'"
                raise UserError(f"tracking needs {package}, which is not installed", f"--track {tool}", fix)
    if len(set(tools)) != len(tools):
        raise UserError("each must be named once", f"--track {','.join(tools)}", "as in wandb,mlflow")


@contextmanager
def open_tracking(tools: Sequence[str], say: Say) -> Generator[Tracking]:
    """The trackers of one run, which end as the run within ends. Raises what `require` raises."""
    require(tools)
    tracking = Tracking(tools, say)
    outcome: Outcome = "failed"
    try:
        yield tracking
        outcome = "finished"
    except Interrupted:
        outcome = "interrupted"
        raise
    finally:
        tracking.end(outcome)


class Tracking:
    """What the loop tells; every tool hears the same."""

    def __init__(self, tools: Sequence[str], say: Say) -> None:
        self._tools, self._say = tools, say
        self._trackers: dict[str, Tracker] = {}
        self._step = self._before = self._attempt = 0

    def begin(self, folder: RunFolder, lines: Iterable[Line]) -> None:
        """Open every tool for a run whose records are written, and tell it what the history holds already."""
        for tool in self._tools:
            self._guarded(tool, self._open, tool, folder)
        for line in lines:
            self.line(line)

    def line(self, line: Line) -> None:
        """A line of the history: a step, or an evaluation after the last one. Steps of a restart follow on."""
        if line.get("attempt", 0) != self._attempt:
            self._attempt, self._before = line["attempt"], self._step
        self._step = self._before + line["step"] if "step" in line else self._step
        if "step" in line:
            self._scalars(step_scalars(line))
        for part in PARTS:
            if part in line:
                self._scores(part, Scores.from_json(line[part]))

    def finish(self, metrics: Line) -> None:
        """The results: scores of the kept weights on both parts, of which the test's are news."""
        found = {part: Scores.from_json(metrics[part]) for part in PARTS}
        self._scores("test", found["test"])
        table = final_table(found.items())
        self._each(lambda tracker: tracker.table(self._step, table))

    def end(self, outcome: Outcome) -> None:
        """Close every tool and say how its run is seen."""
        for tool in list(self._trackers):
            self._guarded(tool, self._close, tool, outcome)

    def _open(self, tool: str, folder: RunFolder) -> None:
        make: Callable[[Tracked], Tracker] = importlib.import_module(f"{__name__}.{tool}").open_run
        path = folder.path.resolve()
        self._trackers[tool] = make(Tracked(path.name, path / FOLDER / tool, _facts(folder)))

    def _close(self, tool: str, outcome: Outcome) -> None:
        self._say(f"{tool}: {self._trackers.pop(tool).end(outcome)}")

    def _scores(self, part: str, found: Scores) -> None:
        self._scalars(score_scalars(part, found))
        matrix, labels = confusion(part, found), label_table(part, found)
        self._each(lambda tracker: tracker.confusion(self._step, matrix))
        self._each(lambda tracker: tracker.table(self._step, labels))

    def _scalars(self, values: Mapping[str, float]) -> None:
        self._each(lambda tracker: tracker.scalars(self._step, values))

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for tool, tracker in list(self._trackers.items()):
            self._guarded(tool, tell, tracker)

    def _guarded(self, tool: str, call: Callable[P, None], *arguments: P.args, **options: P.kwargs) -> None:
        """Whatever a tool raises, the training goes on without it."""
        try:
            call(*arguments, **options)
        except Interrupted:
            raise
        except Exception as error:
            self._trackers.pop(tool, None)
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            self._say(f"note: {tool} failed and no longer follows this run; the training goes on: {reason}")


def _facts(folder: RunFolder) -> dict[str, Any]:
    """What decided the run's numbers, from its own records; what was computed with goes before what was asked for."""
    recipe = Recipe.from_toml(read_text(folder.path / "recipe.toml")).as_dict()
    environment, data = folder.environment(), read_json(folder.path / "data.json")
    return {
        **recipe,
        **{name: environment.get(name) for name in ENVIRONMENT},
        **{name: data.get(name) for name in DATA},
    }
