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
from duygu.models.parts import PARTS
from duygu.models.spec import ModelSpec, in_low_precision, tensor_shapes, with_dropout
from duygu.recipe import Recipe

PLAIN = Recipe()

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
BLOCK, LONG = 128, 2048  # of duygu.engines.torch.attention: who asks at a time in a long document, and what is one
SITES = 5  # of duygu.engines.torch.dropout: keys of a token and layer


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
    held: int  # by the allocator, after it was freed

    @property
    def total(self) -> int:
        """All of them."""
        return sum(astuple(self))


def to_train(spec: ModelSpec, engine: str, low: str, tokens: int, longest: int, recipe: Recipe = PLAIN) -> Need:
    """A training run whose largest forward pass has ``tokens`` tokens, its longest document ``longest``."""
    spec, (weights, rounded) = with_dropout(spec, recipe), _weights(spec)
    kept, held = (_torch_kept if engine == "torch" else _jax_kept)(spec, low, tokens, longest, recipe)
    return Need(
        process=TRAINING[engine, low] + _largest(spec),
        masters=4 * weights,
        moments=8 * weights,
        gradients=4 * weights,
        copies=2 * rounded if low == "bf16" else 0,
        averages=_averages(weights, rounded, engine, low, recipe),
        activations=kept,
        held=round(HELD[engine] * held),
    )


def to_score(spec: ModelSpec, engine: str, low: str, longest: int, windows: int = 1) -> Need:
    """Scoring texts of at most ``longest`` tokens, or as many ``windows`` of them, which are in one forward pass."""
    weights, rounded = _weights(spec)
    tokens = max(SCORED, windows * longest)
    passing = _torch_passing(spec, low, tokens, longest) if engine == "torch" else tokens * 40 * spec.hidden
    return Need(
        process=SCORING[engine] + _largest(spec),
        masters=4 * weights,
        moments=8 * weights if engine == "jax" else 0,  # its state has them from the start
        gradients=0,
        copies=2 * rounded if low == "bf16" else 0,
        averages=0,  # they are the weights of what was trained
        activations=passing,
        held=0,
    )


def with_recipe(spec: ModelSpec, recipe: Recipe, engine: str, low: str, documents: int) -> Need:
    """A training run with this recipe, so many of the longest documents at a time."""
    length, _, windows, _ = recipe.cut
    need = to_train(spec, engine, low, documents * windows * length, length, recipe)
    if not recipe.lora_rank:
        return need
    from duygu.scale import adapters_memory  # needs numpy, which `duygu doctor` does without

    passing = need.activations + adapters_memory.passing_weights(spec, recipe, low)
    return replace(need, **adapters_memory.bytes_of_weights(spec, recipe, low), activations=passing)


def scoring_with_recipe(spec: ModelSpec, recipe: Recipe, engine: str, low: str) -> Need:
    """Scoring with what a run with this recipe leaves: the whole model, or adapters beside one."""
    length, _, windows, _ = recipe.cut
    need = to_score(spec, engine, low, length, windows)
    if not recipe.lora_rank:
        return need
    from duygu.scale import adapters_memory

    weights = adapters_memory.bytes_of_weights(spec, recipe, low)
    return replace(
        need,
        masters=weights["masters"],
        moments=weights["moments"] if engine == "jax" else 0,
        copies=weights["copies"],
        activations=need.activations + adapters_memory.passing_weights(spec, recipe, low),
    )


def predict(spec: ModelSpec, recipe: Recipe, engines: Mapping[str, bool | None], free: int | None) -> dict[str, Any]:
    """What training and scoring need in the worst case: every document of a step is as long as the recipe allows,
    with windows as long as the most of them hold.

    ``engines`` says of each whether bf16 is fast there, None where that is not known; ``free`` are the bytes there are.
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
            needs += [_entry(engine, low, "training", training), _entry(engine, low, "scoring", scoring)]
            findings += _findings(spec, recipe, engine, low, training.total, free)
    return {
        "weights": sum(math.prod(shape) for shape in tensor_shapes(spec).values()),
        "documents": documents,
        "length": length,
        "windows": windows,
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


def _averages(weights: int, rounded: int, engine: str, low: str, recipe: Recipe) -> int:
    """Bytes of the averages; PyTorch scores with bf16 copies of its own of them."""
    copies = 2 * rounded if engine == "torch" and low == "bf16" else 0
    return 4 * weights + copies if recipe.ema else 0


def _precisions(recipe: Recipe, fast: bool | None) -> tuple[str, ...]:
    """What the recipe says; for auto what the engine would choose, or both where it cannot be asked."""
    if recipe.precision != "auto":
        return (recipe.precision,)
    return ("fp32", "bf16") if fast is None else ("bf16",) if fast else ("fp32",)


def _entry(engine: str, low: str, what: str, need: Need) -> dict[str, Any]:
    parts = {f"{name}_bytes": value for name, value in (*asdict(need).items(), ("total", need.total))}
    return {"engine": engine, "precision": low, "what": what, **parts}


def _findings(spec: ModelSpec, recipe: Recipe, engine: str, low: str, total: int, free: int | None) -> list[str]:
    """Whether training fits, and if not what would: a smaller microbatch, or that and layers computed again."""
    name = f"{engine} {low}"
    if free is None:
        return []
    if total <= free:
        return [f"{name}: training fits, with {total / free:.0%} of the {free / GIB:.1f} GiB that are free"]
    for documents in _halves(recipe.microbatch or recipe.batch):
        if with_recipe(spec, recipe, engine, low, documents).total <= free:
            return [f"{name}: training does not fit; --set microbatch={documents} does and trains the same"]
    one = with_recipe(spec, replace(recipe, gradient_checkpointing=True), engine, low, 1)
    if one.total <= free:
        both = "--set microbatch=1 --set gradient_checkpointing=true"
        return [f"{name}: training does not fit; {both} does and trains the same"]
    return [f"{name}: training does not fit, not even one document at a time"]


def _halves(count: int) -> Iterator[int]:
    while count > 1:
        count //= 2
        yield count


def torch_saved(spec: ModelSpec, low: str, tokens: int, longest: int, recipe: Recipe = PLAIN) -> int:
    """Bytes that PyTorch saves of one step for the backward pass, all documents as long as the longest."""
    spec, e = with_dropout(spec, recipe), BYTES[low]
    layers = _torch_layers(spec, low, longest)
    in_layers = sum(map(sum, layers))
    beside = 3 * len(layers) + 2  # weights of queries, keys and values, side by side; of the last layer of two of them
    if recipe.gradient_checkpointing:
        in_layers = len(layers) * spec.hidden * e + 4 * SITES * (spec.layers + 1)  # inputs, and keys of what drops
        beside = 2
    weights = beside * spec.hidden * spec.hidden * e if spec.family in PARTS else 0  # ModernBERT has them as one
    return _passes(recipe) * (tokens * (in_layers + _torch_around(spec, e, tokens // longest)) + weights)


def _torch_around(spec: ModelSpec, e: int, documents: int) -> int:
    """Bytes a token of what is saved of embeddings and last layer."""
    c = spec.hidden
    if spec.family in PARTS:
        found = 4 * c + c * (spec.dropout > 0) + 3 * c * e  # embeddings; input, keys and values of the last layer
    else:
        found = 4 * c + c * (spec.embedding_dropout > 0) + 8 * spec.head_dim  # embeddings; cosines and sines
        found += (4 * c + 4 * c * e) * (spec.pooling == "first")  # input, queries, keys and values of the last layer
    asked = 4 + (e + 1) * (spec.attention_dropout > 0)  # of every score of a first token
    return found + spec.heads * documents * asked * (spec.pooling == "first")


def jax_saved(spec: ModelSpec, tokens: int, recipe: Recipe = PLAIN) -> int:
    """Bytes that JAX's layers save for the backward pass: their input, and the products in them.

    On a CPU, XLA keeps them in fp32 in either precision.
    """
    kept = spec.hidden if recipe.gradient_checkpointing else _jax_layer(spec)
    return _passes(recipe) * (spec.layers - 1) * tokens * 4 * kept


def _passes(recipe: Recipe) -> int:
    """Forward passes whose activations are there at once."""
    return 2 if recipe.r_drop else 1


def _in_blocks(spec: ModelSpec, number: int, longest: int) -> bool:
    """Whether PyTorch attends block after block in a layer: `duygu.engines.torch.attention.is_long`."""
    return longest > LONG or (spec.is_local(number) and longest >= 2 * (BLOCK + 2 * spec.window))


def _torch_layers(spec: ModelSpec, low: str, longest: int) -> list[tuple[int, ...]]:
    """Bytes a token of each tensor that a layer saves, of every layer that computes all tokens."""
    whole = spec.layers - (spec.pooling == "first")
    layer = _bert_tensors if spec.family in PARTS else _modernbert_tensors
    return [(_mask(spec, number, longest), *layer(spec, BYTES[low], number)) for number in range(whole)]


def _mask(spec: ModelSpec, number: int, longest: int) -> int:
    """Which scores of a token were dropped, or the keys to hash that again."""
    if not spec.attention_dropout:
        return 0
    return spec.heads * (4 if _in_blocks(spec, number, longest) else longest)


def _bert_tensors(spec: ModelSpec, e: int, number: int) -> tuple[int, ...]:
    c, f, dropped = spec.hidden, spec.intermediate, spec.hidden * (spec.dropout > 0)
    norm = (dropped, 4 * c, c * e)  # dropped features; what goes in, in fp32; what comes out
    return (3 * c * e, c * e, *norm, f * e, f * e, *norm)  # queries, keys, values; what they yield; feed-forward


def _modernbert_tensors(spec: ModelSpec, e: int, number: int) -> tuple[int, ...]:
    c, f = spec.hidden, spec.intermediate
    norm = (4 * c, c * e)  # what goes in, in fp32; what comes out
    first = norm if number else (c * e,)  # the embeddings are normalised
    attention = (3 * c * e, c * e, c * (spec.attention_dropout > 0))  # as above, and dropped features
    gate = (2 * f * e, f * e, f * e, f * (spec.dropout > 0))  # both halves, activation, product, dropped features
    return (*first, *attention, *norm, *gate)


def _torch_kept(spec: ModelSpec, low: str, tokens: int, longest: int, recipe: Recipe) -> tuple[int, int]:
    """What is saved, and what the backward pass of one layer has besides; how much of it the allocator may hold."""
    layers = _torch_layers(spec, low, longest)
    if recipe.gradient_checkpointing:
        again = tokens * max(map(sum, layers), default=0)
        held = [*[(spec.hidden * BYTES[low],)] * len(layers), *layers[-1:]]
    else:
        again, held = 0, layers
    sizes = [size for layer in held for part in layer if (size := tokens * part) <= MAPPED]
    passing = max((_torch_backward(spec, low, number, tokens, longest) for number in range(spec.layers)), default=0)
    saved = torch_saved(spec, low, tokens, longest, recipe)
    return saved + again + passing, _passes(recipe) * sum(sizes)


def _torch_backward(spec: ModelSpec, low: str, number: int, tokens: int, longest: int) -> int:
    """What the backward pass of one layer has at once besides what was saved."""
    wide = (2 if spec.family in PARTS else 6) * spec.intermediate * BYTES[low]
    if not _in_blocks(spec, number, longest):
        return tokens * (4 * spec.heads * longest * BYTES[low] + wide)
    reach = min(longest, BLOCK + 2 * spec.window) if spec.is_local(number) else longest
    scores = 4 * spec.heads * BLOCK * reach * BYTES[low] * max(1, tokens // longest)
    return scores + tokens * (8 * spec.hidden * (BYTES[low] + 1) + wide)  # by head, and sums in fp32


def _jax_layer(spec: ModelSpec) -> int:
    """Numbers a token that a layer keeps."""
    c, f = spec.hidden, spec.intermediate
    # input, queries, keys, values, what they yield; the outputs that are dropped; what the activation reads
    wide = 7 * c + f if spec.family in PARTS else 6 * c + 2 * f
    return wide + spec.heads


def _jax_kept(spec: ModelSpec, low: str, tokens: int, longest: int, recipe: Recipe) -> tuple[int, int]:
    """What is saved, and what the layer whose turn it is has besides: as much as XLA's account of it showed."""
    c, f = spec.hidden, spec.intermediate
    turn = 5 * f + 14 * c if spec.family in PARTS else 8 * f + 34 * c
    if recipe.gradient_checkpointing:
        turn += _jax_layer(spec)
    kept = jax_saved(spec, tokens, recipe) + tokens * 4 * turn
    return kept, kept


def _torch_passing(spec: ModelSpec, low: str, tokens: int, longest: int) -> int:
    """What one layer of a forward pass has at once in PyTorch."""
    e, c, f = BYTES[low], spec.hidden, spec.intermediate
    wide = 3 if spec.family in PARTS else 4
    scored = [
        BLOCK * longest * max(1, tokens // longest) if _in_blocks(spec, number, longest) else tokens * longest
        for number in range(spec.layers)
    ]
    return tokens * (12 * c * e + wide * f * e) + 2 * max(scored) * spec.heads * 4
