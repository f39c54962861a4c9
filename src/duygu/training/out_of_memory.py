"""When memory does not suffice: what was being done, what that needs, what there was, and which knobs lower it.

`Watched` is an engine around an engine: what a framework raises for memory that it did not get leaves as `OutOfMemory`,
three lines. Frameworks are not imported here, so their exceptions are known by what they say. On a CPU, Linux mostly
kills a process where it could have refused it memory; who started that process can tell (`killed`).
"""

from __future__ import annotations

import errno
import importlib.util
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from duygu.engines import ENGINES, Engine, EngineName, Placement, Probe, State, StepKey, StepResult
from duygu.errors import OutOfMemory
from duygu.models.spec import ModelSpec
from duygu.recipe import Recipe
from duygu.scale.memory import scoring_with_recipe
from duygu.training.machine import gpus, memory, own_limit, resident_memory
from duygu.training.plan import Batch, Shape
from duygu.training.savings import WORTH, Demand, alike, gib, otherwise

WORDS = ("out of memory", "can't allocate memory", "not enough memory", "resource_exhausted", "status_alloc_failed")
UNITS = {"b": 1, "bytes": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "pib": 1 << 50}
_SIZE = r"(\d+(?:\.\d+)?) ?(bytes|[KMGTP]iB|B)\b"
_ASKED = re.compile(rf"allocat(?:e|ing) {_SIZE}", re.IGNORECASE)
_HAS = re.compile(rf"total capaci?ty of {_SIZE}", re.IGNORECASE)
_FREE = re.compile(rf"of which {_SIZE} is free", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shortage:
    """What an exception says of memory that was not to be had, in bytes; None where it does not say."""

    asked: int | None = None
    device: int | None = None  # that the GPU has, and how much of it is free
    free: int | None = None
    host: bool = False  # whether it was the machine's own memory for sure


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that there are for a process, None where that is not known, and that in words."""

    bytes: int | None
    words: str


def shortage(error: BaseException) -> Shortage | None:
    """What an exception of Python, numpy, PyTorch or JAX says of missing memory; None for any other exception.

    JAX's XlaRuntimeError and PyTorch's OutOfMemoryError are RuntimeErrors, numpy's _ArrayMemoryError is a MemoryError.
    """
    text = str(error)
    said = isinstance(error, RuntimeError) and any(word in text.lower() for word in WORDS)
    refused = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if not (said or refused):
        return None
    sizes = (_size(pattern.search(text)) for pattern in (_ASKED, _HAS, _FREE))
    return Shortage(*sizes, host=refused or "DefaultCPUAllocator" in text)


def room(found: Shortage, on_gpu: bool) -> Room:
    """What there is for this process: on the GPU, else of this machine's memory with what the process has already."""
    if on_gpu:
        return _room_on_gpu(found)
    free, limit = memory()[1], own_limit()
    here = None if free is None else free + resident_memory()
    if limit is not None and (here is None or limit < here):
        return Room(limit, f"this process may have {gib(limit)} (ulimit)")
    return Room(here, "" if here is None else f"there were {gib(here)}")


def killed(who: str, where: str, fix: str, needed: int | None = None) -> OutOfMemory:
    """What to say of a process that SIGKILL ended, and that needed so many bytes where that is known."""
    problem = f"{who} was killed by SIGKILL, most likely by the system because memory ran out"
    free = memory()[1]
    if needed is not None:
        problem += f": it needs some {gib(needed)}" + (f", and {gib(free)} are free now" if free else "")
    return OutOfMemory(problem, where, fix)


@dataclass(slots=True)
class Watched:
    """An engine that tells of missing memory in three lines. ``scores`` is how a finished model cuts its documents,
    where there is one; without, the engine trains."""

    engine: Engine
    scores: Recipe | None = None
    name: EngineName = field(init=False)
    static_shapes: bool = field(init=False)
    started: Demand | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.name, self.static_shapes = self.engine.name, self.engine.static_shapes

    def probe(self) -> Probe:
        """The engine's own."""
        return self.engine.probe()

    def start(self, spec: ModelSpec, tensors: Mapping[str, np.ndarray], recipe: Recipe, placement: Placement) -> State:
        """The engine's own."""
        self.started = Demand(spec, recipe, self.name, placement.precision)
        with self._told("loading the weights"):
            return self.engine.start(spec, tensors, recipe, placement)

    def compile(self, state: State, training: Sequence[Shape], evaluation: Sequence[Shape]) -> None:
        """The engine's own."""
        with self._told("compiling"):
            self.engine.compile(state, training, evaluation)

    def step(self, state: State, microbatches: Sequence[Batch], lr: float, key: StepKey) -> tuple[State, StepResult]:
        """The engine's own; what is read later of its result may also find memory missing."""
        doing = f"training step {key.step}"
        with self._told(doing, microbatches):
            state, result = self.engine.step(state, microbatches, lr, key)
        return state, _Result(result, lambda: self._told(doing, microbatches))

    def logits(self, state: State, batch: Batch) -> np.ndarray:
        """The engine's own."""
        with self._told("scoring", [batch]):
            return self.engine.logits(state, batch)

    def gradients(self, state: State, batch: Batch, key: StepKey | None) -> Iterator[tuple[str, np.ndarray]]:
        """The engine's own."""
        with self._told("computing gradients", [batch]):
            yield from self.engine.gradients(state, batch, key)

    def input_gradients(self, state: State, batch: Batch, label: int) -> np.ndarray:
        """The engine's own."""
        with self._told("computing gradients", [batch]):
            return self.engine.input_gradients(state, batch, label)

    def tensors(self, state: State, moments: bool = True) -> Iterator[tuple[str, np.ndarray]]:
        """The engine's own."""
        with self._told("copying the weights"):
            yield from self.engine.tensors(state, moments)

    def peak_bytes(self) -> int | None:
        """The engine's own."""
        return self.engine.peak_bytes()

    @contextmanager
    def _told(self, doing: str, batches: Sequence[Batch] = ()) -> Generator[None]:
        try:
            yield
        except (MemoryError, OSError, RuntimeError) as error:
            found = shortage(error)
            if found is None or self.started is None:
                raise
            raise self._explained(self.started, doing + _sizes(batches), found) from error

    def _explained(self, demand: Demand, doing: str, found: Shortage) -> OutOfMemory:
        on_gpu = self.engine.peak_bytes() is not None and not found.host
        there = room(found, on_gpu)
        where = f"{doing}, {demand.engine} {demand.precision} on the {'GPU' if on_gpu else 'CPU'}"
        needed = demand.bytes if self.scores is None else _to_score(demand, self.scores)
        what = "training" if self.scores is None else "scoring"
        problem = f"out of memory: {what} needs some {gib(needed)}" + (f", and {there.words}" if there.words else "")
        if found.asked is not None:
            problem += f"; it failed asking for {gib(found.asked)} more"
        fix = _to_train_with_less(demand, there) if self.scores is None else _to_score_with_less(demand, self.scores)
        return OutOfMemory(problem, where, fix)


@dataclass(frozen=True, slots=True)
class _Result:
    """Numbers of a step; an accelerator tells of missing memory when they are read."""

    result: StepResult
    told: Callable[[], AbstractContextManager[None]]

    @property
    def loss(self) -> float:
        with self.told():
            return self.result.loss

    @property
    def grad_norm(self) -> float:
        with self.told():
            return self.result.grad_norm


def _to_train_with_less(demand: Demand, there: Room) -> str:
    same, other = (" or ".join(map(str, savings)) for savings in (alike(demand, there.bytes), otherwise(demand)))
    parts = [f"go on: --resume with {same}"] if same else []
    parts += [f"begin again: --overwrite with {other}"] if other else []
    return "; ".join(parts) or "go on where there is more memory, or take a smaller model; no recipe field lowers it"


def _to_score_with_less(demand: Demand, scores: Recipe) -> str:
    """The installed engine or the precision that takes less; what else decides belongs to the model."""
    needed, found = _to_score(demand, scores), list[str]()
    known = ENGINES if demand.spec.fallback is None else (demand.engine,)
    for engine in (name for name in known if importlib.util.find_spec(name) is not None):
        for precision in ("fp32", "bf16"):
            other = replace(demand, engine=engine, precision=precision)
            if (size := _to_score(other, scores)) < WORTH * needed:
                found.append(f"--engine {engine} --precision {precision} ({gib(size)})")
    return " or ".join(found) or "close what else takes memory, or use a machine with more; no option lowers it"


def _to_score(demand: Demand, scores: Recipe) -> int:
    return scoring_with_recipe(demand.spec, scores, demand.engine, demand.precision).total


def _room_on_gpu(found: Shortage) -> Room:
    """As the exception says, else as the driver does where there is one GPU only."""
    cards = gpus() if found.device is None else []
    total, free = found.device, found.free
    if len(cards) == 1:
        total, free = cards[0]["memory_bytes"], cards[0]["free_bytes"]
    if total is None:
        return Room(None, "")
    return Room(total, f"the GPU has {gib(total)}" + ("" if free is None else f", {gib(free)} of them free"))


def _sizes(batches: Sequence[Batch]) -> str:
    """The largest forward pass in words."""
    if not batches:
        return ""
    documents, tokens = max((int((batch.numbers >= 0).sum()), batch.shape.tokens) for batch in batches)
    return f" ({documents} document{'s' * (documents > 1)}, {tokens:,} tokens at once)"


def _size(found: re.Match[str] | None) -> int | None:
    return None if found is None else int(float(found[1]) * UNITS[found[2].lower()])
