"""Rounds of measurements: in each, every contender's process runs once, in an order that rotates from round to round.

So the drift of the machine hits all alike, and ratios are taken round by round. Each answer is appended to a log as it
comes, from which an interrupted bench goes on; what cannot be measured is reported and the rest goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from duygu.errors import DuyguError, FolderError, Interrupted, UserError
from duygu.files import SCHEMA, LineLog, locked, make_folder, read_lines, write_json, write_text
from duygu.scale.course import Course, Entry, Missing
from duygu.scale.environments import ENVIRONMENTS, NotAvailable, cache_folder, here, interpreter
from duygu.scale.measuring import Bench, Failed, export, forget_compiled, measure
from duygu.scale.report import markdown
from duygu.scale.roster import Contender, chosen, entrants, full_title
from duygu.scale.summary import summarise
from duygu.scale.workloads import QUICK, WORKLOADS, Amounts, Part, Sources, prepare
from duygu.training.machine import cores
from duygu.training.progress import Progress
from duygu.training.signals import caught_signals

EXPORTED_FROM = {"openvino": "onnxruntime"}  # an export that starts from another one


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """A bench as it was asked for."""

    out: Path  # bench.json; the log and the tables lie beside it
    workloads: tuple[str, ...] = WORKLOADS
    contenders: tuple[str, ...] = ()  # none: all that run by default
    rounds: int = 3
    quick: bool = False
    threads: int = 0  # 0: the cores there are
    documents: int = 0  # texts to score; 0: as the workload says
    sources: Sources = field(default_factory=Sources)
    resume: bool = False
    overwrite: bool = False

    @property
    def log(self) -> Path:
        """Every answer as it came, one JSON object a line."""
        return self.out.with_suffix(".jsonl")

    @property
    def tables(self) -> Path:
        """The tables as Markdown."""
        return self.out.with_suffix(".md")


def run_bench(request: BenchRequest, progress: Progress) -> dict[str, Any]:
    """Measure, write ``out`` and the same tables as Markdown beside it, and return what ``out`` holds.

    Raises `UserError` for what cannot be asked for, and `DuyguError`, once all is written, where an engine of duygu's
    own gave no answer.
    """
    contenders = chosen(request.contenders, request.quick)
    _accept(request)
    cache = cache_folder()
    make_folder(cache)
    with caught_signals(), locked(cache):
        course = _begin(request, cache, progress)
        log = _open_log(request, course)
        try:
            _enter(course, contenders, request, progress)
            _export(course, progress)
            _measure(course, log, progress)
        except (KeyboardInterrupt, Interrupted):
            progress.message(f"what was measured is in {request.log}; --resume goes on from there")
            raise
        finally:
            log.close()
    result = {"schema": SCHEMA, **summarise(course)}
    write_json(request.out, result)
    write_text(request.tables, markdown(result))
    return result


def require_answers(result: Mapping[str, Any]) -> None:
    """Raise `DuyguError` where an engine of duygu's own was to be measured and could not be."""
    failed = [f"{one['part']}, {one['title']}: {one['why']}" for one in result["not_measured"] if one["ours"]]
    if failed:
        raise DuyguError("\n".join(["duygu itself could not be measured", *failed]))


def _accept(request: BenchRequest) -> None:
    if request.out.suffix != ".json":
        raise UserError(f"{request.out.name} does not end in .json", f"--out {request.out}", "--out bench.json")
    make_folder(request.out.parent)
    there = [path for path in (request.out, request.log) if path.exists()]
    if there and not (request.resume or request.overwrite):
        fix = "--resume to go on, --overwrite to start afresh, or another --out"
        raise FolderError("it exists already", str(there[0]), fix)


def _begin(request: BenchRequest, cache: Path, progress: Progress) -> Course:
    """Inputs and models on disk, the threads and the arithmetic settled."""
    amounts = QUICK if request.quick else Amounts()
    if request.documents:
        amounts = replace(amounts, documents=request.documents)
    progress.phase("preparing models and texts")
    parts = prepare(request.workloads, request.sources, amounts, cache, progress.message)
    threads = request.threads or cores()
    return Course(Bench(cache, threads, _low_precision(threads)), 1 if request.quick else request.rounds, parts)


def _low_precision(threads: int) -> str:
    """bf16 where PyTorch multiplies it clearly faster than fp32 on this processor; asked in a process of its own."""
    command = [sys.executable, "-m", "duygu.engines", "torch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "bf16" if done.returncode == 0 and json.loads(done.stdout)["fast_bf16"] else "fp32"


def _open_log(request: BenchRequest, course: Course) -> LineLog:
    """The log of answers; when resuming, those that it holds count, if they were measured on the same inputs."""
    if not (request.resume and request.log.exists()):
        return LineLog(request.log)
    for line in read_lines(request.log):
        part = next((part for part in course.parts if part.name == line["part"]), None)
        if part is not None and line["on"] != _conditions(course, part):
            fix = "go on with the same inputs and threads, or start afresh with --overwrite"
            raise FolderError(f"its {part.name} was measured on other inputs or threads", str(request.log), fix)
        if part is not None:
            course.answers[line["part"], line["contender"], line["round"]] = line["answer"]
    return LineLog(request.log, request.log.read_bytes().rfind(b"\n") + 1)


def _conditions(course: Course, part: Part) -> dict[str, object]:
    """What must be equal for two answers to belong to one bench."""
    return {"input": part.digest, "threads": course.bench.threads, "low": course.bench.low}


def _enter(course: Course, contenders: Sequence[Contender], request: BenchRequest, progress: Progress) -> None:
    """Find or make the interpreter of everyone who takes part; without one, a contender is missing."""
    for part in course.parts:
        for contender in entrants(contenders, part):
            progress.phase(f"environment of {contender.title}")
            try:
                python = _interpreter(contender, course, not request.quick, progress)
            except NotAvailable as error:
                course.missing.append(Missing(part.name, contender, str(error)))
            else:
                course.entries.append(Entry(part, contender, python))


def _interpreter(contender: Contender, course: Course, create: bool, progress: Progress) -> Path:
    if contender.place is None:
        return here(contender.needs)
    return interpreter(contender.place, contender.needs, course.bench.cache, create, progress.message)


def _export(course: Course, progress: Progress) -> None:
    """Make the files that exported runtimes read; where that fails, the contenders that need them are missing."""
    for entry in list(course.entries):
        tool = entry.contender.export
        if tool is None:
            continue
        progress.phase(f"exporting for {entry.contender.title}")
        try:
            _export_for(course, tool, entry, progress)
        except (Failed, NotAvailable) as error:
            course.entries.remove(entry)
            why = f"its files could not be exported: {error}"
            course.missing.append(Missing(entry.part.name, entry.contender, why))


def _export_for(course: Course, tool: str, entry: Entry, progress: Progress) -> None:
    if tool in EXPORTED_FROM:
        first = EXPORTED_FROM[tool]
        python = interpreter(ENVIRONMENTS[first], (), course.bench.cache, False, progress.message)
        export(course.bench, first, entry.part, python)
    export(course.bench, tool, entry.part, entry.python)


def _measure(course: Course, log: LineLog, progress: Progress) -> None:
    """Take every turn that has no answer yet. Who fails once is missing from there on."""
    turns = [(number, entry) for number, entry in course.turns() if (*entry.key, number) not in course.answers]
    minutes = sum(entry.contender.expected[entry.part.name.startswith("W3")] for _, entry in turns) / 60
    progress.message(f"{len(turns)} measurement(s), about {minutes:.0f} min on two cores of 2023")
    progress.phase("measuring", len(turns))
    for number, entry in turns:
        name = f"{entry.part.name}, {entry.contender.title}"
        progress.advance(0, name)
        if not course.is_missing(entry):
            try:
                _take(course, log, number, entry, progress)
            except Failed as error:
                course.missing.append(Missing(entry.part.name, entry.contender, str(error)))
                progress.message(f"{name}: not measured: {error}")
        progress.advance()


def _take(course: Course, log: LineLog, number: int, entry: Entry, progress: Progress) -> None:
    if number == 0 and entry.contender.compiles:
        forget_compiled(course.bench, entry.contender, entry.part)
    began = time.perf_counter()
    answer = measure(course.bench, entry.contender, entry.part, entry.python)
    took = time.perf_counter() - began
    course.answers[*entry.key, number] = {**answer, "took_s": took}
    part, contender = entry.key
    on = _conditions(course, entry.part)
    log.append({"part": part, "contender": contender, "round": number, "on": on, "answer": {**answer, "took_s": took}})
    log.sync()
    title = full_title(entry.contender, course.bench.low)
    rate = sum(answer["documents"]) / sum(answer["seconds"])
    progress.message(f"{part} round {number + 1}: {title}: {rate:.2f} documents/s, {took:.0f} s in all")
