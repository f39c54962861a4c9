"""How one step is taken: the protocol that both engines fulfil, and the only place that knows their two names.

Plain Python decides what happens at step n; an engine only knows how to take one step. Numpy arrays, numbers and bytes
are all that crosses the line. Tensor names are Hugging Face's on both sides of it. An engine's own packages are
imported when it is opened, never before, and PyTorch and JAX never share a process.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from duygu.errors import UserError
from duygu.models.spec import ModelSpec
from duygu.recipe import Recipe
from duygu.training.plan import Batch, Shape

EngineName = Literal["torch", "jax"]
ENGINES: tuple[EngineName, ...] = ("torch", "jax")

State = Any  # an engine's own; opaque to everyone else, replaced by every step


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a run computes; part of its record, because another placement is another rounding."""

    precision: Literal["fp32", "bf16"]
    threads: int  # CPU threads; 0 leaves the framework's choice
    device: str = "auto"  # "auto", "cpu", "gpu"


@dataclass(frozen=True, slots=True)
class StepKey:
    """What dropout is a function of, besides layer, site, document, position and feature."""

    seed: int
    step: int

    @property
    def second(self) -> StepKey:
        """The key of R-Drop's second pass over the same step: steps count from 1, so no other step has it."""
        return StepKey(self.seed, -self.step)


class StepResult(Protocol):
    """Numbers of one step. Reading one waits for the accelerator, so the loop reads them when it logs."""

    @property
    def loss(self) -> float:
        """What the step minimised, dropout on, before the update: weighted mean cross-entropy, R-Drop's distance."""
        ...

    @property
    def grad_norm(self) -> float:
        """Global norm of the gradient before clipping."""
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """What an engine found on this machine."""

    engine: str
    version: str
    device: str  # "cpu", or the accelerator's own name
    devices: int
    fast_bf16: bool  # whether the device really multiplies bf16 faster than fp32


class Engine(Protocol):
    """One framework. A new engine is one folder that passes the conformance suite in ``tests/engines``."""

    name: EngineName
    static_shapes: bool  # compiles once per shape, so the plan gives it few

    def probe(self) -> Probe:
        """The framework, its device and what that multiplies fast."""
        ...

    def start(self, spec: ModelSpec, tensors: Mapping[str, np.ndarray], recipe: Recipe, placement: Placement) -> State:
        """The state before a step. ``tensors`` holds weights and, when resuming, ``adam.m/NAME``, ``adam.v/NAME``,
        ``adam.count`` (shape ``()``) and with ``recipe.ema`` ``ema/NAME``; each is read once. Moments that are absent
        start at 0, averages at the weights. With ``recipe.lora_rank`` also what `duygu.models.adapters` adds."""
        ...

    def compile(self, state: State, training: Sequence[Shape], evaluation: Sequence[Shape]) -> None:
        """Compile ahead of time what these shapes need; nothing to do in eager PyTorch."""
        ...

    def step(self, state: State, microbatches: Sequence[Batch], lr: float, key: StepKey) -> tuple[State, StepResult]:
        """One optimiser step on the sum of the microbatches' losses. The given state must not be used again."""
        ...

    def logits(self, state: State, batch: Batch) -> np.ndarray:
        """(D, labels) float32, rows as in ``batch.numbers``, without dropout; with ``recipe.ema`` of the averages."""
        ...

    def gradients(self, state: State, batch: Batch, key: StepKey | None) -> Iterator[tuple[str, np.ndarray]]:
        """Gradient of the batch's loss by every weight, float32, 0 for frozen ones; without a key, without dropout.
        With adapters, of what learns."""
        ...

    def input_gradients(self, state: State, batch: Batch, label: int) -> np.ndarray:
        """(T, hidden) float32: gradient of each document's logit of ``label`` by the word embedding of its tokens."""
        ...

    def tensors(self, state: State, moments: bool = True) -> Iterator[tuple[str, np.ndarray]]:
        """All that `start` takes, streamed: weights in the order of the spec, then moments, their count and averages.
        Without moments, the weights that `logits` computes with: with ``recipe.ema`` the averages in their place.
        With adapters (``recipe.lora_rank``) all this of what learns only: whoever started the engine has the rest."""
        ...

    def peak_bytes(self) -> int | None:
        """Peak device memory so far, or None where the device is the CPU (the process's own peak tells)."""
        ...


def open_engine(name: str, threads: int = 0) -> Engine:
    """Import an engine by name. ``threads`` limits its CPU threads and must be known before the framework starts.

    Raises `UserError` for an unknown name and, with the pip command, for a framework that is not installed.
    """
    if name not in ENGINES:
        raise UserError(f"there is no engine {name!r}", f"--engine {name}", f"choose one of: {', '.join(ENGINES)}")
    if threads:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["NPROC"] = str(threads)
    try:
        module = importlib.import_module(f"duygu.engines.{name}.engine")
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.startswith("duygu"):
            raise
        fix = f"pip install 'duygu[{name}]'"
        raise UserError(
            f"the {name} engine needs {missing}, which is not installed", f"--engine {name}", fix
        ) from error
    make: Callable[[], Engine] = module.open
    return make()
