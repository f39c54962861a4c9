"""What the engines keep of a forward pass for the backward pass, and what one layer has at once, in bytes.

PyTorch's parts are what autograd packs, tensor by tensor; JAX's are what its layers mark to be kept, and what XLA's
account showed of the layer whose turn it is. docs/memory.md has how near they come.

    C  hidden width     F  intermediate width     H  heads     J  heads of keys and values     K  head width
    T  tokens of the step     L  longest document     R  width of adapters
"""

from __future__ import annotations

from duygu.models.llama import LLAMAS
from duygu.models.parts import PARTS
from duygu.models.spec import ModelSpec, with_dropout
from duygu.recipe import Recipe

PLAIN = Recipe()
BYTES = {"fp32": 4, "bf16": 2}
MAPPED = 32 << 20  # what is larger, glibc does give back: the most that its M_MMAP_THRESHOLD grows to
BLOCK, LONG = 128, 2048  # of duygu.engines.torch.attention: who asks at a time in a long document, and what is one
SITES = 5  # of duygu.engines.torch.dropout: keys of a token and layer


def torch_saved(spec: ModelSpec, low: str, tokens: int, longest: int, recipe: Recipe = PLAIN) -> int:
    """Bytes that PyTorch saves of one step for the backward pass, all documents as long as the longest."""
    spec, e = with_dropout(spec, recipe), BYTES[low]
    layers = _torch_layers(spec, low, longest, recipe)
    in_layers = sum(map(sum, layers))
    beside = 3 * len(layers) + 2  # weights of queries, keys and values, side by side; of the last layer of two of them
    if recipe.gradient_checkpointing:
        in_layers = len(layers) * spec.hidden * e + 4 * SITES * (spec.layers + 1)  # inputs, and keys of what drops
        beside = 2
    joined = spec.family in PARTS and not recipe.lora_rank  # others have them as one, or never side by side
    weights = beside * spec.hidden * spec.hidden * e if joined else 0
    return _passes(recipe) * (tokens * (in_layers + _torch_around(spec, e, tokens // longest, recipe)) + weights)


def _torch_around(spec: ModelSpec, e: int, documents: int, recipe: Recipe) -> int:
    """Bytes a token of what is saved of embeddings and last layer."""
    c, first, learns = spec.hidden, spec.pooling == "first", not recipe.lora_rank
    asked = 4 + (e + 1) * (spec.attention_dropout > 0)  # of every score of a first token
    if spec.family in LLAMAS:
        shared = spec.kv_heads * spec.head_dim * (2 * e + 4 * spec.head_norms)  # keys and values of the last layer
        found = 4 * spec.head_dim + learns * c * (spec.embedding_dropout > 0) + sum(_rms_norm(spec, e, recipe)) + shared
        asked += e * (e < 4 and not spec.attention_dropout)  # rounded before they are dropped
    elif spec.family in PARTS:
        found = learns * (4 * c + c * (spec.dropout > 0)) + 3 * c * e  # embeddings; of the last layer the rest
    else:
        found = learns * (4 * c + c * (spec.embedding_dropout > 0)) + 8 * spec.head_dim  # the same; cosines and sines
        found += (4 * c + 4 * c * e) * first  # input, queries, keys and values of the last layer
    return found + spec.heads * documents * asked * first


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


def _torch_layers(spec: ModelSpec, low: str, longest: int, recipe: Recipe) -> list[tuple[int, ...]]:
    """Bytes a token of each tensor that a layer saves, of every layer that computes all tokens."""
    return [
        (_mask(spec, number, longest), *_tensors(spec, BYTES[low], number, recipe))
        for number in range(spec.layers - (spec.pooling == "first"))
    ]


def _tensors(spec: ModelSpec, e: int, number: int, recipe: Recipe) -> tuple[int, ...]:
    """Those of one layer, masks of attention apart."""
    if spec.family in LLAMAS:
        found = _llama_tensors(spec, e, recipe)
    elif spec.family in PARTS:
        found = _bert_tensors(spec, e)
    else:
        found = _modernbert_tensors(spec, e, number)
    return (*found, recipe.lora_rank * e * _linear(spec))  # what adapters narrow their input to


def _linear(spec: ModelSpec) -> int:
    """Linear layers of a layer."""
    return 7 if spec.family in LLAMAS else 6 if spec.family in PARTS else 4


def _mask(spec: ModelSpec, number: int, longest: int) -> int:
    """Which scores of a token were dropped, or the keys to hash that again."""
    if not spec.attention_dropout:
        return 0
    return spec.heads * (4 if _in_blocks(spec, number, longest) else longest)


def _bert_tensors(spec: ModelSpec, e: int) -> tuple[int, ...]:
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


def _llama_tensors(spec: ModelSpec, e: int, recipe: Recipe) -> tuple[int, ...]:
    f, dropped = spec.intermediate, spec.hidden * (spec.dropout > 0)
    norm, asking, shared = _rms_norm(spec, e, recipe), spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    wide = 4 if recipe.lora_rank else 4 + e  # as of the other norms
    heads = (wide * asking, wide * shared) if spec.head_norms else ()
    attention = ((asking + 2 * shared) * e, asking * e, dropped)  # queries, keys, values; what they yield
    gate = (f * e, f * e, f * e, f * e, dropped)  # both halves, activation, product
    return (*norm, *heads, *attention, *norm, *gate)


def _rms_norm(spec: ModelSpec, e: int, recipe: Recipe) -> tuple[int, ...]:
    """What goes in, in fp32; where its weights learn, that divided; what comes out."""
    c = spec.hidden
    return (4 * c, c * e) if recipe.lora_rank else (4 * c, c * e, c * e)


def torch_kept(spec: ModelSpec, low: str, tokens: int, longest: int, recipe: Recipe) -> tuple[int, int]:
    """What is saved, and what the backward pass of one layer has besides; how much of it the allocator may hold."""
    layers = _torch_layers(spec, low, longest, recipe)
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
    if spec.family in LLAMAS:  # input; queries and what they yield, keys and values; the output; both halves
        return 2 * c + 2 * (spec.heads + spec.kv_heads) * spec.head_dim + 2 * f + spec.heads
    # input, queries, keys, values, what they yield; the outputs that are dropped; what the activation reads
    wide = 7 * c + f if spec.family in PARTS else 6 * c + 2 * f
    return wide + spec.heads


def jax_turn(spec: ModelSpec, low: str, tokens: int, recipe: Recipe = PLAIN) -> int:
    """What the layer whose turn it is has besides what is saved: as much as XLA's account of it showed."""
    c, f = spec.hidden, spec.intermediate
    if spec.family in LLAMAS:
        return tokens * 4 * (5 * f + 10 * c if low == "bf16" else 6 * f + 15 * c)
    turn = 5 * f + 14 * c if spec.family in PARTS else 8 * f + 34 * c
    return tokens * 4 * (turn + _jax_layer(spec) * recipe.gradient_checkpointing)


def torch_passing(spec: ModelSpec, low: str, tokens: int, longest: int) -> int:
    """What one layer of a forward pass has at once in PyTorch."""
    e, c, f = BYTES[low], spec.hidden, spec.intermediate
    wide = 3 if spec.family in PARTS else 4
    scored = [
        BLOCK * longest * max(1, tokens // longest) if _in_blocks(spec, number, longest) else tokens * longest
        for number in range(spec.layers)
    ]
    return tokens * (12 * c * e + wide * f * e) + 2 * max(scored) * spec.heads * 4


def jax_passing(spec: ModelSpec, tokens: int) -> int:
    """What one layer of a forward pass has at once in JAX, as much as XLA's account of it showed."""
    if spec.family in LLAMAS:
        return tokens * 4 * (4 * spec.intermediate + 3 * spec.hidden)
    return tokens * 40 * spec.hidden
