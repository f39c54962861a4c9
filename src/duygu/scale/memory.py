"""How much memory a model and a recipe will take, by arithmetic on their shapes; no framework is asked.

Counted is what the engines hold at the fullest moment: fp32 masters, Adam's two moments, gradients, the bf16 copies
that layers compute with, and the activations of the largest step, layer by layer as the engines keep them for the
backward pass. The process around them, and what the C library's allocator holds of memory that was freed, are numbers
measured on a CPU. docs/memory.md has the measurements and how near the sums came.

    C  hidden width     F  intermediate width     H  heads     T  tokens of the step     L  longest document
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

from duygu.models.spec import ModelSpec, in_low_precision, tensor_shapes
from duygu.recipe import Recipe
from duygu.scale.adapters_memory import bytes_of_weights, passing_weights

BYTES = {"fp32": 4, "bf16": 2}
MIB, GIB = 1 << 20, 1 << 30
TRAINING = {  # a process of its own, everything imported, before a model is there
    ("torch", "fp32"): 416 * MIB,
    ("torch", "bf16"): 1266 * MIB,  # oneDNN keeps the kernels of up to 1,024 shapes, and exact layouts are many
    ("jax", "fp32"): 930 * MIB,  # more than half of it compiles, two shapes at a time, where the cache is cold
    ("jax", "bf16"): 930 * MIB,
}
SCORING = {"torch": 300 * MIB, "jax": 500 * MIB}
HELD = {"torch": 0.7, "jax": 0.4}  # of the activations: freed, and not given back to the system
MAPPED = 32 * MIB  # what is larger, glibc does give back: the most that its M_MMAP_THRESHOLD grows to
SCORED = 4096  # tokens of a scoring pass: duygu.training.plan.EVALUATION_TOKENS


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes, by what they are for."""

    process: int
    masters: int
    moments: int
    gradients: int
    copies: int
    activations: int
    held: int  # by the allocator, after it was freed

    @property
    def total(self) -> int:
        """All of them."""
        return sum(astuple(self))


def to_train(spec: ModelSpec, engine: str, low: str, tokens: int, longest: int) -> Need:
    """A training run whose largest forward pass has ``tokens`` tokens, its longest document ``longest``."""
    weights, rounded = _weights(spec)
    if engine == "torch":
        kept, held = _torch_kept(spec, low, tokens, longest), _torch_held(spec, low, tokens, longest)
    else:
        kept = held = _jax_kept(spec, tokens)
    return Need(
        process=TRAINING[engine, low] + _largest(spec),
        masters=4 * weights,
        moments=8 * weights,
        gradients=4 * weights,
        copies=2 * rounded if low == "bf16" else 0,
        activations=kept,
        held=round(HELD[engine] * held),
    )


def to_score(spec: ModelSpec, engine: str, low: str, longest: int) -> Need:
    """Scoring texts of at most ``longest`` tokens."""
    weights, rounded = _weights(spec)
    tokens = max(SCORED, longest)
    passing = _torch_passing(spec, low, tokens, longest) if engine == "torch" else tokens * 40 * spec.hidden
    return Need(
        process=SCORING[engine] + _largest(spec),
        masters=4 * weights,
        moments=8 * weights if engine == "jax" else 0,  # its state has them from the start
        gradients=0,
        copies=2 * rounded if low == "bf16" else 0,
        activations=passing,
        held=0,
    )


def with_recipe(spec: ModelSpec, recipe: Recipe, engine: str, low: str, documents: int) -> Need:
    """A training run with this recipe, so many documents of its length at a time."""
    need = to_train(spec, engine, low, documents * recipe.length, recipe.length)
    if not recipe.lora_rank:
        return need
    passing = need.activations + passing_weights(spec, recipe, low)
    return replace(need, **bytes_of_weights(spec, recipe, low), activations=passing)


def predict(spec: ModelSpec, recipe: Recipe, engines: Mapping[str, bool | None], free: int | None) -> dict[str, Any]:
    """What training and scoring need in the worst case: every document of a step is as long as the recipe allows.

    ``engines`` says of each whether bf16 is fast there, None where that is not known; ``free`` are the bytes there are.
    """
    documents = recipe.microbatch or recipe.batch
    needs: list[dict[str, Any]] = []
    findings: list[str] = []
    for engine, fast in engines.items():
        for low in _precisions(recipe, fast):
            training = with_recipe(spec, recipe, engine, low, documents)
            scoring = to_score(spec, engine, low, recipe.length)
            needs += [_entry(engine, low, "training", training), _entry(engine, low, "scoring", scoring)]
            findings += _findings(spec, recipe, engine, low, training.total, free)
    return {
        "weights": sum(math.prod(shape) for shape in tensor_shapes(spec).values()),
        "documents": documents,
        "length": recipe.length,
        "free_bytes": free,
        "needs": needs,
        "findings": findings,
    }


def _largest(spec: ModelSpec) -> int:
    """Bytes of the largest tensor, which is read before it is held."""
    return 4 * max(math.prod(shape) for shape in tensor_shapes(spec).values())


def _weights(spec: ModelSpec) -> tuple[int, int]:
    """Number of all weights, and of those that bf16 has copies of."""
    sizes = {name: math.prod(shape) for name, shape in tensor_shapes(spec).items()}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if in_low_precision(name))


def _precisions(recipe: Recipe, fast: bool | None) -> tuple[str, ...]:
    """What the recipe says; for auto what the engine would choose, or both where it cannot be asked."""
    if recipe.precision != "auto":
        return (recipe.precision,)
    return ("fp32", "bf16") if fast is None else ("bf16",) if fast else ("fp32",)


def _entry(engine: str, low: str, what: str, need: Need) -> dict[str, Any]:
    parts = {f"{name}_bytes": value for name, value in (*asdict(need).items(), ("total", need.total))}
    return {"engine": engine, "precision": low, "what": what, **parts}


def _findings(spec: ModelSpec, recipe: Recipe, engine: str, low: str, total: int, free: int | None) -> list[str]:
    """Whether training fits, and if not the microbatch that would."""
    name = f"{engine} {low}"
    if free is None:
        return []
    if total <= free:
        return [f"{name}: training fits, with {total / free:.0%} of the {free / GIB:.1f} GiB that are free"]
    for documents in _halves(recipe.microbatch or recipe.batch):
        if with_recipe(spec, recipe, engine, low, documents).total <= free:
            return [f"{name}: training does not fit; --set microbatch={documents} does and trains the same"]
    return [f"{name}: training does not fit, not even one document at a time"]


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        count //= 2
        yield count


def torch_saved(spec: ModelSpec, low: str, tokens: int, longest: int) -> int:
    """Bytes that PyTorch's layers save for the backward pass, all documents as long as the longest."""
    beside = 3 * spec.hidden * spec.hidden * BYTES[low]  # the weights of queries, keys and values, side by side
    around = tokens * (9 + 2 * BYTES[low]) * spec.hidden  # of the embeddings; keys and values of the last layer
    layer = tokens * sum(_torch_tensors(spec, low, longest)) + beside
    return (spec.layers - 1) * layer + around


def jax_saved(spec: ModelSpec, tokens: int) -> int:
    """Bytes that JAX's layers save for the backward pass: their input, and the products in them.

    On a CPU, XLA keeps them in fp32 in either precision.
    """
    wide = 7 * spec.hidden + spec.intermediate  # input, queries, keys, values, what they yield, two outputs; one of F
    return (spec.layers - 1) * tokens * 4 * (wide + spec.heads)


def _torch_tensors(spec: ModelSpec, low: str, longest: int) -> tuple[int, ...]:
    """Bytes a token of each tensor that a layer saves."""
    c, f, e = spec.hidden, spec.intermediate, BYTES[low]
    attention = (3 * c * e, c * e, spec.heads * longest)  # queries, keys, values; what they yield; dropped scores
    norm = (c, 4 * c, c * e)  # dropped features; what goes in, in fp32; what comes out
    return (*attention, *norm, f * e, f * e, *norm)


def _torch_held(spec: ModelSpec, low: str, tokens: int, longest: int) -> int:
    """Bytes of all layers' tensors that are small enough for the allocator to hold on to."""
    return (spec.layers - 1) * sum(
        size for part in _torch_tensors(spec, low, longest) if (size := tokens * part) <= MAPPED
    )


def _torch_kept(spec: ModelSpec, low: str, tokens: int, longest: int) -> int:
    """What is saved, and what the backward pass of one layer has besides."""
    passing = tokens * (4 * spec.heads * longest + 2 * spec.intermediate) * BYTES[low]
    return torch_saved(spec, low, tokens, longest) + passing


def _jax_kept(spec: ModelSpec, tokens: int) -> int:
    """What is saved, and what the layer whose turn it is has besides: as much as XLA's account of it showed."""
    return jax_saved(spec, tokens) + tokens * 4 * (5 * spec.intermediate + 14 * spec.hidden)


def _torch_passing(spec: ModelSpec, low: str, tokens: int, longest: int) -> int:
    """What one layer of a forward pass has at once in PyTorch."""
    e, c, f = BYTES[low], spec.hidden, spec.intermediate
    return tokens * (12 * c * e + 3 * f * e) + 2 * tokens * spec.heads * longest * 4
