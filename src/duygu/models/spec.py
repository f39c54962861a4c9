"""What a model is, in numbers: read from ``config.json`` by allow-list, never by executing anything.

A family is one entry in `FAMILIES`: how to read its config and which tensors it has. A config value that changes the
mathematics and is not understood is an error that names it; a key that is unknown but harmless is only reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from duygu.errors import ModelError

Activation = Literal["gelu", "gelu_tanh", "relu"]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The shape of a sequence classifier and the constants of its arithmetic."""

    family: str  # "bert"
    vocabulary: int  # rows of the word embedding
    positions: int
    segments: int  # token types
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

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True)
class Key:
    """One value of ``config.json``: its key, what stands for it where it is absent, and what it may be."""

    name: str
    default: int | float | str | None
    wanted: str
    parse: Callable[[Any], int | float | str]  # raises ValueError


@dataclass(frozen=True, slots=True)
class Family:
    """All that reading and writing a model of one kind takes; the engines hold its mathematics."""

    architecture: str  # the class that transformers loads a result with
    prefix: str  # of every tensor but the head's; checkpoints of the bare encoder lack it
    keys: Mapping[str, Key]  # by field of ModelSpec
    shapes: Callable[[ModelSpec], Shapes]
    head: tuple[str, ...]  # tensors that a new classifier starts afresh
    optional: tuple[str, ...]  # tensors that start afresh where a checkpoint has none of them
    ignored: tuple[str, ...]  # patterns of tensors that a classifier does not need


def read_spec(config: Mapping[str, object], labels: Sequence[str], where: str) -> ModelSpec:
    """The spec of a Hugging Face config with these labels; ``where`` names the file in errors.

    Raises `ModelError` for a family, a value or a request that is not understood.
    """
    family = family_of(config, where)
    _refuse_switches(config, where)
    values: dict[str, Any] = {field: _read(key, config, where) for field, key in family.keys.items()}
    if values["classifier_dropout"] is None:
        values["classifier_dropout"] = values["dropout"]
    if values["hidden"] % values["heads"]:
        hidden, heads = family.keys["hidden"].name, family.keys["heads"].name
        problem = f"{heads} = {values['heads']} does not divide {hidden} = {values['hidden']}"
        raise ModelError(problem, where, "take config.json and the weights from the same model")
    if values["pad_id"] >= values["vocabulary"]:
        problem = f"{family.keys['pad_id'].name} = {values['pad_id']} lies outside the vocabulary"
        raise ModelError(problem, where, f"it must be below {family.keys['vocabulary'].name} = {values['vocabulary']}")
    return ModelSpec(family=str(config["model_type"]), labels=_checked_labels(labels, where), **values)


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
    family = FAMILIES[spec.family]
    values = {key.name: getattr(spec, field) for field, key in family.keys.items()}
    values["hidden_act"] = _ACTIVATION_NAMES[spec.activation]
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
    return ".layer." in name and "LayerNorm" not in name


def tensor_shapes(spec: ModelSpec) -> Shapes:
    """Every tensor of the model by its Hugging Face name, in the order of transformers' ``state_dict``."""
    return FAMILIES[spec.family].shapes(spec)


def parameters(spec: ModelSpec) -> int:
    """Number of weights."""
    return sum(math.prod(shape) for shape in tensor_shapes(spec).values())


def family_of(config: Mapping[str, object], where: str) -> Family:
    """The family that ``model_type`` names."""
    name = config.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        problem = "config.json has no model_type" if name is None else f"model_type {name!r} is not a known family"
        raise ModelError(problem, where, f"choose a model of a known family: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def unknown_keys(config: Mapping[str, object]) -> tuple[str, ...]:
    """Keys that nothing here understands, sorted; they are not used."""
    keys = {key.name for family in FAMILIES.values() for key in family.keys.values()}
    return tuple(sorted(config.keys() - keys - _HARMLESS - _SWITCHES.keys()))


def _read(key: Key, config: Mapping[str, object], where: str) -> int | float | str | None:
    value = config.get(key.name)
    try:
        return key.default if value is None else key.parse(value)
    except ValueError as error:
        problem = f"{key.name} = {_short(value)} is not understood"
        raise ModelError(problem, f"{where}: {key.name}", f"wanted: {key.wanted}") from error


def _refuse_switches(config: Mapping[str, object], where: str) -> None:
    """Every `_SWITCHES` key must be off: absent, null, false, empty, or the one value that means so."""
    for name, (off, reason) in _SWITCHES.items():
        value = config.get(name)
        if value and value not in off:
            fix = f"choose a model without {name}, or remove the key if the model does not need it"
            raise ModelError(f"{name} = {_short(value)}: {reason}", f"{where}: {name}", fix)


def _checked_labels(labels: Sequence[object], where: str) -> tuple[str, ...]:
    names = [label for label in labels if isinstance(label, str) and label.strip()]
    if len(names) < len(labels) or len(names) < 2 or len(set(names)) < len(names):
        problem = f"{len(labels)} labels {_short(list(labels))} cannot be told apart"
        raise ModelError(problem, f"{where}: labels", "give two or more different names, none of them empty")
    return tuple(names)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _integer(name: str, default: int, high: int, low: int = 1) -> Key:
    def parse(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(value)
        return value

    return Key(name, default, f"an integer from {low} to {high}", parse)


def _number(name: str, default: float | None, wanted: str, holds: Callable[[float], bool]) -> Key:
    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
            raise ValueError(value)
        return float(value)

    return Key(name, default, wanted, parse)


def _rate(name: str, default: float | None) -> Key:
    return _number(name, default, "a rate from 0 to below 1", lambda value: 0 <= value < 1)


def _activation(name: str) -> Key:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in _ACTIVATIONS:
            raise ValueError(value)
        return _ACTIVATIONS[value]

    return Key(name, "gelu", f"one of {', '.join(_ACTIVATIONS)}", parse)


_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_ACTIVATION_NAMES: dict[Activation, str] = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu"}

_CODE = "it asks for code from the model folder, and duygu runs none"
_MATHEMATICS = "this changes what the model computes, and no engine here computes it"

_SWITCHES: dict[str, tuple[tuple[object, ...], str]] = {
    "auto_map": ((), _CODE),
    "trust_remote_code": ((), _CODE),
    "custom_pipelines": ((), _CODE),
    "_attn_implementation_internal": ((), _CODE),
    "_attn_implementation": (("eager", "sdpa", "flash_attention_2"), _CODE),
    "attn_implementation": (("eager", "sdpa", "flash_attention_2"), _CODE),
    "_experts_implementation_internal": ((), _CODE),
    "kernels": ((), _CODE),
    "use_kernels": ((), _CODE),
    "kernel_config": ((), _CODE),
    "quantization_config": ((), "the weights are quantised; give the model's fp32, bf16 or fp16 weights"),
    "position_embedding_type": (("absolute",), _MATHEMATICS),
    "is_decoder": ((), _MATHEMATICS),
    "add_cross_attention": ((), _MATHEMATICS),
    "is_encoder_decoder": ((), _MATHEMATICS),
    "pruned_heads": ((), _MATHEMATICS),
    "rope_scaling": ((), _MATHEMATICS),
    "rope_parameters": ((), _MATHEMATICS),
    "adapters": ((), _MATHEMATICS),
}

_HARMLESS_KEYS = """
    model_type architectures id2label label2id num_labels _num_labels problem_type finetuning_task duygu
    _name_or_path name_or_path transformers_version tokenizer_class language directionality task_specific_params
    dtype torch_dtype torchscript use_bfloat16 use_cache gradient_checkpointing chunk_size_feed_forward
    output_attentions output_hidden_states output_past return_dict return_dict_in_generate output_scores
    bos_token_id eos_token_id sep_token_id cls_token_id mask_token_id unk_token_id decoder_start_token_id
    forced_bos_token_id forced_eos_token_id tie_word_embeddings tie_encoder_decoder cross_attention_hidden_size
    pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type temperature
    top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
    num_beams num_beam_groups diversity_penalty num_return_sequences max_length min_length do_sample
    early_stopping bad_words_ids suppress_tokens begin_suppress_tokens prefix exponential_decay_length_penalty
    remove_invalid_values tf_legacy_loss
"""
_HARMLESS = frozenset(_HARMLESS_KEYS.split())


def _bert_shapes(spec: ModelSpec) -> Shapes:
    hidden, wide = spec.hidden, spec.intermediate
    shapes: Shapes = {
        "bert.embeddings.word_embeddings.weight": (spec.vocabulary, hidden),
        "bert.embeddings.position_embeddings.weight": (spec.positions, hidden),
        "bert.embeddings.token_type_embeddings.weight": (spec.segments, hidden),
        **_affine("bert.embeddings.LayerNorm", hidden),
    }
    for index in range(spec.layers):
        layer = f"bert.encoder.layer.{index}"
        for part in ("query", "key", "value"):
            shapes |= _affine(f"{layer}.attention.self.{part}", hidden, hidden)
        shapes |= _affine(f"{layer}.attention.output.dense", hidden, hidden)
        shapes |= _affine(f"{layer}.attention.output.LayerNorm", hidden)
        shapes |= _affine(f"{layer}.intermediate.dense", wide, hidden)
        shapes |= _affine(f"{layer}.output.dense", hidden, wide)
        shapes |= _affine(f"{layer}.output.LayerNorm", hidden)
    shapes |= _affine("bert.pooler.dense", hidden, hidden)
    return shapes | _affine("classifier", len(spec.labels), hidden)


def _affine(name: str, *shape: int) -> Shapes:
    """Weight and bias of a linear layer (outputs, inputs) or of a norm (features,)."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


FAMILIES: dict[str, Family] = {
    "bert": Family(
        architecture="BertForSequenceClassification",
        prefix="bert.",
        keys={  # defaults are those of transformers' BertConfig
            "vocabulary": _integer("vocab_size", 30522, 2**24),
            "positions": _integer("max_position_embeddings", 512, 2**20),
            "segments": _integer("type_vocab_size", 2, 2**10),
            "layers": _integer("num_hidden_layers", 12, 2**10),
            "hidden": _integer("hidden_size", 768, 2**16),
            "heads": _integer("num_attention_heads", 12, 2**12),
            "intermediate": _integer("intermediate_size", 3072, 2**18),
            "activation": _activation("hidden_act"),
            "norm_eps": _number("layer_norm_eps", 1e-12, "a small number above 0", lambda value: 0 < value < 1),
            "dropout": _rate("hidden_dropout_prob", 0.1),
            "attention_dropout": _rate("attention_probs_dropout_prob", 0.1),
            "classifier_dropout": _rate("classifier_dropout", None),
            "initializer_range": _number(
                "initializer_range", 0.02, "a number from 0 to 1", lambda value: 0 <= value <= 1
            ),
            "pad_id": _integer("pad_token_id", 0, 2**24, low=0),
        },
        shapes=_bert_shapes,
        head=("classifier.weight", "classifier.bias"),
        optional=("bert.pooler.dense.weight", "bert.pooler.dense.bias"),
        ignored=("cls.*", "*embeddings.position_ids"),
    ),
}
