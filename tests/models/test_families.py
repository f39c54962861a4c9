"""Configs and checkpoints of every family but BERT, which the other tests have; transformers is the oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from small_models import LABELS, write_tokenizer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from duygu.data.corpus import read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.tokens import TextTokenizer
from duygu.errors import ModelError
from duygu.models.families import FAMILIES
from duygu.models.folder import open_model
from duygu.models.spec import parameters, read_spec, tensor_shapes, unknown_keys, write_config

NEW = sorted(FAMILIES.keys() - {"bert"})
SMALL = {"vocab_size": 40, "max_position_embeddings": 16, "pad_token_id": 0}
BERTS = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
DISTILBERTS = {"dim": 12, "n_layers": 2, "n_heads": 3, "hidden_dim": 20}
QWENS = {**BERTS, "num_key_value_heads": 1, "head_dim": 6}
OWN = {"distilbert": DISTILBERTS, "qwen2": QWENS, "qwen3": QWENS}
SIZES = {family: {**SMALL, **OWN.get(family, BERTS)} for family in NEW}
PRETRAINED = {  # as checkpoints of each family usually come
    "electra": "ElectraForPreTraining",
    "distilbert": "DistilBertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "xlm-roberta": "XLMRobertaForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
ADDED = {"architectures", "classifier_dropout", "dtype", "id2label", "label2id", "problem_type"}


@pytest.mark.parametrize("family", NEW)
def test_defaults_match_transformers(family: str) -> None:
    theirs = AutoConfig.for_model(family).to_dict()
    ours = read_spec({"model_type": family}, LABELS, "config.json")
    assert read_spec(theirs, LABELS, "config.json") == ours
    assert unknown_keys(theirs) == ()
    written = write_config(ours)
    assert read_spec(written, LABELS, "config.json") == ours
    assert {key: theirs[key] for key in written.keys() & theirs.keys() - ADDED} == {
        key: written[key] for key in written.keys() & theirs.keys() - ADDED
    }


@pytest.mark.parametrize("family", NEW)
def test_tensors_match_transformers(family: str) -> None:
    config = AutoConfig.for_model(family, **SIZES[family], num_labels=2)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    spec = read_spec(config.to_dict(), LABELS, "config.json")
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == tensor_shapes(spec)
    assert parameters(spec) == model.num_parameters()


@pytest.mark.parametrize("family", NEW)
def test_pretrained_checkpoints_open_and_their_heads_are_ignored_by_name(family: str, tmp_path: Path) -> None:
    theirs: Any = getattr(transformers, PRETRAINED[family])(AutoConfig.for_model(family, **SIZES[family]))
    theirs.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    model = open_model(tmp_path, LABELS, 5, list)
    assert model.account.initialised == FAMILIES[family].head
    assert not any("ignored" in warning or "not known" in warning for warning in model.warnings)
    state = theirs.state_dict()
    for name in model.account.loaded:
        assert (model.tensors[name] == state[name].numpy()).all(), name


def test_a_bare_modernbert_starts_its_head_afresh(tmp_path: Path) -> None:
    bare: Any = AutoModel.from_config(AutoConfig.for_model("modernbert", **SIZES["modernbert"]))
    bare.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    model = open_model(tmp_path, LABELS, 5, list)
    head = FAMILIES["modernbert"]
    assert set(model.account.initialised) == {*head.optional, *head.head}
    assert (model.tensors["head.norm.weight"] == 1).all()


def write_sentencepiece(folder: Path, texts: list[str]) -> None:
    """A tokenizer.json as SentencePiece vocabularies are converted to, special tokens as XLM-R has them."""
    roles = {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    tokenizer = Tokenizer(models.Unigram())
    squeezed = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), squeezed])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = list(roles.values())
    tokenizer.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    ends = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "<s>", "sep_token": "</s>", **roles}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def test_sentencepiece_through_tokenizer_json_matches_transformers(tmp_path: Path) -> None:
    texts = [*read_corpus(demo_corpus()).texts[:40], "kâr İŞIK ağ", "", "日本語 😀", "<s> spelt </s> out <pad>"]
    write_sentencepiece(tmp_path, texts)
    ours = TextTokenizer.from_folder(tmp_path)
    assert ours.pad_id == 1
    ours.save(tmp_path / "saved", 512)
    encoded = ours.encode(texts, 100_000, 0.75)
    rows = [row.tolist() for row in encoded.take(np.arange(len(texts), dtype=np.int32))]
    for folder in (tmp_path, tmp_path / "saved"):
        assert rows == AutoTokenizer.from_pretrained(folder)(texts).input_ids


def rope(kind: str, **values: Any) -> dict[str, Any]:
    return {kind: {"rope_type": "default", "rope_theta": 10.0, **values}}


STRETCHED = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
NOT_UNDERSTOOD = [
    ("electra", "embedding_size", 0),
    ("electra", "hidden_act", "swish"),
    ("distilbert", "activation", "silu"),
    ("distilbert", "n_heads", 5),
    ("roberta", "position_embedding_type", "relative_key"),
    ("roberta", "max_position_embeddings", 2),
    ("xlm-roberta", "is_decoder", True),
    ("modernbert", "attention_bias", True),
    ("modernbert", "norm_bias", True),
    ("modernbert", "classifier_pooling", "max"),
    ("modernbert", "classifier_activation", "silu"),
    ("modernbert", "position_embedding_type", "relative_key"),
    ("modernbert", "rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
    ("modernbert", "rope_parameters", rope("full_attention", rope_type="linear", factor=2.0)),
    ("modernbert", "rope_parameters", rope("full_attention", partial_rotary_factor=0.5)),
    ("modernbert", "rope_parameters", rope("other_attention")),
    ("modernbert", "layer_types", ["full_attention", "sliding_attention", "chunked_attention"]),
    ("modernbert", "layer_types", ["sliding_attention", "full_attention"]),
    ("modernbert", "layer_types", ["full_attention", "full_attention", "sliding_attention"]),
    ("llama", "hidden_act", "relu"),
    ("llama", "attention_bias", True),
    ("llama", "mlp_bias", True),
    ("llama", "num_key_value_heads", 5),
    ("llama", "head_dim", 0),
    ("llama", "sliding_window", 4096),
    ("llama", "pretraining_tp", 2),
    ("llama", "partial_rotary_factor", 0.5),
    ("llama", "layer_types", ["full_attention", "sliding_attention"]),
    ("llama", "rope_theta", 0),
    ("llama", "rope_scaling", {"type": "linear", "factor": 2.0}),
    ("llama", "rope_scaling", {"rope_type": "yarn", "factor": 2.0}),
    ("llama", "rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
    ("llama", "rope_scaling", {**STRETCHED, "high_freq_factor": 1.0}),
    ("llama", "rope_scaling", {**STRETCHED, "attention_factor": 2.0}),
    ("llama", "rope_parameters", {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
    ("llama", "rope_parameters", {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
    ("llama", "rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}),
    ("llama", "rope_parameters", "llama3"),
    ("qwen2", "use_sliding_window", True),
    ("qwen2", "use_mrope", True),
    ("qwen2", "hidden_act", "gelu"),
    ("qwen2", "layer_types", ["full_attention", "sliding_attention"]),
    ("qwen2", "rope_scaling", {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}),
    ("qwen3", "use_sliding_window", True),
    ("qwen3", "attention_bias", True),
    ("qwen3", "head_dim", 0),
    ("qwen3", "rope_scaling", {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}),
]


@pytest.mark.parametrize(("family", "key", "value"), NOT_UNDERSTOOD)
def test_what_is_not_understood_is_named(family: str, key: str, value: object) -> None:
    with pytest.raises(ModelError) as caught:
        read_spec({"model_type": family, key: value}, LABELS, "config.json")
    assert key in caught.value.problem
    assert caught.value.fix


def test_both_ways_to_say_which_layers_are_local_mean_the_same() -> None:
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
    new = {"layer_types": kinds, "rope_parameters": {**rope("full_attention"), **rope("sliding_attention")}}
    old = {"global_attn_every_n_layers": 4, "global_rope_theta": 10.0, "local_rope_theta": 10.0}
    common = {"model_type": "modernbert", "num_hidden_layers": 5}
    assert read_spec({**common, **new}, LABELS, "x") == read_spec({**common, **old}, LABELS, "x")
