"""Train one model in both engines, each run in a process of its own, and say what differs.

Every run of a comparison has the same split, recipe, precision and starting weights, which are written once; afterwards
the run folders are read back and checked to have been twins. Runs follow one another, so that none disturbs another's
timing. `compare` can be stopped at any moment and resumed; `compare_runs` only reads runs that are finished.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from duygu.data.corpus import Corpus, read_corpus
from duygu.data.doubts import label_doubts
from duygu.data.sources import BY_DEFAULT, DataFormat
from duygu.data.split import IntArray, Split, duplicate_groups, make_split, read_split, write_split
from duygu.engines import ENGINES, EngineName, Probe
from duygu.errors import DuyguError, FolderError, Interrupted, UserError
from duygu.files import (
    delete_folder,
    locked,
    make_folder,
    new_folder,
    on_disk,
    read_json,
    read_text,
    sweep,
    write_json,
    write_text,
)
from duygu.models.presets import PRESETS
from duygu.models.source import copy_model, find_model, hub_name
from duygu.recipe import Recipe
from duygu.training.progress import shown_progress
from duygu.verdict.baselines import Baseline, baselines
from duygu.verdict.page import PAGE, comparison_page, read_history
from duygu.verdict.report import markdown
from duygu.verdict.runs import Pair, Run, check_twins, engine_pairs, engine_title, read_run

Say = Callable[[str], None]
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = "interrupted; --resume goes on from here"
COLLAPSED = 3  # the exit code of a run that finished and failed its quality gate
OWN_FILES = ("request.json", "split.json", "recipe.toml", "comparison.json", "report.md", PAGE, "runs", "start")


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What to compare; ``recipe.precision`` "auto" is resolved once for all runs, ``recipe.seed`` is not used."""

    data: str
    model: str
    out: Path
    recipe: Recipe
    engines: tuple[EngineName, ...] = ENGINES
    seeds: tuple[int, ...] = (13,)
    split: str | None = None
    split_seed: int = 0
    threads: int = 0
    resume: bool = False
    overwrite: bool = False
    format: DataFormat = BY_DEFAULT

    def __post_init__(self) -> None:
        for option, values in (("--engines", self.engines), ("--seeds", self.seeds)):
            if not values or len(set(values)) != len(values):
                raise UserError("each must be named once", f"{option} {','.join(map(str, values))}", "as in 13,42")
        for engine in self.engines:
            if engine not in ENGINES:
                raise UserError(f"there is no engine {engine!r}", "--engines", f"choose from: {', '.join(ENGINES)}")


def compare(request: CompareRequest, say: Say) -> dict[str, object]:
    """Train every engine on every seed; write ``comparison.json``, which it returns, ``report.md`` and ``report.html``.

    Raises `UserError` for what the user can mend, `DuyguError` for a run that failed, `Interrupted` for a signal.
    """
    out = request.out
    make_folder(out)
    with locked(out):
        sweep(out)
        _claim(out, request)
        corpus = read_corpus(request.data, **request.format.as_dict())
        _keep_request(request, corpus)
        groups = duplicate_groups(corpus.texts)
        split = _common_split(request, corpus, groups)
        for warning in (*corpus.warnings, *label_doubts(corpus, groups), *split.warnings):
            say(warning)
        recipe = request.recipe.changed({"precision": _resolve_precision(request, say)})
        write_text(out / "recipe.toml", recipe.to_toml())
        model = _common_start(request)
        folders = _train_all(request, recipe, split, model, say)
        runs = [read_run(folder) for folder in folders]
        check_twins(runs)
        say("baselines: majority, and a linear model on words")
        simple = baselines(corpus.texts, corpus.labels, corpus.names, split.train, split.test)
        result = _conclude(out, request.model, runs, simple)
        say(f"report: {out / PAGE}")
        return result


def compare_runs(folders: Sequence[str | Path], out: Path | None = None) -> dict[str, object]:
    """Compare finished run folders; with ``out``, write the same files there."""
    runs = [read_run(Path(folder)) for folder in folders]
    check_twins(runs)
    model = str(runs[0].metrics["model"])
    if out is None:
        return comparison(model, runs)
    make_folder(out)
    with locked(out):
        return _conclude(out, model, runs, ())


def comparison(
    model: str, runs: Sequence[Run], simple: Sequence[Baseline] = (), out: Path = Path()
) -> dict[str, object]:
    """The content of ``comparison.json``; run folders within ``out`` are named relative to it."""
    pairs = engine_pairs(runs)
    return {
        "schema": 1,
        "model": model,
        "verdict": verdict(runs, pairs),
        "data": {name: value for name, value in runs[0].data.items() if name != "parts"},  # split.json has them
        "engines": {engine: _summary(group) for engine, group in _by_engine(runs).items()},
        "baselines": [baseline.as_json() for baseline in simple],
        "pairs": [pair.as_json() for pair in pairs],
        "runs": [{**run.metrics, "name": run.name, "folder": _within(run.folder, out)} for run in runs],
    }


def verdict(runs: Sequence[Run], pairs: Sequence[Pair]) -> str:
    """The first sentence a reader should see; it claims no more than the runs can show."""
    if not pairs:
        return "One engine only: there is nothing to compare it with."
    names = " and ".join(engine_title(engine) for engine in _by_engine(runs))
    if len(pairs) == 1:
        return f"{names}: {pairs[0].verdict}"
    apart = sum(pair.different for pair in pairs)
    values = [pair.difference * 100 for pair in pairs]
    spread = f"{statistics.mean(values):+.1f} points on average, standard deviation {statistics.stdev(values):.1f}"
    found = f"in {apart} of {len(pairs)} paired runs exact McNemar tells the two models apart"
    return f"{names}: {found}. Their difference in accuracy is {spread} between seeds."


def _conclude(out: Path, model: str, runs: Sequence[Run], simple: Sequence[Baseline]) -> dict[str, object]:
    result = comparison(model, runs, simple, out)
    write_json(out / "comparison.json", result)
    write_text(out / "report.md", markdown(result))
    write_text(out / PAGE, comparison_page(result, {run.name: read_history(run.folder) for run in runs}))
    return result


def _within(folder: Path, out: Path) -> str:
    return (folder.relative_to(out) if folder.is_relative_to(out) else folder).as_posix()


def _by_engine(runs: Sequence[Run]) -> dict[str, list[Run]]:
    engines = dict.fromkeys(run.engine for run in runs)
    return {engine: [run for run in runs if run.engine == engine] for engine in engines}


def _summary(runs: Sequence[Run]) -> dict[str, object]:
    """One engine over its seeds: mean, standard deviation (null for one run), worst and best, never the best alone."""
    summary: dict[str, object] = {
        "runs": len(runs),
        "collapsed": sum(bool(run.metrics["collapsed"]) for run in runs),
    }
    for score in ("accuracy", "macro_f1", "mcc", "loss"):
        values = [float(getattr(run.test, score)) for run in runs]
        summary[f"{score}_mean"] = statistics.mean(values)
        summary[f"{score}_sd"] = statistics.stdev(values) if len(values) > 1 else None
        summary[f"{score}_min"], summary[f"{score}_max"] = min(values), max(values)
    return summary


def _claim(out: Path, request: CompareRequest) -> None:
    """Make ``out`` this comparison's own: empty, resumed, or emptied of an earlier comparison and of nothing else."""
    found = [path for path in out.iterdir() if path.name != ".lock"]
    if not found or request.resume:
        return
    strangers = sorted(path.name for path in found if path.name not in OWN_FILES)
    if strangers:
        fix = "choose another --out"
        raise FolderError(f"holds what no comparison wrote: {', '.join(strangers[:5])}", str(out), fix)
    if not request.overwrite:
        raise FolderError("holds a comparison already", str(out), "add --resume or --overwrite")
    for path in found:
        with on_disk(path):
            delete_folder(path) if path.is_dir() else path.unlink()


def _keep_request(request: CompareRequest, corpus: Corpus) -> None:
    """Record model and texts, or hold a resumed comparison to the ones it began with."""
    path, folder = request.out / "request.json", Path(request.model)
    local = request.model not in PRESETS and folder.is_dir()
    asked = {"model": str(folder.resolve()) if local else request.model, "texts": corpus.digest}
    if path.exists():
        changed = [name for name, value in read_json(path).items() if asked.get(name, value) != value]
        if changed:
            fix = "repeat the command as it was, or add --overwrite"
            raise FolderError(f"was begun with other {' and '.join(changed)}", str(request.out), fix)
    else:
        write_json(path, asked)


def _common_split(request: CompareRequest, corpus: Corpus, groups: IntArray) -> Split:
    """The one split of all runs, kept in ``split.json``; a resumed comparison goes on with the one it had."""
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


def common_precision(probes: Sequence[Probe]) -> str:
    """bf16 only where every engine multiplies it fast; one that does not would be compared at its worst."""
    return "bf16" if all(probe.fast_bf16 for probe in probes) else "fp32"


def _resolve_precision(request: CompareRequest, say: Say) -> str:
    """As asked, as the resumed comparison began, or as the engines' measurements on this machine say."""
    if request.recipe.precision != "auto":
        return request.recipe.precision
    kept = request.out / "recipe.toml"
    if kept.exists():
        return Recipe.from_toml(read_text(kept), str(kept)).precision
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


def _common_start(request: CompareRequest) -> str:
    """What every run gets as ``--model``: a preset's name, or ``start/`` with the model's files, linked or copied.

    A preset is built from the seed and the training texts; that both engines began equal, their start digests tell.
    """
    start = request.out / "start"
    if request.model in PRESETS or not (Path(request.model).is_dir() or hub_name(request.model)):
        return request.model
    if not start.exists():
        with shown_progress() as progress:
            source = find_model(request.model, progress)
        with new_folder(start, manifest=False) as folder:
            copy_model(source, folder)
    return str(start)


def _train_all(request: CompareRequest, recipe: Recipe, split: Split, model: str, say: Say) -> list[Path]:
    """Seed by seed, engine by engine, so that a slow drift of the machine meets both alike; the run folders."""
    tasks = [(engine, seed) for seed in request.seeds for engine in request.engines]
    folders: list[Path] = []
    for number, (engine, seed) in enumerate(tasks, start=1):
        folder = request.out / "runs" / f"{engine}-{seed}"
        title = f"[{number}/{len(tasks)}] {engine_title(engine)}, seed {seed}"
        if _finished(folder, recipe.changed({"seed": seed}), split):
            say(f"{title}: finished before")
        else:
            say(title)
            _train(request, model, engine, seed, folder)
        folders.append(folder)
    return folders


def _finished(folder: Path, recipe: Recipe, split: Split) -> bool:
    """Whether the run is there already; one of another recipe or split is an error, not a result."""
    if not (folder / "metrics.json").exists():
        return False
    found = Recipe.from_toml(read_text(folder / "recipe.toml"), str(folder / "recipe.toml")).as_dict()
    changed = [name for name, value in recipe.as_dict().items() if found[name] != value]
    if read_run(folder).split_digest != split.digest:
        changed.append("split")
    if changed:
        fix = "repeat the command with the same settings, or add --overwrite"
        raise FolderError(f"was run with another {', '.join(changed)}", str(folder), fix)
    return True


def _train(request: CompareRequest, model: str, engine: str, seed: int, folder: Path) -> None:
    """One run in a process of its own. Its progress and its errors go to our standard error as they come."""
    out = request.out
    options = {
        "--engine": engine,
        "--model": model,
        "--recipe": out / "recipe.toml",
        "--seed": seed,
        "--split": out / "split.json",
        "--split-seed": request.split_seed,
        "--threads": request.threads,
        "--out": folder,
    }
    command = [sys.executable, "-m", "duygu", "train", request.data, "--json", *request.format.options()]
    command += [str(word) for option in options.items() for word in option]
    if folder.exists():
        command.append("--resume")
    make_folder(folder.parent)
    code = _run(command)
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Interrupted(code - 128, STOPPED)
    if code not in (0, COLLAPSED):
        end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
        raise DuyguError(f"the {engine} run with seed {seed} {end}; --resume repeats what is missing")


def _run(command: Sequence[str]) -> int:
    """Run a child to its end and return its exit code; what asks us to stop is handed to it, so that it can save.

    It has a process group of its own: a terminal's Ctrl-C would reach it a second time, and a second one kills.
    """
    children: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def forward(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        for child in children:
            child.send_signal(signum)

    with _handling(forward):
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0)
        children.append(child)
        if received:  # it came before the child could be told
            child.send_signal(received[0])
        code = child.wait()
    if received:
        raise Interrupted(received[0], STOPPED)
    return code


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Answer `FORWARDED` signals with ``handler``, except ignored ones; outside the main thread change nothing."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in FORWARDED} if main else {}
    mine = {number: previous for number, previous in before.items() if previous != signal.SIG_IGN}
    for number in mine:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in mine.items():
            signal.signal(number, previous)
