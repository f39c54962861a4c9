"""The families of models that both engines compute: how a config is read, and which tensors there are.

A value of a config that a family leaves no choice in stands in ``fixed``. Defaults are those of transformers' configs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from duygu.models import llama, modernbert, qwen
from duygu.models.keys import Key, Switch, Switches, activation, epsilon, integer, number, rate
from duygu.models.parts import PARTS

if TYPE_CHECKING:
    from duygu.models.spec import ModelSpec

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Family:
    """All that reading and writing a model of one kind takes; the engines hold its mathematics."""

    architecture: str  # the class that transformers loads a result with
    prefix: str  # of every tensor but the head's; checkpoints of the bare encoder lack it
    keys: Mapping[str, Key]  # by field of ModelSpec
    shapes: Callable[[ModelSpec], Shapes]
    head: tuple[str, ...]  # tensors that a new classifier starts afresh
    ignored: tuple[str, ...]  # patterns of tensors that a classifier does not need
    optional: tuple[str, ...] = ()  # tensors that start afresh where a checkpoint has none of them
    fixed: Mapping[str, int | float] = field(
        default_factory=dict[str, int | float]
    )  # by field of ModelSpec, in no config
    switches: Switches = field(default_factory=dict[str, Switch])  # besides those of every family
    rewrite: Callable[[Mapping[str, object], str], Mapping[str, object]] = lambda config, where: config  # to `keys`
    complete: Callable[[dict[str, Any], str], None] = lambda values, where: None  # what `keys` found, by field
    pads: bool = True  # whether checkpoints name a padding token; without it a recipe can


def _encoder_shapes(spec: ModelSpec) -> Shapes:
    """A model of BERT's kind."""
    parts, hidden, wide = spec.parts, spec.hidden, spec.intermediate
    shapes: Shapes = {
        f"{parts.words}.weight": (spec.vocabulary, spec.width),
        f"{parts.positions}.weight": (spec.first_position + spec.positions, spec.width),
    }
    if spec.segments:
        shapes[f"{parts.segments}.weight"] = (spec.segments, spec.width)
    shapes |= _affine(parts.embedding_norm, spec.width)
    if spec.width != hidden:
        shapes |= _affine(parts.projection, hidden, spec.width)
    for index in range(spec.layers):
        layer = f"{parts.layers}.{index}"
        for part in (parts.query, parts.key, parts.value, parts.attention_output):
            shapes |= _affine(f"{layer}.{part}", hidden, hidden)
        shapes |= _affine(f"{layer}.{parts.attention_norm}", hidden)
        shapes |= _affine(f"{layer}.{parts.intermediate}", wide, hidden)
        shapes |= _affine(f"{layer}.{parts.output}", hidden, wide)
        shapes |= _affine(f"{layer}.{parts.output_norm}", hidden)
    return shapes | _affine(parts.dense, hidden, hidden) | _affine(parts.classifier, len(spec.labels), hidden)


def _affine(name: str, *shape: int) -> Shapes:
    """Weight and bias of a linear layer (outputs, inputs) or of a norm (features,)."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _pairs(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}.{kind}" for name in names for kind in ("weight", "bias"))


def _sizes(layers: int = 12, hidden: int = 768, heads: int = 12, intermediate: int = 3072) -> dict[str, Key]:
    """Keys that most families share, under the names of BERT's config."""
    return {
        "layers": integer("num_hidden_layers", layers, 2**10),
        "hidden": integer("hidden_size", hidden, 2**16),
        "heads": integer("num_attention_heads", heads, 2**12),
        "intermediate": integer("intermediate_size", intermediate, 2**18),
    }


def _text(vocabulary: int = 30522, pad_id: int = 0, positions: int = 512) -> dict[str, Key]:
    return {
        "vocabulary": integer("vocab_size", vocabulary, 2**24),
        "positions": integer("max_position_embeddings", positions, 2**20),
        "initializer_range": number("initializer_range", 0.02, "a number from 0 to 1", lambda value: 0 <= value <= 1),
        "pad_id": integer("pad_token_id", pad_id, 2**24, low=0),
    }


_BERT: dict[str, Key] = {
    "segments": integer("type_vocab_size", 2, 2**10),
    "activation": activation("hidden_act"),
    "norm_eps": epsilon("layer_norm_eps", 1e-12),
    "dropout": rate("hidden_dropout_prob", 0.1),
    "attention_dropout": rate("attention_probs_dropout_prob", 0.1),
    "classifier_dropout": rate("classifier_dropout", None),
}

_DISTILBERT: dict[str, Key] = {
    "layers": integer("n_layers", 6, 2**10),
    "hidden": integer("dim", 768, 2**16),
    "heads": integer("n_heads", 12, 2**12),
    "intermediate": integer("hidden_dim", 3072, 2**18),
    "activation": activation("activation"),
    "dropout": rate("dropout", 0.1),
    "attention_dropout": rate("attention_dropout", 0.1),
    "classifier_dropout": rate("seq_classif_dropout", 0.2),
}


def _roberta(name: str, architecture: str, vocabulary: int) -> Family:
    parts = PARTS[name]
    return Family(
        architecture=architecture,
        prefix=parts.base,
        keys=_text(vocabulary, pad_id=1) | _sizes() | _BERT,
        shapes=_encoder_shapes,
        head=_pairs(parts.dense, parts.classifier),
        ignored=("lm_head.*", "*pooler.*", "*embeddings.position_ids"),
    )


def _llama(
    architecture: str,
    keys: Mapping[str, Key],
    switches: Switches,
    rewrite: Callable[[Mapping[str, object], str], Mapping[str, object]],
    **own: bool,
) -> Family:
    """A decoder of Llama's kind; ``own`` are the fields of `ModelSpec` that set it apart."""
    return Family(
        architecture=architecture,
        prefix="model.",
        keys=keys,
        shapes=llama.shapes,
        head=("score.weight",),
        ignored=("lm_head.*", "*rotary_emb.inv_freq"),
        fixed={"segments": 0, "dropout": 0.0, "classifier_dropout": 0.0, **own},
        switches=switches,
        rewrite=rewrite,
        complete=llama.complete,
        pads=False,
    )


_QWEN = _text(151_936, positions=32_768) | _sizes(32, 4096, 32, 22_016)

FAMILIES: Mapping[str, Family] = {
    "bert": Family(
        architecture="BertForSequenceClassification",
        prefix="bert.",
        keys=_text() | _sizes() | _BERT,
        shapes=_encoder_shapes,
        head=_pairs("classifier"),
        ignored=("cls.*", "*embeddings.position_ids"),
        optional=_pairs("bert.pooler.dense"),
    ),
    "electra": Family(
        architecture="ElectraForSequenceClassification",
        prefix="electra.",
        keys=_text() | _sizes(12, 256, 4, 1024) | _BERT | {"embedding": integer("embedding_size", 128, 2**16)},
        shapes=_encoder_shapes,
        head=_pairs("classifier.dense", "classifier.out_proj"),
        ignored=("discriminator_predictions.*", "generator_*", "*embeddings.position_ids"),
    ),
    "distilbert": Family(
        architecture="DistilBertForSequenceClassification",
        prefix="distilbert.",
        keys=_text() | _DISTILBERT,
        shapes=_encoder_shapes,
        head=_pairs("pre_classifier", "classifier"),
        ignored=("vocab_*", "*embeddings.position_ids"),
        fixed={"segments": 0, "norm_eps": 1e-12},
    ),
    "roberta": _roberta("roberta", "RobertaForSequenceClassification", 50265),
    "xlm-roberta": _roberta("xlm-roberta", "XLMRobertaForSequenceClassification", 30522),
    "modernbert": Family(
        architecture="ModernBertForSequenceClassification",
        prefix="model.",
        keys=_text(50368, 50283, 8192) | _sizes(22, intermediate=1152) | modernbert.KEYS,
        shapes=modernbert.shapes,
        head=_pairs("classifier"),
        ignored=("decoder.*",),
        optional=("head.dense.weight", "head.norm.weight"),
        fixed={"segments": 0},
        switches=modernbert.SWITCHES,
        rewrite=modernbert.rewrite,
    ),
    "llama": _llama(
        "LlamaForSequenceClassification",
        _text(32_000, positions=2048) | _sizes(32, 4096, 32, 11_008) | llama.KEYS,
        llama.SWITCHES,
        llama.rewrite,
    ),
    "qwen2": _llama("Qwen2ForSequenceClassification", _QWEN | qwen.QWEN2, qwen.BIASED, qwen.rewrite, biased=True),
    "qwen3": _llama("Qwen3ForSequenceClassification", _QWEN | qwen.QWEN3, qwen.SWITCHES, qwen.rewrite, head_norms=True),
}
