"""One training step in PyTorch. The JAX twin holds the same functions in the same order.

The state is fp32 masters under Hugging Face's names and AdamW's moments. In bf16 the module computes with bf16 copies
of the encoder's linear layers, refreshed after every update; their gradients are added up in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from duygu.engines import EngineName, Placement, Probe, StepKey
from duygu.engines.heap import keep_freed_memory
from duygu.engines.torch.bert import BertClassifier, Layout
from duygu.engines.torch.dropout import site_keys
from duygu.engines.torch.llama import LlamaClassifier
from duygu.engines.torch.lora import adapt, begin
from duygu.engines.torch.modernbert import ModernBertClassifier
from duygu.engines.torch.objective import by_document, objective
from duygu.engines.torch.optimiser import averages, clip, count, optimiser
from duygu.engines.torch.products import keep_few_kernels
from duygu.engines.torch.speed import fast_bf16
from duygu.models.llama import LLAMAS
from duygu.models.parts import PARTS
from duygu.models.spec import ModelSpec, in_low_precision, with_dropout
from duygu.recipe import Recipe
from duygu.training.parameters import average_rate, trained_names
from duygu.training.plan import Batch, Shape

if TYPE_CHECKING:
    from duygu.engines.torch.fallback import FallbackClassifier

Twin = BertClassifier | ModernBertClassifier | LlamaClassifier
Classifier: TypeAlias = "Twin | FallbackClassifier"
FAMILIES: Mapping[str, type[Twin]] = {
    **dict.fromkeys(PARTS, BertClassifier),
    "modernbert": ModernBertClassifier,
    **dict.fromkeys(LLAMAS, LlamaClassifier),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(slots=True)
class State:
    """Masters by name (fp32, on the device), the module that computes, its optimiser."""

    spec: ModelSpec
    recipe: Recipe
    device: torch.device
    masters: dict[str, nn.Parameter]
    module: Classifier
    optimiser: torch.optim.AdamW
    averages: dict[str, Tensor]  # of the masters, where the recipe wants them
    held: Mapping[str, Tensor]  # what stays as it is beside adapters, as the module computes with it
    scored: Classifier | None = None  # what computes with the averages, made when it is first scored with

    @property
    def trained(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimiser.param_groups for parameter in group["params"]]


@dataclass(frozen=True, slots=True)
class StepResult:
    """Numbers that are still on the device; reading one waits for it."""

    loss_tensor: Tensor
    norm_tensor: Tensor

    @property
    def loss(self) -> float:
        return float(self.loss_tensor)

    @property
    def grad_norm(self) -> float:
        return float(self.norm_tensor)


class TorchEngine:
    """PyTorch, eager: every step has its exact shape, so no padding is computed."""

    name: EngineName = "torch"
    static_shapes = False

    def probe(self) -> Probe:
        device = _device("auto")
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        devices = torch.cuda.device_count() if device.type == "cuda" else 1
        return Probe(self.name, torch.__version__, name, devices, fast_bf16(device))

    def start(self, spec: ModelSpec, tensors: Mapping[str, np.ndarray], recipe: Recipe, placement: Placement) -> State:
        device = _device(placement.device)
        if placement.threads:
            torch.set_num_threads(placement.threads)
        keep_freed_memory()
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(device.type == "cpu")
        # Filling fresh memory with NaN, which that brings along, took a fifth of a step.
        torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
        spec = with_dropout(spec, recipe)
        names = [name for name in tensors if not name.startswith(("adam.", "ema/"))]
        low, trained = DTYPES[placement.precision], trained_names(names, recipe)
        held = {name: _held(name, tensors[name], low).to(device) for name in names if name not in set(trained)}
        masters = {name: nn.Parameter(torch.from_numpy(tensors[name].copy()).to(device)) for name in trained}
        adam = optimiser(masters, tensors, recipe)
        module = _module(spec, masters, held, low, recipe)
        return State(spec, recipe, device, masters, module, adam, averages(masters, tensors, recipe), held)

    def compile(self, state: State, training: Sequence[Shape], evaluation: Sequence[Shape]) -> None:
        """Nothing: eager PyTorch takes every shape as it comes."""

    def step(self, state: State, microbatches: Sequence[Batch], lr: float, key: StepKey) -> tuple[State, StepResult]:
        losses = [_accumulate(state, batch, key) for batch in microbatches]
        norm = clip(state.trained, state.recipe.clip)
        _update(state, lr)
        _average(state, average_rate(state.recipe, key.step))
        return state, StepResult(torch.stack(losses).sum(), norm)

    def logits(self, state: State, batch: Batch) -> np.ndarray:
        layout, module = _layout(batch, state.device), _scored(state)
        begin(module, None, layout.starts_D)
        with torch.inference_mode():
            return by_document(module(module.words(layout), layout), batch).cpu().numpy()

    def gradients(self, state: State, batch: Batch, key: StepKey | None) -> Iterator[tuple[str, np.ndarray]]:
        _accumulate(state, batch, key)
        for name, master in state.masters.items():
            yield name, _numpy(master.grad if master.grad is not None else torch.zeros_like(master))
            master.grad = None

    def input_gradients(self, state: State, batch: Batch, label: int) -> np.ndarray:
        layout = _layout(batch, state.device)
        begin(state.module, None, layout.starts_D)
        words_TC = state.module.words(layout).detach().requires_grad_()
        logits_DY = by_document(state.module(words_TC, layout), batch)
        (gradient,) = torch.autograd.grad(logits_DY[:, label].sum(), words_TC)
        return _numpy(gradient)

    def tensors(self, state: State, moments: bool = True) -> Iterator[tuple[str, np.ndarray]]:
        for name, master in state.masters.items():
            yield name, _numpy(master if moments else state.averages.get(name, master))
        if moments:
            for prefix, key in (("adam.m/", "exp_avg"), ("adam.v/", "exp_avg_sq")):
                for name, master in state.masters.items():
                    found = state.optimiser.state.get(master)
                    yield prefix + name, _numpy(found[key] if found else torch.zeros_like(master))
            yield "adam.count", np.array(count(state.optimiser), np.float32)
            for name, average in state.averages.items():
                yield f"ema/{name}", _numpy(average)

    def peak_bytes(self) -> int | None:
        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def open() -> TorchEngine:
    """The engine of this module, as `duygu.engines.open_engine` asks for it."""
    keep_few_kernels()  # before the first product, which may be the one that is timed
    return TorchEngine()


def _accumulate(state: State, batch: Batch, key: StepKey | None) -> Tensor:
    """Add the gradient of one microbatch's loss to the masters'; returns the loss."""
    loss = _objective(state, batch, key)
    loss.backward()
    for name, parameter in state.module.named_parameters():
        master = state.masters.get(name, parameter)
        if parameter is not master and parameter.grad is not None:
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None
    return loss.detach()


def _objective(state: State, batch: Batch, key: StepKey | None) -> Tensor:
    """What a microbatch adds to the step's loss."""
    classify = partial(_classify, state, batch, _layout(batch, state.device))
    return objective(classify, batch, key, state.recipe)


def _classify(state: State, batch: Batch, layout: Layout, key: StepKey | None) -> Tensor:
    keys_LST = None if key is None else _keys(state, batch, key)
    begin(state.module, keys_LST, layout.starts_D)
    logits = state.module(state.module.words(layout), layout, keys_LST, state.recipe.gradient_checkpointing)
    return by_document(logits, batch)


def _update(state: State, lr: float) -> None:
    """AdamW on the masters, then fresh low-precision copies."""
    for group in state.optimiser.param_groups:
        group["lr"] = lr * group["scale"]
    state.optimiser.step()
    state.optimiser.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, parameter in state.module.named_parameters():
            if parameter is not state.masters.get(name, parameter):
                parameter.copy_(state.masters[name])


def _average(state: State, rate: float) -> None:
    """Move the averages towards the masters."""
    with torch.no_grad():
        for name, average in state.averages.items():
            average.lerp_(state.masters[name], rate)
    state.scored = None


def _scored(state: State) -> Classifier:
    """The module to score with: that of the averages where there are any, made once after every step."""
    if not state.averages:
        return state.module
    state.scored = state.scored or _module(state.spec, state.averages, state.held, state.module.low, state.recipe)
    return state.scored


def _layout(batch: Batch, device: torch.device) -> Layout:
    """The batch on the device. This engine takes exact shapes, whose groups lie one after another."""
    assert batch.shape.tokens == batch.shape.slots, "the torch engine takes exact shapes"
    arrays = (batch.ids, batch.positions, batch.starts, batch.lengths)
    ids, positions, starts, lengths = (torch.from_numpy(array).to(device, torch.int64) for array in arrays)
    return Layout(ids, positions, starts, lengths, batch.shape.groups)


def _keys(state: State, batch: Batch, key: StepKey) -> Tensor:
    numbers_T = torch.from_numpy(batch.token_numbers).to(state.device)
    positions_T = torch.from_numpy(batch.positions).to(state.device)
    return site_keys(key, state.spec.layers, numbers_T, positions_T)


def _module(
    spec: ModelSpec, weights: Mapping[str, Tensor], held: Mapping[str, Tensor], low: torch.dtype, recipe: Recipe
) -> Classifier:
    """The module that computes with these weights."""
    with torch.device("meta"):
        module = _family(spec)(spec, low)
        adapt(module, {**weights, **held}, recipe)
    for name, parameter in module.named_parameters():  # what is loaded takes over whether it learns
        parameter.requires_grad_(name in weights and weights[name].requires_grad)
    rounded = low if spec.fallback is None else torch.float32  # a fallback casts as it computes
    shadows = {name: _shadow(name, weight, rounded) for name, weight in weights.items()}
    module.load_state_dict({**shadows, **held}, assign=True)
    return module.to(next(iter(weights.values())).device)  # what else a fallback holds; the weights are there


def _family(spec: ModelSpec) -> type[Classifier]:
    if spec.fallback is None:
        return FAMILIES[spec.family]
    from duygu.engines.torch.fallback import FallbackClassifier  # brings transformers along

    return FallbackClassifier


def _held(name: str, tensor: np.ndarray, low: torch.dtype) -> Tensor:
    """A tensor that does not learn, as the module computes with it."""
    held = torch.from_numpy(np.require(tensor, requirements="W"))
    return held.to(low) if held.is_floating_point() and in_low_precision(name) and ".nf4." not in name else held


def _shadow(name: str, master: Tensor, low: torch.dtype) -> Tensor:
    """What the module computes with: the master itself, or a low-precision copy."""
    if low == torch.float32 or not in_low_precision(name):
        return master
    return nn.Parameter(master.detach().to(low), requires_grad=master.requires_grad)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _device(name: str) -> torch.device:
    gpu = name == "gpu" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if gpu else "cpu")
