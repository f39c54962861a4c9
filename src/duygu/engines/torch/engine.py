"""One training step in PyTorch. The JAX twin holds the same functions in the same order.

The state is fp32 masters under Hugging Face's names and AdamW's moments. In bf16 the module computes with bf16 copies
of the encoder's linear layers, refreshed after every update; their gradients are added up in fp32.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duygu.engines import EngineName, Placement, Probe, StepKey
from duygu.engines.heap import keep_freed_memory
from duygu.engines.torch.bert import BertClassifier, Layout
from duygu.engines.torch.dropout import site_keys
from duygu.engines.torch.llama import LlamaClassifier
from duygu.engines.torch.lora import adapt, begin
from duygu.engines.torch.modernbert import ModernBertClassifier
from duygu.models.llama import LLAMAS
from duygu.models.parts import PARTS
from duygu.models.spec import ModelSpec, in_low_precision, with_dropout
from duygu.recipe import Recipe
from duygu.training.parameters import average_rate, parameter_rules, trained_names
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
FAST = 1.5  # bf16 pays for its copies and its rounding only where its products are this much faster
TIMINGS = 60  # of each product that tells; a third of a second


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
        count = torch.cuda.device_count() if device.type == "cuda" else 1
        return Probe(self.name, torch.__version__, name, count, _fast_bf16(device))

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
        optimiser = _optimiser(masters, tensors, recipe)
        module = _module(spec, masters, held, low, recipe)
        return State(spec, recipe, device, masters, module, optimiser, _averages(masters, tensors, recipe), held)

    def compile(self, state: State, training: Sequence[Shape], evaluation: Sequence[Shape]) -> None:
        """Nothing: eager PyTorch takes every shape as it comes."""

    def step(self, state: State, microbatches: Sequence[Batch], lr: float, key: StepKey) -> tuple[State, StepResult]:
        losses = [_accumulate(state, batch, key) for batch in microbatches]
        norm = _clip(state)
        _update(state, lr)
        _average(state, average_rate(state.recipe, key.step))
        return state, StepResult(torch.stack(losses).sum(), norm)

    def logits(self, state: State, batch: Batch) -> np.ndarray:
        layout, module = _layout(batch, state.device), _scored(state)
        begin(module, None, layout.starts_D)
        with torch.inference_mode():
            return _by_document(module(module.words(layout), layout), batch).cpu().numpy()

    def gradients(self, state: State, batch: Batch, key: StepKey | None) -> Iterator[tuple[str, np.ndarray]]:
        _accumulate(state, batch, key)
        for name, master in state.masters.items():
            yield name, _numpy(master.grad if master.grad is not None else torch.zeros_like(master))
            master.grad = None

    def input_gradients(self, state: State, batch: Batch, label: int) -> np.ndarray:
        layout = _layout(batch, state.device)
        begin(state.module, None, layout.starts_D)
        words_TC = state.module.words(layout).detach().requires_grad_()
        logits_DY = _by_document(state.module(words_TC, layout), batch)
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
            yield "adam.count", np.array(_count(state), np.float32)
            for name, average in state.averages.items():
                yield f"ema/{name}", _numpy(average)

    def peak_bytes(self) -> int | None:
        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def open() -> TorchEngine:
    """The engine of this module, as `duygu.engines.open_engine` asks for it."""
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
    """What a microbatch adds to the step's loss.

    R-Drop, Liang et al. (2021), arXiv:2106.14448: the mean loss of two passes that differ in dropout only, and how far
    apart their answers are.
    """
    layout, recipe = _layout(batch, state.device), state.recipe
    one_DY = _classify(state, batch, layout, key)
    loss = _loss(one_DY, batch, recipe.label_smoothing)
    if key is None or not recipe.r_drop:
        return loss
    other_DY = _classify(state, batch, layout, key.second)
    loss = (loss + _loss(other_DY, batch, recipe.label_smoothing)) / 2
    return loss + recipe.r_drop * _distance(one_DY, other_DY, batch)


def _classify(state: State, batch: Batch, layout: Layout, key: StepKey | None) -> Tensor:
    keys_LST = None if key is None else _keys(state, batch, key)
    begin(state.module, keys_LST, layout.starts_D)
    logits = state.module(state.module.words(layout), layout, keys_LST, state.recipe.gradient_checkpointing)
    return _by_document(logits, batch)


def _by_document(logits_DY: Tensor, batch: Batch) -> Tensor:
    """Mean logits of each document's windows; without windows, the rows are the documents.

    As many rows as windows, those that are no document's 0: so all arrays of a batch keep their lengths.
    """
    if batch.owners is None:
        return logits_DY
    owners_D = torch.from_numpy(batch.owners).to(logits_DY.device)
    own_DD = (owners_D == torch.arange(len(owners_D), device=owners_D.device)[:, None]).float()
    return own_DD @ logits_DY / own_DD.sum(dim=1, keepdim=True).clamp(min=1.0)


def _loss(logits_DY: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Weighted cross-entropy over the step's normaliser, so microbatches add up to the loss of the whole step."""
    labels_D = torch.from_numpy(batch.labels).to(logits_DY.device, torch.int64)
    cross_D = F.cross_entropy(logits_DY, labels_D, reduction="none", label_smoothing=smoothing)
    return _weighted(cross_D, batch)


def _distance(one_DY: Tensor, other_DY: Tensor, batch: Batch) -> Tensor:
    """Mean of both directions of the Kullback-Leibler divergence between two answers, weighted as the loss is."""
    p_DY, q_DY = F.log_softmax(one_DY, dim=-1), F.log_softmax(other_DY, dim=-1)
    return _weighted(((p_DY.exp() - q_DY.exp()) * (p_DY - q_DY)).sum(dim=-1) / 2, batch)


def _weighted(values_D: Tensor, batch: Batch) -> Tensor:
    weights_D = torch.from_numpy(batch.weights).to(values_D.device)
    return (values_D * weights_D).sum() / batch.normaliser


def _clip(state: State) -> Tensor:
    """Scale the gradient to the recipe's global norm if it is longer; returns the norm it had."""
    gradients = [parameter.grad for parameter in state.trained if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if state.recipe.clip:
        shrink = (state.recipe.clip / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(shrink)
    return norm


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


def _optimiser(
    masters: Mapping[str, nn.Parameter], tensors: Mapping[str, np.ndarray], recipe: Recipe
) -> torch.optim.AdamW:
    """AdamW with one parameter group per rule, and the moments that ``tensors`` holds."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, rule in parameter_rules(list(masters), recipe).items():
        masters[name].requires_grad_(rule.trainable)
        if rule.trainable:
            groups.setdefault((rule.scale, rule.decay), []).append(masters[name])
    optimiser = torch.optim.AdamW(
        [
            {"params": parameters, "scale": scale, "weight_decay": recipe.weight_decay if decay else 0.0}
            for (scale, decay), parameters in groups.items()
        ],
        lr=recipe.lr,
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.eps,
        fused=True,
    )
    for name, master in masters.items():
        if f"adam.m/{name}" in tensors:
            optimiser.state[master] = {
                "step": torch.tensor(float(tensors["adam.count"])),
                "exp_avg": torch.from_numpy(tensors[f"adam.m/{name}"].copy()).to(master.device),
                "exp_avg_sq": torch.from_numpy(tensors[f"adam.v/{name}"].copy()).to(master.device),
            }
    return optimiser


def _averages(
    masters: Mapping[str, nn.Parameter], tensors: Mapping[str, np.ndarray], recipe: Recipe
) -> dict[str, Tensor]:
    """The averages: those that ``tensors`` holds, else the masters as they are; none where the recipe wants none."""
    if not recipe.ema:
        return {}
    averages: dict[str, Tensor] = {}
    for name, master in masters.items():
        held = tensors.get(f"ema/{name}")
        averages[name] = master.detach().clone() if held is None else torch.from_numpy(held.copy()).to(master.device)
    return averages


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


def _count(state: State) -> float:
    """Updates that the optimiser has made."""
    return max((float(entry["step"]) for entry in state.optimiser.state.values()), default=0.0)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _device(name: str) -> torch.device:
    gpu = name == "gpu" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if gpu else "cpu")


def _fast_bf16(device: torch.device) -> bool:
    """Whether a matrix product of a small encoder's size is much faster in bf16: the best of many timings of each,
    taken in turn, since others may use the machine for moments."""
    best: dict[torch.dtype, float] = {}
    pairs = [
        (torch.ones(512, 1024, dtype=dtype, device=device), torch.ones(1024, 1024, dtype=dtype, device=device))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    for _ in range(TIMINGS):
        for a, b in pairs:
            began = time.perf_counter()
            float((a @ b)[0, 0])
            best[a.dtype] = min(best.get(a.dtype, math.inf), time.perf_counter() - began)
    return best[torch.float32] > FAST * best[torch.bfloat16]
