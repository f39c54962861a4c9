"""``duygu doctor``: what this machine has, what is missing, and whether a model fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from duygu.errors import printable
from duygu.options import chosen_recipe, json_option, recipe_option, settings_option
from duygu.verbs.output import print_json, say

if TYPE_CHECKING:
    from duygu.models.spec import ModelSpec
    from duygu.recipe import Recipe

Report = dict[str, Any]
GIB = 1 << 30


@click.command(short_help="Say what is installed, what is missing, what fits.")
@click.option("--model", metavar="FOLDER|PRESET", help="Predict the memory that this model takes.")
@recipe_option
@settings_option
@click.option("--engine", metavar="torch|jax", help="Ask about one framework only.")
@json_option
def doctor(model: str | None, recipe: str | None, settings: tuple[str, ...], engine: str | None, as_json: bool) -> None:
    """Say which packages, devices, memory, caches and hub this machine has, and how to get what is missing.

    With MODEL, also predict the memory that training and scoring take. It ends with exit code 0 whatever is missing.

    \b
    Example:
      duygu doctor
      duygu doctor --model tiny --set batch=64 --engine torch
    """
    from duygu.doctor import ENGINES, examine, shape_of
    from duygu.errors import UserError

    if engine is not None and engine not in ENGINES:
        raise UserError(f"there is no engine {engine!r}", "--engine", f"choose one of: {', '.join(ENGINES)}")
    if model is None and (recipe is not None or settings):
        raise click.UsageError("a recipe says how much memory is needed together with --model only")
    wanted = chosen_recipe(model or "", recipe, settings)
    spec = None if model is None else shape_of(model, wanted)  # a mistake is said before anything is waited for
    report = examine(say, [engine] if engine else list(ENGINES))
    report["memory"] = None if spec is None or model is None else _predict(report, model, spec, wanted)
    if as_json:
        print_json(report)
    else:
        for line in _lines(report):
            click.echo(printable(line))


def _predict(report: Report, model: str, spec: ModelSpec, recipe: Recipe) -> Report:
    from duygu.models.checkpoints import access
    from duygu.scale.memory import Room, predict

    fast = {found["engine"]: found.get("fast_bf16") for found in report["engines"]}
    here, cards = Room(report["machine"]["memory_free_bytes"]), [card["free_bytes"] for card in report["gpus"]]
    on_gpu = Room(max(cards, default=None), gpu=True)
    rooms = {one["engine"]: here if one.get("device", "cpu") == "cpu" else on_gpu for one in report["engines"]}
    return {"model": model, **predict(spec, recipe, fast, rooms), "access": access(model)}


def _lines(report: Report) -> Iterator[str]:
    """The report as text, part by part."""
    parts = {
        "packages": _packages(report["packages"], report["python"]),
        "engines": _engines(report["engines"], report["gpus"]),
        "machine": _machine(report["machine"]),
        "caches": _caches(report["caches"]),
        "hub": [(report["hub"]["endpoint"], f"{report['hub']['state']}: {report['hub']['detail']}")],
    }
    yield f"duygu {report['duygu']}"
    for name, rows in parts.items():
        yield ""
        yield from _aligned(name, rows)
    if report["memory"] is not None:
        yield ""
        yield from _memory(report["memory"])
    yield ""
    if report["missing"]:
        yield from _aligned("to install", [(one["install"], one["what"]) for one in report["missing"]])
    else:
        yield "nothing is missing"


def _aligned(name: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    found = list(rows)
    width = max((len(left) for left, _ in found), default=0)
    yield name
    for left, right in found:
        yield f"  {left:{width}}  {right}".rstrip()


def _packages(packages: Sequence[Report], python: str) -> Iterator[tuple[str, str]]:
    yield "python", python
    for package in packages:
        version = package["version"] or f"not installed: {package['install']}"
        old = f"  older than {package['least']}: {package['install']}" if package["too_old"] else ""
        yield package["name"], version + old


def _engines(engines: Sequence[Report], gpus: Sequence[Report]) -> Iterator[tuple[str, str]]:
    for engine in engines:
        if engine["problem"]:
            yield engine["engine"], engine["problem"]
        else:
            bf16 = "bf16 is faster than fp32" if engine["fast_bf16"] else "bf16 is not faster than fp32"
            yield engine["engine"], f"{engine['version']} on {engine['devices']} x {engine['device']}; {bf16}"
    for gpu in gpus:
        memory = f"{_gib(gpu['free_bytes'])} of {_gib(gpu['memory_bytes'])} free, driver {gpu['driver']}"
        yield f"GPU {gpu['name']}", memory


def _machine(machine: Report) -> Iterator[tuple[str, str]]:
    yield "system", machine["platform"]
    flags = machine["flags"]
    has = "" if flags is None else ", ".join(name for name, found in flags.items() if found) or "no wide arithmetic"
    yield "processor", machine["processor"] + (f" ({has})" if has else "")
    yield "cores", f"{machine['cores']} for this process, {machine['logical_cores']} logical in all"
    yield "memory", f"{_gib(machine['memory_free_bytes'])} of {_gib(machine['memory_bytes'])} free"
    yield "disk, here", f"{_gib(machine['disk_free_bytes'])} free"
    yield from machine["variables"].items()


def _caches(caches: Sequence[Report]) -> Iterator[tuple[str, str]]:
    for cache in caches:
        more = "" if cache["all"] else "more than "
        size = f"{more}{_gib(cache['bytes'])} in {cache['files']:,} files" if cache["exists"] else "not there yet"
        yield cache["name"], f"{size}, {cache['path']}"


def _memory(memory: Report) -> Iterator[str]:
    """A table of what is needed, in GiB, then whether it fits."""
    parts = ("process", "masters", "moments", "gradients", "copies", "averages", "activations", "held", "total")
    yield (
        f"memory that {memory['model']} takes in GiB: {memory['weights']:,} weights, "
        f"{memory['documents']} documents of up to {_tokens(memory)} at once"
    )
    widths = {part: max(8, len(part) + 2) for part in parts}
    yield "  " + f"{'':22}" + "".join(f"{part:>{width}}" for part, width in widths.items())
    for need in memory["needs"]:
        name = f"{need['engine']} {need['precision']}, {need['what']}"
        yield f"  {name:22}" + "".join(f"{need[f'{part}_bytes'] / GIB:{width}.2f}" for part, width in widths.items())
    for need in memory["needs"]:
        if need["what"] == "training":
            parts = (f"{need[f'{part}_bytes'] / GIB:.2f}" for part in ("on_device", "host_loading"))
            name = f"{need['engine']} {need['precision']}, training"
            yield "  {} on a GPU: {} GiB of its memory, {} GiB of the host's".format(name, *parts)
    for line in (*memory["findings"], *filter(None, [memory["access"]])):
        yield f"  {line}"


def _tokens(memory: Report) -> str:
    """What a document may have."""
    windows = f"{memory['windows']} windows of " if memory["windows"] > 1 else ""
    return f"{windows}{memory['length']} tokens"


def _gib(value: int | None) -> str:
    if value is None:
        return "unknown"
    return f"{value / GIB:.1f} GiB" if value >= GIB / 10 else f"{value / (1 << 20):.1f} MiB"
