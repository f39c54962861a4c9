"""Configs in, specs out, configs back; transformers' BertConfig is the oracle of keys and defaults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import LABELS, SIZES

from duygu.errors import ModelError
from duygu.models.spec import ModelSpec, parameters, read_spec, unknown_keys, write_config


def test_defaults_match_transformers():
    from transformers import BertConfig

    theirs = BertConfig(num_labels=2).to_dict()
    ours = read_spec({"model_type": "bert"}, ("LABEL_0", "LABEL_1"), "config.json")
    assert read_spec(theirs, ("LABEL_0", "LABEL_1"), "config.json") == ours
    assert {key: theirs[key] for key in write_config(ours).keys() & theirs.keys() - _WRITTEN} == {
        key: value for key, value in write_config(ours).items() if key in theirs.keys() - _WRITTEN
    }


_WRITTEN = {"architectures", "classifier_dropout", "dtype", "id2label", "label2id", "problem_type"}


def test_nothing_in_transformers_own_configs_is_unknown():
    from transformers import BertConfig, BertForSequenceClassification

    assert unknown_keys(BertConfig().to_dict()) == ()
    assert unknown_keys(BertForSequenceClassification(BertConfig(**SIZES)).config.to_diff_dict()) == ()


@given(st.builds(
    ModelSpec,
    family=st.just("bert"),
    vocabulary=st.integers(10, 10**6),
    positions=st.integers(1, 8192),
    segments=st.integers(1, 4),
    layers=st.integers(1, 100),
    hidden=st.integers(1, 50).map(lambda count: 12 * count),
    heads=st.sampled_from([1, 2, 3, 4, 6, 12]),
    intermediate=st.integers(1, 2**14),
    activation=st.sampled_from(["gelu", "gelu_tanh", "relu"]),
    norm_eps=st.floats(1e-12, 1e-2),
    dropout=st.floats(0, 0.9),
    attention_dropout=st.floats(0, 0.9),
    classifier_dropout=st.floats(0, 0.9),
    initializer_range=st.floats(0, 1),
    pad_id=st.integers(0, 9),
    labels=st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=9, unique=True).map(tuple),
))  # fmt: skip
def test_config_reads_back_to_the_same_spec(spec):
    assert read_spec(write_config(spec), spec.labels, "config.json") == spec


def test_classifier_dropout_falls_back_to_the_hidden_rate():
    spec = read_spec({"model_type": "bert", "hidden_dropout_prob": 0.25}, LABELS, "config.json")
    assert spec.classifier_dropout == 0.25
    spec = read_spec({"model_type": "bert", "classifier_dropout": 0.0}, LABELS, "config.json")
    assert spec.classifier_dropout == 0.0


def test_parameters_match_transformers():
    from transformers import BertConfig, BertForSequenceClassification

    theirs = BertForSequenceClassification(BertConfig(num_labels=2, **SIZES))
    ours = read_spec({"model_type": "bert", **SIZES}, LABELS, "config.json")
    assert parameters(ours) == theirs.num_parameters()


NOT_UNDERSTOOD = {
    "hidden_size": [10**9, 0, -1, 768.0, "768", True, [768]],
    "num_hidden_layers": [0, 10**9],
    "hidden_act": ["gelu_fast", "quick_gelu", "silu", 3, ["gelu"]],
    "layer_norm_eps": [0, -1e-12, float("inf"), "1e-12"],
    "hidden_dropout_prob": [1.0, -0.1, "0.1", True],
    "position_embedding_type": ["relative_key", "relative_key_query", "rotary"],
    "pad_token_id": [-1, 30522],
    "is_decoder": [True],
    "add_cross_attention": [True],
    "quantization_config": [{"load_in_4bit": True}],
    "auto_map": [{"AutoModel": "modeling.Bert"}],
    "trust_remote_code": [True],
    "_attn_implementation_internal": ["someone/kernel"],
    "_attn_implementation": ["someone/kernel"],
    "custom_pipelines": [{"x": {"impl": "x.Y"}}],
    "pruned_heads": [{"0": [1]}],
    "model_type": ["gpt2", None, 7, ["bert"]],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in NOT_UNDERSTOOD.items() for value in values])
def test_what_is_not_understood_is_named(key, value):
    with pytest.raises(ModelError) as caught:
        read_spec({"model_type": "bert", key: value}, LABELS, "config.json")
    assert key in caught.value.problem
    assert "config.json" in caught.value.where
    assert caught.value.fix


@pytest.mark.parametrize("labels", [(), ("only",), ("twice", "twice"), ("", "b"), (" ", "b")])
def test_labels_must_be_told_apart(labels):
    with pytest.raises(ModelError, match="cannot be told apart"):
        read_spec({"model_type": "bert"}, labels, "config.json")
