"""From answers to the content of ``bench.json``: medians, ratios round by round, bars, and every raw second."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import Any

from duygu.scale.bars import BARS, Answer, Outcome, compile_seconds, judge, peak, rate, ratios, real_share
from duygu.scale.course import Course
from duygu.scale.roster import Contender, arithmetic, full_title
from duygu.scale.workloads import Part
from duygu.training.machine import cores, processor

REFERENCES = (  # whose probabilities the others are held against: the first that was measured, fp32 where there is one
    "pipeline-sorted", "duygu-torch-fp32", "duygu-jax-fp32", "onnxruntime-fp32", "openvino-fp32", "duygu-jax",
)  # fmt: skip
OURS = ("duygu-torch", "duygu-jax", "duygu")  # whose lead over the others the tables show


def summarise(course: Course) -> dict[str, Any]:
    """All that is known, as plain values."""
    rounds = {part.name: course.rounds_of(part.name) for part in course.parts}
    return {
        "command": shlex.join([PurePath(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": _machine(),
        "threads": course.bench.threads,
        "low_precision": course.bench.low,
        "rounds": course.rounds,
        "parts": [_part(course, part, rounds[part.name]) for part in course.parts],
        "bars": [_bar(outcome) for outcome in judge(BARS, rounds)],
        "not_measured": _missing(course),
    }


def _machine() -> dict[str, object]:
    memory = None
    with suppress(ValueError, OSError, AttributeError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": memory,
        "system": platform.platform(),
        "duygu": importlib.metadata.version("duygu"),
    }


def _part(course: Course, part: Part, rounds: Mapping[str, Mapping[int, Answer]]) -> dict[str, Any]:
    contenders = [entry.contender for entry in course.entries if entry.part.name == part.name]
    measured = [contender for contender in contenders if rounds.get(contender.name)]
    reference = next((name for name in REFERENCES if rounds.get(name)), None) if part.task == "score" else None
    return {
        "name": part.name,
        "task": part.task,
        "about": part.about,
        "input": part.digest,
        "reference": reference,
        "contenders": [_contender(course, contender, rounds, reference) for contender in measured],
    }


def _contender(
    course: Course, contender: Contender, rounds: Mapping[str, Mapping[int, Answer]], reference: str | None
) -> dict[str, Any]:
    answers = [answer for _, answer in sorted(rounds[contender.name].items())]
    leads = {ours: ratios(rounds, ours, contender.name) for ours in OURS if ours in rounds}
    return {
        "name": contender.name,
        "title": full_title(contender, course.bench.low),
        "ours": contender.ours,
        "precision": arithmetic(contender, course.bench.low),
        "environment": contender.environment,
        "versions": answers[0]["versions"],
        "summary": {
            "documents_per_s": _spread([rate(answer) for answer in answers]),
            "leads": {ours: _spread(values) for ours, values in leads.items() if values},
            "setup_s": statistics.median(answer["setup_s"] for answer in answers),
            "peak_bytes": max((peak(answer) or 0 for answer in answers), default=0) or None,
            "real_share": real_share(answers[0]),
            **_compiling(contender, answers),
            **_latencies(answers),
            **_answers(rounds, contender.name, reference),
        },
        "rounds": [{name: value for name, value in answer.items() if name != "probabilities"} for answer in answers],
    }


def _compiling(contender: Contender, answers: Sequence[Answer]) -> dict[str, Any]:
    """Seconds spent compiling, from an empty cache in the first round and from its own in the later ones."""
    found = [compile_seconds(answer) for answer in answers] if contender.compiles else []
    seconds = [value for value in found if value is not None]
    if not seconds:
        return {}
    warm = statistics.median(seconds[1:]) if len(seconds) > 1 else None
    return {"compile_cold_s": seconds[0], "compile_warm_s": warm, "shapes": answers[0]["shapes"]}


def _latencies(answers: Sequence[Answer]) -> dict[str, float]:
    """Median and 99th percentile of single texts, over all rounds."""
    every = sorted(seconds for answer in answers for seconds in answer.get("singles", ()))
    if not every:
        return {}
    return {"p50_s": statistics.median(every), "p99_s": every[min(len(every) - 1, round(0.99 * (len(every) - 1)))]}


def _answers(rounds: Mapping[str, Mapping[int, Answer]], name: str, reference: str | None) -> dict[str, float]:
    """How far the probabilities are from the reference's, and how often the label is the same."""
    if reference is None:
        return {}
    own, other = (next(iter(rounds[one].values()))["probabilities"] for one in (name, reference))
    pairs = list(zip(own, other, strict=False))  # slow tools score the first texts only
    largest = max(abs(a - b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))
    same = sum(ours.index(max(ours)) == theirs.index(max(theirs)) for ours, theirs in pairs)
    return {"largest_difference": largest, "same_label": same / len(pairs)}


def _bar(outcome: Outcome) -> dict[str, Any]:
    bar = outcome.bar
    return {
        "part": bar.part,
        "title": bar.title,
        "ours": bar.ours,
        "rivals": list(bar.rivals),
        "measure": bar.measure,
        "rule": bar.rule,
        "limit": bar.limit,
        "unit": bar.unit,
        "value": outcome.value,
        "values": list(outcome.values),
        "met": outcome.met,
    }


def _missing(course: Course) -> list[dict[str, object]]:
    return [
        {
            "part": one.part,
            "contender": one.contender.name,
            "title": full_title(one.contender, course.bench.low),
            "ours": one.contender.ours,
            "why": one.why,
        }
        for one in course.missing
    ]


def _spread(values: Sequence[float | None]) -> dict[str, float]:
    """Median, least and most of what the rounds gave."""
    known = [value for value in values if value is not None]
    return {"median": statistics.median(known), "min": min(known), "max": max(known)}
