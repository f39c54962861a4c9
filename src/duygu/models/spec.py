"""What a model is, in numbers: read from ``config.json`` by allow-list, never by executing anything.

`FAMILIES` has the families: how to read a config and which tensors there are. A config value that changes the
mathematics and is not understood is an error that names it; a key that is unknown but harmless is only reported. Of any
other family transformers is asked (`duygu.models.fallback`), which then computes it, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from duygu.errors import ModelError
from duygu.models.fallback import REFUSED, Fallback, ask, has_twin, parts_of
from duygu.models.families import FAMILIES, Family, Shapes
from duygu.models.foreign import refuse_quantised
from duygu.models.keys import HARMLESS, SWITCHES, Activation, Key, Pooling, Switches, short
from duygu.models.llama import NO_PADDING, RopeScaling
from duygu.models.parts import PARTS, Parts
from duygu.recipe import Recipe

HIDDEN_RATES = ("dropout", "embedding_dropout", "classifier_dropout")  # of `ModelSpec`


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The shape of a sequence classifier and the constants of its arithmetic."""

    family: str  # a key of `FAMILIES`; with a fallback, any model_type
    vocabulary: int  # rows of the word embedding
    positions: int  # tokens that a document may have
    segments: int  # token types; 0 where a family has none
    layers: int
    hidden: int
    heads: int
    intermediate: int
    activation: Activation
    norm_eps: float
    dropout: float  # hidden states
    attention_dropout: float
    classifier_dropout: float
    initializer_range: float
    pad_id: int
    labels: tuple[str, ...]
    embedding: int = 0  # width of the word vectors, in families that can have them narrower than the rest
    # ModernBERT's
    embedding_dropout: float = 0.0
    head_activation: Activation = "gelu"
    pooling: Pooling = "first"  # what of a document's tokens the head reads: the first, or the mean of all
    global_every: int = 1  # of so many layers the first sees all of a document, the others are local
    window: int = 0  # tokens to either side that a local layer sees
    theta: float = 0.0  # of the rotary positions in global layers
    local_theta: float = 0.0
    # Llama's and Qwen's, whose theta is that of all layers, and which read a document's last token
    kv_heads: int = 0  # heads of keys and values; each serves as many heads of queries, one after the other
    head_width: int = 0  # of one head, where that is not what the hidden width divided by the heads is
    rope_scaling: RopeScaling | None = None
    biased: bool = False  # whether queries, keys and values have biases: Qwen2's
    head_norms: bool = False  # whether each head's queries and keys are normalised before they turn: Qwen3's
    fallback: Fallback | None = None  # for a family without a twin; rates, activation and norms are in its config

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.head_width or self.hidden // self.heads

    @property
    def width(self) -> int:
        """Of the word vectors."""
        return self.embedding or self.hidden

    def is_local(self, number: int) -> bool:
        """Whether a layer sees only near tokens."""
        return number % self.global_every != 0

    @property
    def parts(self) -> Parts:
        """What the parts of a model of BERT's kind are called."""
        return PARTS[self.family]

    @property
    def first_position(self) -> int:
        """Row of the position vectors that a document's first token takes; the rows before it serve no text."""
        return self.pad_id + 1 if self.family in PARTS and self.parts.after_padding else 0


def read_spec(config: Mapping[str, object], labels: Sequence[str], where: str) -> ModelSpec:
    """The spec of a Hugging Face config with these labels; ``where`` names the file in errors.

    Raises `ModelError` for a family, a value or a request that is not understood.
    """
    if not has_twin(config, where):
        return _read_fallback(config, labels, where)
    family = FAMILIES[str(config["model_type"])]
    config = family.rewrite(config, where)
    own = {key.name for key in family.keys.values()}
    switches = {name: off for name, off in {**SWITCHES, **family.switches}.items() if name not in own}
    _refuse_switches(config, switches, where)
    values: dict[str, Any] = {field: _read(key, config, where) for field, key in family.keys.items()} | {**family.fixed}
    family.complete(values, where)
    if values["classifier_dropout"] is None:
        values["classifier_dropout"] = values["dropout"]
    if values["hidden"] % values["heads"]:
        hidden, heads = family.keys["hidden"].name, family.keys["heads"].name
        problem = f"{heads} = {values['heads']} does not divide {hidden} = {values['hidden']}"
        raise ModelError(problem, where, "take config.json and the weights from the same model")
    if values["pad_id"] != NO_PADDING:
        _require_padding(values["pad_id"], values["vocabulary"], where)
    names = _checked_labels(labels, where)
    spec = ModelSpec(family=str(config["model_type"]), labels=names, **values)
    if spec.positions <= spec.first_position:
        name = family.keys["positions"].name
        problem = f"{name} = {spec.positions} leaves no position for a token: the first is {spec.first_position}"
        raise ModelError(problem, where, "take config.json and the weights from the same model")
    if spec.theta and spec.head_dim % 2:
        problem = f"heads of width {spec.head_dim}: rotary positions turn features two by two"
        raise ModelError(problem, where, "take config.json and the weights from the same model")
    return replace(spec, positions=spec.positions - spec.first_position)


def with_dropout(spec: ModelSpec, recipe: Recipe) -> ModelSpec:
    """The spec with the recipe's dropout rates where it sets them; the head drops as the hidden states do.

    Raises `RecipeError` for a rate that the config of a fallback has no field for.
    """
    if spec.fallback is not None:
        return replace(spec, fallback=spec.fallback.with_rates(recipe.dropout, recipe.attention_dropout))
    if recipe.dropout is not None:
        spec = replace(spec, **dict.fromkeys(HIDDEN_RATES, recipe.dropout))
    if recipe.attention_dropout is not None:
        spec = replace(spec, attention_dropout=recipe.attention_dropout)
    return spec


def read_labels(config: Mapping[str, object], where: str) -> tuple[str, ...]:
    """Label names of a finished classifier in the order of its outputs, from ``id2label``."""
    names = config.get("id2label")
    fix = 'give id2label as {"0": name, "1": name, ...}, or train the model with duygu'
    if not isinstance(names, dict) or not names:
        raise ModelError("id2label is missing, so the outputs have no names", f"{where}: id2label", fix)
    try:
        by_number = {int(number): name for number, name in cast(dict[str, object], names).items()}
        ordered = [by_number[index] for index in range(len(by_number))]
    except (ValueError, KeyError) as error:
        raise ModelError("id2label does not number its labels 0, 1, 2, ...", f"{where}: id2label", fix) from error
    return _checked_labels(ordered, where)


def write_config(spec: ModelSpec) -> dict[str, object]:
    """Content of the ``config.json`` that `read_spec` reads back to ``spec`` and transformers loads; nothing else."""
    family = family_of(spec)
    if spec.fallback is not None:
        values = spec.fallback.settings
    else:
        values = {key.name: key.write(getattr(spec, field)) for field, key in family.keys.items()}
        values[family.keys["positions"].name] = spec.first_position + spec.positions
    return {
        "architectures": [family.architecture],
        "model_type": spec.family,
        "id2label": {str(index): name for index, name in enumerate(spec.labels)},
        "label2id": {name: index for index, name in enumerate(spec.labels)},
        "problem_type": "single_label_classification",
        "dtype": "float32",
        **values,
    }


def in_low_precision(name: str) -> bool:
    """Whether bf16 training computes with a bf16 copy of this tensor: the linear layers of the encoder's blocks.

    Embeddings and norms stay in fp32, where gradients add up over thousands of tokens, and so does the small head.
    """
    return (".layer." in name or ".layers." in name) and "norm" not in name.lower()


def tensor_shapes(spec: ModelSpec) -> Shapes:
    """Every tensor of the model by its Hugging Face name, from the embeddings to the head."""
    return family_of(spec).shapes(spec)


def parameters(spec: ModelSpec) -> int:
    """Number of weights."""
    return sum(math.prod(shape) for shape in tensor_shapes(spec).values())


def family_of(spec: ModelSpec) -> Family:
    """How models of this kind are read and written."""
    return FAMILIES[spec.family] if spec.fallback is None else spec.fallback.family


def unknown_keys(config: Mapping[str, object]) -> tuple[str, ...]:
    """Keys that nothing here understands, sorted; they are not used. Of a fallback's, transformers uses all."""
    if config["model_type"] not in FAMILIES:
        return ()
    family = FAMILIES[str(config["model_type"])]
    keys = {key.name for key in family.keys.values()}
    return tuple(sorted(config.keys() - keys - HARMLESS - SWITCHES.keys() - family.switches.keys()))


def _read_fallback(config: Mapping[str, object], labels: Sequence[str], where: str) -> ModelSpec:
    for part in parts_of(config):
        _refuse_switches(part, REFUSED, where)
    names = _checked_labels(labels, where)
    fallback, sizes = ask(config, len(names), where)
    if sizes["pad_id"] is None:
        fix = "give the id of a token that stands in no text, such as the tokenizer's padding token"
        raise ModelError("config.json has no pad_token_id", f"{where}: pad_token_id", fix)
    _require_padding(sizes["pad_id"], sizes["vocabulary"], where)
    return ModelSpec(
        family=str(config["model_type"]),
        segments=0,
        activation="gelu",
        norm_eps=0.0,
        dropout=0.0,
        attention_dropout=0.0,
        classifier_dropout=0.0,
        labels=names,
        fallback=fallback,
        **sizes,
    )


def _read(key: Key, config: Mapping[str, object], where: str) -> Any:
    value = config.get(key.name)
    try:
        return key.default if value is None else key.parse(value)
    except ValueError as error:
        problem = f"{key.name} = {short(value)} is not understood"
        raise ModelError(problem, f"{where}: {key.name}", f"wanted: {key.wanted}") from error


def _require_padding(pad_id: int, vocabulary: int, where: str) -> None:
    if not 0 <= pad_id < vocabulary:
        problem = f"pad_token_id = {pad_id} lies outside the vocabulary"
        raise ModelError(problem, where, f"it must be below vocab_size = {vocabulary}")


def _refuse_switches(config: Mapping[str, object], switches: Switches, where: str) -> None:
    """Every switch must be off: absent, null, false, empty, or a value that means so."""
    refuse_quantised(config, where)
    for name, (off, reason) in switches.items():
        value = config.get(name)
        if value and value not in off:
            fix = f"choose a model without {name}, or remove the key if the model does not need it"
            raise ModelError(f"{name} = {short(value)}: {reason}", f"{where}: {name}", fix)


def _checked_labels(labels: Sequence[object], where: str) -> tuple[str, ...]:
    names = [label for label in labels if isinstance(label, str) and label.strip()]
    if len(names) < len(labels) or len(names) < 2 or len(set(names)) < len(names):
        problem = f"{len(labels)} labels {short(list(labels))} cannot be told apart"
        raise ModelError(problem, f"{where}: labels", "give two or more different names, none of them empty")
    return tuple(names)
