"""How much memory a model and a recipe will take, by arithmetic on their shapes; no framework is asked.

Counted is what the engines hold at the fullest moment: fp32 masters, Adam's two moments, gradients, the bf16 copies
that layers compute with, and the activations of the largest step, layer by layer as the engines keep them for the
backward pass. On top come the process itself, with its framework's libraries, and what the memory allocator does not
give back in time, which was measured on CPUs: docs/performance.md has both, and how near the sums came.

    C  hidden width     F  intermediate width     H  heads     T  tokens of the step     L  longest document
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from duygu.models.spec import ModelSpec, tensor_shapes
from duygu.recipe import Recipe

BYTES = {"fp32": 4, "bf16": 2}
MIB, GIB = 1 << 20, 1 << 30
PROCESS = {
    ("torch", "fp32"): 416 * MIB,
    ("torch", "bf16"): 1000 * MIB,
    ("jax", "fp32"): 668 * MIB,
    ("jax", "bf16"): 800 * MIB,
}
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

    @property
    def total(self) -> int:
        """All of them."""
        return self.process + self.masters + self.moments + self.gradients + self.copies + self.activations


def to_train(spec: ModelSpec, engine: str, low: str, tokens: int, longest: int) -> Need:
    """A training run whose largest forward pass has ``tokens`` tokens, its longest document ``longest``."""
    weights, rounded = _weights(spec)
    kept = _torch_kept(spec, low, tokens, longest) if engine == "torch" else _jax_kept(spec, tokens)
    copies = 2 * rounded if low == "bf16" else 0
    return Need(_process(spec, engine, low), 4 * weights, 8 * weights, 4 * weights, copies, kept)


def to_score(spec: ModelSpec, engine: str, low: str, longest: int) -> Need:
    """Scoring texts of at most ``longest`` tokens."""
    weights, rounded = _weights(spec)
    tokens = max(SCORED, longest)
    moments = 8 * weights if engine == "jax" else 0  # its state has them from the start
    copies = 2 * rounded if low == "bf16" else 0
    return Need(_process(spec, engine, low), 4 * weights, moments, 0, copies, _passing(spec, low, tokens, longest))


def predict(spec: ModelSpec, recipe: Recipe, engines: Mapping[str, bool | None], free: int | None) -> dict[str, Any]:
    """What training and scoring need in the worst case: every document of a step is as long as the recipe allows.

    ``engines`` says of each whether bf16 is fast there, None where that is not known; ``free`` are the bytes there are.
    """
    documents = recipe.microbatch or recipe.batch
    needs: list[dict[str, Any]] = []
    findings: list[str] = []
    for engine, fast in engines.items():
        for low in _precisions(recipe, fast):
            training = to_train(spec, engine, low, documents * recipe.length, recipe.length)
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


def _process(spec: ModelSpec, engine: str, low: str) -> int:
    """The process before a step, and the largest tensor once more, which is read before it is held."""
    largest = max(math.prod(shape) for shape in tensor_shapes(spec).values())
    return PROCESS[engine, low] + 4 * largest


def is_rounded(name: str) -> bool:
    """Whether bf16 computes with a copy of this tensor; the same as `duygu.engines.in_low_precision`."""
    return ".layer." in name and "LayerNorm" not in name


def _weights(spec: ModelSpec) -> tuple[int, int]:
    """Number of all weights, and of those that bf16 has copies of."""
    sizes = {name: math.prod(shape) for name, shape in tensor_shapes(spec).items()}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if is_rounded(name))


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
        if to_train(spec, engine, low, documents * recipe.length, recipe.length).total <= free:
            return [f"{name}: training does not fit; --set microbatch={documents} does and trains the same"]
    return [f"{name}: training does not fit, not even one document at a time"]


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        count //= 2
        yield count


def torch_saved(spec: ModelSpec, low: str, tokens: int, longest: int) -> int:
    """Bytes that PyTorch's layers save for the backward pass, all documents as long as the longest."""
    e, c, f = BYTES[low], spec.hidden, spec.intermediate
    attention = 4 * c * e + spec.heads * longest  # queries, keys, values, what they yield; a byte of dropout a score
    norms = 2 * (4 * c + c * e + c)  # what goes in, in fp32, and comes out; a byte of dropout a feature
    layer = tokens * (attention + norms + 2 * f * e) + 3 * c * c * e  # the three weights side by side
    around = tokens * (9 * c + 2 * c * e)  # of the embeddings; keys and values of the last layer
    return (spec.layers - 1) * layer + around


def jax_saved(spec: ModelSpec, tokens: int) -> int:
    """Bytes that JAX's layers save for the backward pass: their input, and the products in them.

    On a CPU, XLA keeps them in fp32 in either precision.
    """
    wide = 7 * spec.hidden + spec.intermediate  # input, queries, keys, values, what they yield, two outputs; one of F
    return (spec.layers - 1) * tokens * 4 * (wide + spec.heads)


def _torch_kept(spec: ModelSpec, low: str, tokens: int, longest: int) -> int:
    """What is saved, and what the backward pass of one layer has besides."""
    passing = tokens * (4 * spec.heads * longest + 2 * spec.intermediate) * BYTES[low]
    return torch_saved(spec, low, tokens, longest) + passing


def _jax_kept(spec: ModelSpec, tokens: int) -> int:
    """What is saved, and what the layer whose turn it is has besides: as much as XLA's account of it showed."""
    return jax_saved(spec, tokens) + tokens * 4 * (5 * spec.intermediate + 14 * spec.hidden)


def _passing(spec: ModelSpec, low: str, tokens: int, longest: int) -> int:
    """What one layer of a forward pass has at once."""
    e, c, f = BYTES[low], spec.hidden, spec.intermediate
    return tokens * (12 * c * e + 3 * f * e) + 2 * tokens * spec.heads * longest * 4
