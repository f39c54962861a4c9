"""One training step in JAX. The PyTorch twin holds the same functions in the same order.

The state is fp32 masters and Adam's moments; tensors of the layers are stacked, (layers, ...), and Hugging Face's names
are the boundary's. In bf16 the layers round their weights as they use them and sum every product in fp32, gradients of
weights included. Each shape is compiled once, ahead of time where the plan is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from duygu.engines import EngineName, Placement, Probe, StepKey
from duygu.engines.heap import keep_freed_memory
from duygu.engines.jax import bert, llama, lora, modernbert
from duygu.engines.jax.bert import Layout
from duygu.engines.jax.dropout import site_keys
from duygu.engines.jax.objective import Arrays, Key, by_document, objective
from duygu.engines.jax.optimiser import Moments, averages, clip, moments, optimiser
from duygu.engines.jax.speed import fast_bf16
from duygu.engines.jax.stacks import StackedRule, Stacks, Tree, along_layers
from duygu.models.llama import LLAMAS
from duygu.models.parts import PARTS
from duygu.models.spec import ModelSpec, in_low_precision, with_dropout
from duygu.recipe import Recipe
from duygu.training.parameters import average_rate, parameter_rules, trained_names
from duygu.training.plan import Batch, Shape, assemble

FAMILIES: Mapping[str, Any] = {**dict.fromkeys(PARTS, bert), "modernbert": modernbert, **dict.fromkeys(LLAMAS, llama)}
DTYPES = {"fp32": jnp.float32, "bf16": jnp.bfloat16}
COMPILERS = 2  # shapes at a time: one goes on while the other waits for Python or is in a pass that has one thread


@dataclass(slots=True)
class State:
    """Masters, moments and averages as trees of stacked tensors, the updates made, and what has been compiled."""

    stacks: Stacks
    compute: Compute
    masters: Tree
    moments: Moments
    averages: Tree  # of the masters, where the recipe wants them
    held: Tree  # what stays as it is beside adapters, as the layers compute with it
    compiled: dict[tuple[str, Shape | None, bool], Any] = field(default_factory=dict)
    rounded: Tree | None = None  # the weights as the layers compute with them, made when they are first scored with


@dataclass(frozen=True, slots=True)
class StepResult:
    """Numbers that are still on the device; reading one waits for it."""

    loss_array: Array
    norm_array: Array

    @property
    def loss(self) -> float:
        return float(self.loss_array)

    @property
    def grad_norm(self) -> float:
        return float(self.norm_array)


class JaxEngine:
    """JAX: compiled once per shape, so the plan gives it few."""

    name: EngineName = "jax"
    static_shapes = True

    def probe(self) -> Probe:
        device = jax.devices()[0]
        name = "cpu" if device.platform == "cpu" else device.device_kind
        return Probe(self.name, jax.__version__, name, jax.device_count(), fast_bf16())

    def start(self, spec: ModelSpec, tensors: Mapping[str, np.ndarray], recipe: Recipe, placement: Placement) -> State:
        jax.config.update("jax_default_matmul_precision", "highest")
        spec = with_dropout(spec, recipe)
        names = tuple(name for name in tensors if not name.startswith(("adam.", "ema/")))
        low, trained = DTYPES[placement.precision], trained_names(names, recipe)
        stacks = Stacks(trained, *FAMILIES[spec.family].stacked(spec))
        others = replace(stacks, names=tuple(name for name in names if name not in set(trained)))
        rules = stacks.rules({name: rule for name, rule in parameter_rules(names, recipe).items() if name in trained})
        compute = Compute(spec, recipe, low, stacks, rules)
        held = others.stack(tensors, "", partial(_held_in, low))
        masters = stacks.stack(tensors, "")
        adam = moments(stacks, tensors, masters)
        return State(stacks, compute, masters, adam, averages(stacks, tensors, masters, recipe), held)

    def compile(self, state: State, training: Sequence[Shape], evaluation: Sequence[Shape]) -> None:
        """Compile what a run of these shapes needs: a gradient and a prediction each, and one update."""
        m, h, key, zero = state.masters, state.held, _scalars(StepKey(0, 0)), np.float32(0)
        jobs: list[tuple[Any, ...]] = [("gradient", shape, m, _arrays(_sample(shape)), key, h) for shape in training]
        if training:
            jobs.append(("update", None, m, state.moments, m, zero))
        if training and state.averages:
            jobs.append(("average", None, state.averages, m, zero))
        if training and state.compute.recipe.microbatch:
            jobs.append(("add", None, (zero, m), (zero, m)))
        jobs += [("logits", shape, _scored(state), _arrays(_sample(shape)), h) for shape in evaluation]
        with ThreadPoolExecutor(COMPILERS) as pool:
            list(pool.map(lambda job: _compile(state, *job), jobs))
        keep_freed_memory()  # after compiling, whose threads want heaps of their own

    def step(self, state: State, microbatches: Sequence[Batch], lr: float, key: StepKey) -> tuple[State, StepResult]:
        loss, gradient = _accumulate(state, microbatches, key)
        masters, moments, norm = _run(state, "update", None, state.masters, state.moments, gradient, np.float32(lr))
        averages = _average(state, masters, average_rate(state.compute.recipe, key.step))
        state = State(state.stacks, state.compute, masters, moments, averages, state.held, state.compiled)
        return state, StepResult(loss, norm)

    def logits(self, state: State, batch: Batch) -> np.ndarray:
        return np.asarray(_run(state, "logits", batch.shape, _scored(state), _arrays(batch), state.held))

    def gradients(self, state: State, batch: Batch, key: StepKey | None) -> Iterator[tuple[str, np.ndarray]]:
        _, gradient = _accumulate(state, [batch], key)
        yield from state.stacks.unstack(gradient, "")

    def input_gradients(self, state: State, batch: Batch, label: int) -> np.ndarray:
        arguments = (state.masters, _arrays(batch), np.int32(label), state.held)
        return np.asarray(_run(state, "input_gradient", batch.shape, *arguments))

    def tensors(self, state: State, moments: bool = True) -> Iterator[tuple[str, np.ndarray]]:
        yield from state.stacks.unstack(state.masters if moments else state.averages or state.masters, "")
        if moments:
            yield from state.stacks.unstack(state.moments.mu, "adam.m/")
            yield from state.stacks.unstack(state.moments.nu, "adam.v/")
            yield "adam.count", np.array(state.moments.count, np.float32)
            if state.averages:
                yield from state.stacks.unstack(state.averages, "ema/")

    def peak_bytes(self) -> int | None:
        stats = jax.local_devices()[0].memory_stats()
        return int(stats["peak_bytes_in_use"]) if stats else None


def open() -> JaxEngine:
    """The engine of this module, as `duygu.engines.open_engine` asks for it."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # a run that resumes, or the next seed, compiles nothing again
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duygu" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return JaxEngine()


@dataclass(frozen=True, eq=False)
class Compute:
    """What is compiled: pure functions of arrays, closed over what is constant in a run."""

    spec: ModelSpec
    recipe: Recipe
    low: Any  # the type that the layers compute in
    stacks: Stacks
    rules: Mapping[str, StackedRule]  # by stacked name

    def logits(self, masters: Tree, batch: Arrays, held: Tree | None = None) -> Array:
        w = masters | (held or {})
        return self._classify(w, self._words(w, batch), batch, None)

    def gradient(self, masters: Tree, batch: Arrays, key: Key | None, held: Tree | None = None) -> tuple[Array, Tree]:
        """Loss and fp32 gradient of one microbatch by the masters; 0 for what is frozen."""

        def loss(masters: Tree) -> Array:
            w = {name: self._held(name, x) for name, x in masters.items()} | (held or {})
            return self._objective(w, batch, key)

        loss_, gradient = jax.value_and_grad(loss)(masters)
        return loss_, {name: g * along_layers(self.rules[name].trainable, g) for name, g in gradient.items()}

    def add(self, total: tuple[Array, Tree], more: tuple[Array, Tree]) -> tuple[Array, Tree]:
        """Loss and gradient of two microbatches."""
        return jax.tree.map(jnp.add, total, more)

    def update(self, masters: Tree, moments: Moments, gradient: Tree, lr: Array) -> tuple[Tree, Moments, Array]:
        """Clip, AdamW; also the global norm before clipping."""
        gradient, norm = clip(gradient, self.recipe.clip)
        steps: Any
        steps, moments = optimiser(self.recipe).update(gradient, moments)
        return {name: self._move(name, master, steps[name], lr) for name, master in masters.items()}, moments, norm

    def average(self, averages: Tree, masters: Tree, rate: Array) -> Tree:
        """The averages, moved towards the masters."""
        return jax.tree.map(lambda average, master: average + rate * (master - average), averages, masters)

    def input_gradient(self, masters: Tree, batch: Arrays, label: Array, held: Tree | None = None) -> Array:
        w = masters | (held or {})

        def chosen(words_TC: Array) -> Array:
            return self._classify(w, words_TC, batch, None)[:, label].sum()

        return jax.grad(chosen)(self._words(w, batch))

    def _objective(self, w: Tree, batch: Arrays, key: Key | None) -> Array:
        """What a microbatch adds to the step's loss."""
        classify = partial(self._classify, w, self._words(w, batch), batch)
        return objective(classify, batch, key, self.recipe)

    def _classify(self, w: Tree, words_TC: Array, batch: Arrays, key: Key | None) -> Array:
        keys = None
        if key is not None:
            keys = site_keys(*key, self.spec.layers, batch.token_numbers_T, batch.layout.positions_T)
        layers = partial(self._layer, w, keys, batch.layout.starts_D)
        model, again = FAMILIES[self.spec.family], self.recipe.gradient_checkpointing
        logits = model.classify(w, layers, words_TC, batch.layout, keys, self.spec, self.low, again)
        return by_document(logits, batch)

    def _layer(self, w: Tree, keys_LST: Array | None, starts_D: Array, number: int | None) -> Tree:
        """Tensors of a layer, or without a number of the stacked ones, and what their adapters need besides."""
        found = self.stacks.layer(w, number)
        if not self.recipe.lora_rank:
            return found
        return found | lora.begin(number, self.stacks.stacked, keys_LST, starts_D, self.recipe)  # pyright: ignore[reportReturnType]

    def _words(self, w: Tree, batch: Arrays) -> Array:
        return FAMILIES[self.spec.family].words(w, batch.layout, self.spec)

    def rounded(self, masters: Tree) -> Tree:
        """Weights of the layers' products in the type that these compute in."""
        return {
            name: x.astype(self.low) if in_low_precision(name) and name.endswith("weight") else x
            for name, x in masters.items()
        }

    def _held(self, name: str, master: Array) -> Array:
        """The master; where none of its layers learns, no gradient is computed either."""
        return master if self.rules[name].trainable.any() else jax.lax.stop_gradient(master)

    def _move(self, name: str, master: Array, step: Array, lr: Array) -> Array:
        rate = lr * along_layers(self.rules[name].scale, master)
        kept = master * (1.0 - rate * self.recipe.weight_decay) if self.rules[name].decay else master
        return kept - rate * step


def _accumulate(state: State, microbatches: Sequence[Batch], key: StepKey | None) -> tuple[Array, Tree]:
    """Loss and gradient of a whole step, microbatch after microbatch."""
    scalars = None if key is None else _scalars(key)
    first, *others = microbatches
    total = _run(state, "gradient", first.shape, state.masters, _arrays(first), scalars, state.held)
    for batch in others:
        more = _run(state, "gradient", batch.shape, state.masters, _arrays(batch), scalars, state.held)
        total = _run(state, "add", None, total, more)
    return total


def _average(state: State, masters: Tree, rate: float) -> Tree:
    """Move the averages towards the masters."""
    return _run(state, "average", None, state.averages, masters, np.float32(rate)) if state.averages else {}


def _scored(state: State) -> Tree:
    """The weights to score with: the averages where there are any, rounded once, not in every forward pass."""
    weights = state.averages or state.masters
    if state.compute.low == jnp.float32:
        return weights
    rounded = state.rounded or _run(state, "rounded", None, weights)
    state.rounded = rounded
    return rounded


DONATED = {"update": (0, 1), "add": (0,), "average": (0,)}  # arguments whose memory the result takes over


def _run(state: State, name: str, shape: Shape | None, *arguments: Any) -> Any:
    """Call a function of `Compute`, compiled for these arguments."""
    return _compile(state, name, shape, *arguments)(*arguments)


def _compile(state: State, name: str, shape: Shape | None, *arguments: Any) -> Any:
    kind = (name, shape, any(argument is None for argument in arguments))  # no key, no dropout: another function
    if kind not in state.compiled:
        function = jax.jit(getattr(state.compute, name), donate_argnums=DONATED.get(name, ()))
        state.compiled[kind] = function.lower(*arguments).compile()
    return state.compiled[kind]


def _sample(shape: Shape) -> Batch:
    """A batch of one document of one token, to compile with."""
    zero = np.zeros(1, np.int32)
    return assemble([zero], zero, zero, shape)


def _arrays(batch: Batch) -> Arrays:
    b: Any = batch  # numpy at the boundary, JAX's own arrays inside what is compiled
    layout = Layout(b.ids, b.positions, b.starts, b.lengths, b.rows, b.slots, b.shape.groups)
    return Arrays(layout, b.token_numbers, b.labels, b.weights, jnp.float32(b.normaliser), b.owners)


def _scalars(key: StepKey) -> Key:
    return jnp.int32(key.seed), jnp.int32(key.step)


def _held_in(low: Any, name: str, kind: np.dtype) -> Any:
    """The type to hold a tensor in that does not learn: what the layers compute in, if they multiply by it."""
    return low if kind == np.float32 and name.endswith(".weight") and in_low_precision(name) else kind
