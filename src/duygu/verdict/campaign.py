"""Trains models in engines on seeds and folds, each run in a process of its own, as many at a time as was asked.

Every run of a model has the same recipe, precision and starting weights, which are written once, and every fold has
the same split for all.
What is finished is not repeated: a campaign that was stopped, or that gets more seeds, runs what is missing.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from duygu.data.corpus import Corpus
from duygu.data.split import Split, make_split, read_split, write_split
from duygu.data.split_kinds import make_folds
from duygu.doctor import shape_of
from duygu.engines import EngineName, Probe
from duygu.errors import DuyguError, FolderError, Interrupted, OutOfMemory, UserError
from duygu.files import make_folder, new_folder, read_text
from duygu.models.presets import PRESETS
from duygu.models.source import copy_model, find_model, hub_name
from duygu.recipe import Recipe
from duygu.training.machine import cores, gpus, memory
from duygu.training.out_of_memory import killed
from duygu.training.plan import IntArray
from duygu.training.progress import shown_progress
from duygu.training.savings import Demand, alike, otherwise
from duygu.verdict.processes import STOPPED, Task, run_all
from duygu.verdict.request import AGAIN, CompareRequest, ModelRequest, kept_recipe, recipe_file
from duygu.verdict.runs import Run, engine_title, read_run

Say = Callable[[str], None]
COLLAPSED = 3  # the exit code of a run that finished and failed its quality gate
CORES_EACH = 8  # a run of its own choice has this many before a second one starts beside it


@dataclass(frozen=True, slots=True)
class Fold:
    """A split that runs share; ``number`` is None where there is only one."""

    number: int | None
    path: Path
    split: Split


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a campaign."""

    model: ModelRequest
    engine: EngineName
    seed: int
    fold: Fold
    folder: Path

    @property
    def title(self) -> str:
        """As people read it."""
        model = f"{self.model.name}, " if self.model.name else ""
        fold = "" if self.fold.number is None else f", fold {self.fold.number}"
        return f"{model}{engine_title(self.engine)}, seed {self.seed}{fold}"


def common_folds(request: CompareRequest, corpus: Corpus, groups: IntArray) -> list[Fold]:
    """The splits of all runs, kept in the comparison's folder; a resumed comparison goes on with those it had."""
    if not request.folds:
        return [Fold(None, request.out / "split.json", _common_split(request, corpus, groups))]
    folder = request.out / "splits"
    make_folder(folder)
    paths = [folder / f"fold{number}.json" for number in range(1, request.folds + 1)]
    if all(path.exists() for path in paths):
        splits = [read_split(path, corpus.ids, corpus.labels, groups, request.split_seed) for path in paths]
    else:
        splits = make_folds(
            corpus.labels, groups, corpus.ids, request.folds, request.split_seed, where=corpus.root
        )  # fmt: skip
        for number, (path, split) in enumerate(zip(paths, splits, strict=True), start=1):
            what = f"fold {number} of {request.folds}"
            write_split(path, split, corpus.ids, corpus.digest, {"kind": "kfold", "what": what})
    return [Fold(number, path, split) for number, (path, split) in enumerate(zip(paths, splits, strict=True), start=1)]


def common_start(out: Path, model: ModelRequest, engines: Sequence[EngineName]) -> str:
    """What every run gets as ``--model``: a preset's name, or the model's part of ``start/``, files linked or copied.

    A preset is built from the seed and the training texts; that both engines began equal, their start digests tell.
    """
    start = out / "start" / model.name
    if model.source in PRESETS or not (Path(model.source).is_dir() or hub_name(model.source)):
        return model.source
    if not start.exists():
        with shown_progress() as progress:
            source = find_model(model.source, progress, engines)
        if model.name:
            make_folder(start.parent)
        with new_folder(start, manifest=False) as folder:
            copy_model(source, folder)
    return str(start)


def common_precision(probes: Sequence[Probe]) -> str:
    """bf16 only where every engine multiplies it fast; one that does not would be compared at its worst."""
    return "bf16" if all(probe.fast_bf16 for probe in probes) else "fp32"


def with_precision(request: CompareRequest, say: Say) -> list[ModelRequest]:
    """The models, each recipe's precision as asked, as the resumed comparison began, or as the engines measure here.

    They are asked once, so that all recipes that leave it open get the same.
    """
    measured: str | None = None
    found: list[ModelRequest] = []
    for model in request.models:
        precision, kept = model.recipe.precision, kept_recipe(request.out, model.name)
        if precision == "auto" and kept is not None:
            precision = kept.precision
        elif precision == "auto":
            precision = measured = measured or _measured_precision(request, say)
        found.append(replace(model, recipe=model.recipe.changed({"precision": precision})))
    return found


def runs_at_once(request: CompareRequest, say: Say) -> int:
    """How many runs go on at a time: as asked or, unasked, one for every eight cores; never more than memory holds.

    One at a time is the default of small machines because a run beside another takes its time from it.
    """
    planned = len(request.models) * len(request.engines) * len(request.seeds) * max(1, request.folds)
    wanted = min(request.jobs or max(1, cores() // CORES_EACH), planned)
    if wanted == 1:
        return 1
    room = _room(request)
    if room < wanted and request.jobs:
        say(f"--jobs {request.jobs}: memory has room for {room} at a time")
    return min(wanted, room)


def train_all(
    request: CompareRequest, models: Sequence[ModelRequest], folds: Sequence[Fold], at_once: int, say: Say
) -> list[Run]:
    """Run what is not finished; all runs, read back.

    Fold by fold and seed by seed, model by model and engine by engine, so that a slow drift of the machine meets all
    alike.
    """
    planned = _planned(request, models, folds)
    starts = {model.name: common_start(request.out, model, request.engines) for model in models}
    titles = [f"[{number}/{len(planned)}] {run.title}" for number, run in enumerate(planned, start=1)]
    left: list[int] = []
    for number, run in enumerate(planned):
        if _finished(run, run.model.recipe.changed({"seed": run.seed})):
            say(f"{titles[number]}: finished before")
        else:
            left.append(number)
    make_folder(request.out / "runs")
    commands = [_command(request, starts[planned[number].model.name], planned[number]) for number in left]
    tasks = [Task(planned[number].folder.name, command) for number, command in zip(left, commands, strict=True)]
    run_all(
        tasks,
        at_once,
        began=lambda task: say(titles[left[task]]),
        ended=lambda task, code: _require_done(planned[left[task]], code, starts, at_once),
    )
    return [replace(read_run(run.folder), model=run.model.name) for run in planned]


def _planned(request: CompareRequest, models: Sequence[ModelRequest], folds: Sequence[Fold]) -> list[PlannedRun]:
    planned: list[PlannedRun] = []
    for seed, fold, model, engine in product(request.seeds, folds, models, request.engines):
        begin, end = f"{model.name}-" if model.name else "", "" if fold.number is None else f"-fold{fold.number}"
        folder = request.out / "runs" / f"{begin}{engine}-{seed}{end}"
        planned.append(PlannedRun(model, engine, seed, fold, folder))
    return planned


def _common_split(request: CompareRequest, corpus: Corpus, groups: IntArray) -> Split:
    kept = request.out / "split.json"
    if kept.exists():
        split = read_split(kept, corpus.ids, corpus.labels, groups, request.split_seed)
        given = request.split and read_split(request.split, corpus.ids, corpus.labels, groups, request.split_seed)
        if given and given.digest != split.digest:
            raise FolderError("was begun with another split", str(kept), "drop --split, or add --overwrite")
        return split
    if request.split:
        split = read_split(request.split, corpus.ids, corpus.labels, groups, request.split_seed, corpus.digest)
    else:
        split = make_split(corpus.labels, groups, corpus.ids, request.split_seed, where=corpus.root)
    write_split(kept, split, corpus.ids, corpus.digest)
    return split


def _measured_precision(request: CompareRequest, say: Say) -> str:
    probes = [_probe(engine) for engine in request.engines]
    for probe in probes:
        say(f"{engine_title(probe.engine)} {probe.version} on {probe.device}")
    precision = common_precision(probes)
    say(f"precision: {precision} for all runs")
    return precision


def _probe(engine: EngineName) -> Probe:
    """Ask an engine what it finds here, in a process that ends before any run begins."""
    answer = subprocess.run(
        [sys.executable, "-m", "duygu.engines", engine], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        reason = answer.stderr.strip().rpartition("Error: ")[2]
        raise UserError(f"the {engine} engine does not start: {reason}", f"--engines {engine}", "see duygu doctor")
    return Probe(**json.loads(answer.stdout))


def _room(request: CompareRequest) -> int:
    """How many runs fit into the memory that is free; one where that cannot be told, and on a GPU, which is one."""
    free = memory()[1]
    try:
        shapes = [(shape_of(model.source, model.recipe), model.recipe) for model in request.models]
    except UserError:
        return 1
    if free is None or gpus():
        return 1
    needs: list[int] = []
    for spec, recipe in shapes:
        low = "fp32" if recipe.precision == "fp32" else "bf16"  # what needs more
        needs += [Demand(spec, recipe, engine, low).bytes for engine in request.engines]
    return max(1, free // max(needs))


def _finished(run: PlannedRun, recipe: Recipe) -> bool:
    """Whether the run is there already; one of another recipe or split is an error, not a result."""
    folder = run.folder
    if not (folder / "metrics.json").exists():
        return False
    found = Recipe.from_toml(read_text(folder / "recipe.toml"), str(folder / "recipe.toml")).as_dict()
    changed = [name for name, value in recipe.as_dict().items() if found[name] != value]
    if read_run(folder).split_digest != run.fold.split.digest:
        changed.append("split")
    if changed:
        raise FolderError(f"was run with another {', '.join(changed)}", str(folder), AGAIN)
    return True


def _command(request: CompareRequest, model: str, run: PlannedRun) -> list[str]:
    options: dict[str, object] = {
        "--engine": run.engine,
        "--model": model,
        "--recipe": recipe_file(request.out, run.model.name),
        "--seed": run.seed,
        "--split": run.fold.path,
        "--split-seed": request.split_seed,
        "--threads": request.threads,
        "--track": ",".join(request.track),
        "--out": run.folder,
    }
    if run.fold.number is not None:
        options["--fold"] = run.fold.number
    words = [sys.executable, "-m", "duygu", "train", request.data, "--json", *request.format.options()]
    words += [str(word) for option in options.items() for word in option]
    return [*words, "--resume"] if run.folder.exists() else words


def _require_done(run: PlannedRun, code: int, starts: Mapping[str, str], jobs: int) -> None:
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Interrupted(code - 128, STOPPED)
    if code in (0, COLLAPSED):
        return
    which = "" if run.fold.number is None else f", fold {run.fold.number}"
    whose = f"the {run.engine} run of {run.model.name}" if run.model.name else f"the {run.engine} run"
    who = f"{whose} with seed {run.seed}{which}"
    if code == -signal.SIGKILL:
        raise _killed(run, who, starts[run.model.name], jobs)
    end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
    raise DuyguError(f"{who} {end}; --resume repeats what is missing, --overwrite begins again with any recipe")


def _killed(run: PlannedRun, who: str, start: str, jobs: int) -> OutOfMemory:
    """What to say of a run that was killed while ``jobs`` went on at a time. Every run has the comparison's recipe, so
    another one means to begin again.
    """
    recipe, demand = run.model.recipe, None
    with suppress(UserError):
        demand = Demand(shape_of(start, recipe), recipe, run.engine, recipe.precision)
    savings = [] if demand is None else [*alike(demand, memory()[1]), *otherwise(demand)]
    fix = f"--resume with --jobs {jobs // 2}" if jobs > 1 else "--resume when more memory is free"
    fix += f"; or begin again: --overwrite with {' or '.join(map(str, savings))}" if savings else ""
    return killed(who, str(run.folder), fix, None if demand is None else demand.bytes)
