"""How much memory a model and a recipe will take, by arithmetic on their shapes; no framework is asked.

Counted is what the engines hold at the fullest moment: fp32 masters, Adam's two moments, gradients, the bf16 copies
that layers compute with, averages, and the activations of the largest step as the engines keep them for the backward
pass: what every layer saves, or its input only. The process around them, and what the C library's allocator holds of
memory that was freed, are numbers measured on a CPU. docs/memory.md has the measurements and how near the sums came.

    C  hidden width     F  intermediate width     H  heads     T  tokens of the step     L  longest document
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

from duygu.models.fallback import ENGINE, THROUGH
from duygu.models.spec import ModelSpec, in_low_precision, tensor_shapes, with_dropout
from duygu.recipe import Recipe
from duygu.scale.activations import PLAIN, jax_passing, jax_saved, jax_turn, torch_kept, torch_passing

MIB, GIB = 1 << 20, 1 << 30
TRAINING = {  # a process of its own, everything imported, before a model is there
    "torch": 416 * MIB,
    "jax": 930 * MIB,  # more than half of it compiles, two shapes at a time, where the cache is cold
}
SCORING = {"torch": 300 * MIB, "jax": 500 * MIB}
HELD = {"torch": 0.7, "jax": 0.4}  # of the activations: freed, and not given back to the system
SHAPES = {"torch": 350 * MIB, "jax": 170 * MIB}  # at most: what many shapes leave, kernels and holes in the heap
SCORED = 4096  # tokens of a scoring pass: duygu.training.plan.EVALUATION_TOKENS


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes, by what they are for."""

    process: int
    masters: int
    moments: int
    gradients: int
    copies: int
    averages: int
    activations: int
    held: int  # by the allocator, after it was freed, and kernels of shapes

    @property
    def total(self) -> int:
        """All of them."""
        return sum(astuple(self))

    @property
    def on_device(self) -> int:
        """Those that a GPU has where there is one, and the host then has not."""
        return self.total - self.process - self.held


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of what does not depend on the texts."""

    masters: int  # all that lies in memory of the weights, as it is held between steps
    moments: int
    gradients: int
    copies: int
    passing: int = 0  # while they are whole, where they are held in 4 bits


def to_train(spec: ModelSpec, engine: str, low: str, tokens: int, longest: int, recipe: Recipe = PLAIN) -> Need:
    """A training run whose largest forward pass has ``tokens`` tokens, its longest document ``longest``."""
    spec, weights = with_dropout(spec, recipe), _weights(spec, engine, low, recipe)
    if engine == "torch":
        kept, held = torch_kept(spec, low, tokens, longest, recipe)
        kept += weights.passing
    else:
        saved, turn = jax_saved(spec, tokens, recipe), jax_turn(spec, low, tokens, recipe)
        kept, held = saved + max(turn + weights.passing // 4, weights.passing), saved + turn
    activations = max(kept, _scoring(spec, engine, low, max(SCORED, longest), longest, weights))
    return Need(
        process=TRAINING[engine],
        masters=weights.masters,
        moments=weights.moments,
        gradients=weights.gradients,
        copies=weights.copies,
        averages=_averages(spec, engine, low, recipe),
        activations=activations,
        held=round(HELD[engine] * held) + min(SHAPES[engine], activations),
    )


def to_score(spec: ModelSpec, engine: str, low: str, longest: int, windows: int = 1, recipe: Recipe = PLAIN) -> Need:
    """Scoring texts of at most ``longest`` tokens, or as many ``windows`` of them, which are in one forward pass; with
    what a run with ``recipe`` leaves: the whole model, or adapters beside one."""
    weights = _weights(spec, engine, low, recipe)
    return Need(
        process=SCORING[engine] + (0 if recipe.lora_rank else _largest(spec)),
        masters=weights.masters,
        moments=weights.moments if engine == "jax" else 0,  # its state has them from the start
        gradients=0,
        copies=weights.copies,
        averages=0,  # they are the weights of what was trained
        activations=_scoring(spec, engine, low, max(SCORED, windows * longest), longest, weights),
        held=0,
    )


def with_recipe(spec: ModelSpec, recipe: Recipe, engine: str, low: str, documents: int) -> Need:
    """A training run with this recipe, so many of the longest documents at a time."""
    length, _, windows, _ = recipe.cut
    return to_train(spec, engine, low, documents * windows * length, length, recipe)


def scoring_with_recipe(spec: ModelSpec, recipe: Recipe, engine: str, low: str) -> Need:
    """Scoring with what a run with this recipe leaves."""
    length, _, windows, _ = recipe.cut
    return to_score(spec, engine, low, length, windows, recipe)


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that are free where an engine computes; None where that is not known."""

    free: int | None
    gpu: bool = False

    def takes(self, need: Need) -> int:
        """What of a need has to fit there."""
        return need.on_device if self.gpu else need.total

    def fits(self, need: Need) -> bool:
        """Whether it does."""
        return self.free is not None and self.takes(need) <= self.free


def predict(
    spec: ModelSpec, recipe: Recipe, engines: Mapping[str, bool | None], rooms: Mapping[str, Room]
) -> dict[str, Any]:
    """What training and scoring need in the worst case: every document of a step is as long as the recipe allows,
    with windows as long as the most of them hold.

    ``engines`` says of each whether bf16 is fast there, None where that is not known, ``rooms`` where it computes.
    """
    documents, (length, _, windows, _) = recipe.microbatch or recipe.batch, recipe.cut
    needs: list[dict[str, Any]] = []
    findings: list[str] = []
    if spec.fallback is not None:
        engines = {name: fast for name, fast in engines.items() if name == ENGINE}
        findings.append(
            f"{spec.family} runs {THROUGH} on {ENGINE}; activations are a BERT's of this size, not measured"
        )
    for engine, fast in engines.items():
        for low in _precisions(recipe, fast):
            training = with_recipe(spec, recipe, engine, low, documents)
            scoring = scoring_with_recipe(spec, recipe, engine, low)
            needs += [_entry(spec, engine, low, *one) for one in (("training", training), ("scoring", scoring))]
            findings += _findings(spec, recipe, engine, low, rooms[engine])
    return {
        "weights": sum(math.prod(shape) for shape in tensor_shapes(spec).values()),
        "documents": documents,
        "length": length,
        "windows": windows,
        "needs": needs,
        "findings": findings,
    }


def _scoring(spec: ModelSpec, engine: str, low: str, tokens: int, longest: int, weights: Weights) -> int:
    """What a forward pass has at once; a run that trains on few tokens at a time has most while it evaluates."""
    if engine == "torch":
        return torch_passing(spec, low, tokens, longest) + weights.passing
    return max(jax_passing(spec, tokens) + weights.passing // 2, weights.passing)


def _largest(spec: ModelSpec) -> int:
    """Bytes of the largest tensor, which is read before it is held."""
    return 4 * max(math.prod(shape) for shape in tensor_shapes(spec).values())


def _weights(spec: ModelSpec, engine: str, low: str, recipe: Recipe) -> Weights:
    if recipe.lora_rank:
        from duygu.scale import adapters_memory  # needs numpy, which `duygu doctor` does without

        return Weights(**adapters_memory.bytes_of_weights(spec, recipe, engine, low))
    weights, rounded = _sizes(spec)
    return Weights(4 * weights, 8 * weights, 4 * weights, 2 * rounded if low == "bf16" else 0)


def _sizes(spec: ModelSpec) -> tuple[int, int]:
    """Number of all weights, and of those that bf16 has copies of."""
    sizes = {name: math.prod(shape) for name, shape in tensor_shapes(spec).items()}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if in_low_precision(name))


def _averages(spec: ModelSpec, engine: str, low: str, recipe: Recipe) -> int:
    """Bytes of the averages; PyTorch scores with bf16 copies of its own of them."""
    if not recipe.ema:
        return 0
    weights, rounded = _sizes(spec)
    return 4 * weights + (2 * rounded if engine == "torch" and low == "bf16" else 0)


def _precisions(recipe: Recipe, fast: bool | None) -> tuple[str, ...]:
    """What the recipe says; for auto what the engine would choose, or both where it cannot be asked."""
    if recipe.precision != "auto":
        return (recipe.precision,)
    return ("fp32", "bf16") if fast is None else ("bf16",) if fast else ("fp32",)


def _entry(spec: ModelSpec, engine: str, low: str, what: str, need: Need) -> dict[str, Any]:
    sums = {"total": need.total, "on_device": need.on_device, "host_loading": _loading(spec, engine)}
    parts = {f"{name}_bytes": value for name, value in (asdict(need) | sums).items()}
    return {"engine": engine, "precision": low, "what": what, **parts}


def _loading(spec: ModelSpec, engine: str) -> int:
    """What the host has while the weights go to a GPU: the largest tensor as it was read, and in fp32."""
    return TRAINING[engine] + _largest(spec) * 3 // 2


def _findings(spec: ModelSpec, recipe: Recipe, engine: str, low: str, room: Room) -> list[str]:
    """Whether training fits, and if not what would: a smaller microbatch, or that and layers computed again."""
    if room.free is None:
        return []
    name, documents = f"{engine} {low}", recipe.microbatch or recipe.batch
    whole = with_recipe(spec, recipe, engine, low, documents)
    if room.fits(whole):
        where = f"{room.free / GIB:.1f} GiB that are free" + " on the GPU" * room.gpu
        return [f"{name}: training fits, with {room.takes(whole) / room.free:.0%} of the {where}"]
    for fewer in _halves(documents):
        if room.fits(with_recipe(spec, recipe, engine, low, fewer)):
            return [f"{name}: training does not fit; --set microbatch={fewer} does and trains the same"]
    if room.fits(with_recipe(spec, replace(recipe, gradient_checkpointing=True), engine, low, 1)):
        both = "--set microbatch=1 --set gradient_checkpointing=true"
        return [f"{name}: training does not fit; {both} does and trains the same"]
    return [f"{name}: training does not fit, not even one document at a time"]


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        count //= 2
        yield count
