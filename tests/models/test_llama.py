"""What is Llama's own in configs and tokenizers; transformers is the oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import LABELS, write_model_folder
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from duygu.data.corpus import clean
from duygu.engines import Placement, open_engine
from duygu.errors import ModelError, RecipeError
from duygu.models.folder import Model, open_classifier, open_model, write_model
from duygu.models.spec import read_spec, write_config
from duygu.recipe import Recipe
from duygu.training.plan import assemble, exact_shape
from duygu.use.classifier import Classifier

BEGIN, END, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>"
TEXTS = ["Hisseler yükseldi, kâr arttı.", "Düşüş", "", "zarar  açıkladı\n\n2024'te", "İŞ dünyası 😀 ığdır"]
SCALED = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 128, "initializer_range": 0.3,
}  # fmt: skip


def write_tokenizer(folder: Path, **settings: str) -> int:
    """Byte-level BPE as Llama 3's: special tokens after the others, one before every text. Returns its entries."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(r" ?\w+|[^\w\s]|\s+", "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (BEGIN, END, PAD)])
    begin = (BEGIN, tokenizer.token_to_id(BEGIN))
    template = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN}:1 $B:1", special_tokens=[begin]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": END, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return tokenizer.get_vocab_size()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small language model of Llama's kind, which names no padding token."""
    torch.manual_seed(3)
    entries = write_tokenizer(tmp_path)
    turns = {"rope_theta": 500.0, **SCALED}
    LlamaForCausalLM(LlamaConfig(vocab_size=entries, rope_parameters=turns, **SIZES)).save_pretrained(tmp_path)
    return tmp_path


def opened(folder: Path, pad_token: str = "") -> Model:
    return open_model(folder, LABELS, 5, list, pad_token=pad_token)


def changed(folder: Path, name: str, **values: Any) -> None:
    """A JSON file of the folder with some values set."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def saved(folder: Path, model: Model) -> Path:
    write_model(folder / "saved", model.spec, model.tensors.items(), model.tokenizer, 64, 0.75)
    return folder / "saved"


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_saved_model_scores_batches_in_transformers(folder: Path, side: str) -> None:
    """What other tools do with the folder: tokenise, pad, read the last token. No answer may depend on the batch."""
    model = opened(folder, PAD)
    where = saved(folder, model)
    theirs = AutoModelForSequenceClassification.from_pretrained(where).eval()
    tokenizer = AutoTokenizer.from_pretrained(where, padding_side=side)
    assert len(tokenizer) == model.spec.vocabulary == theirs.get_input_embeddings().num_embeddings
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = theirs(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).logits.numpy()
    encoded, numbers = model.tokenizer.encode(TEXTS, 64, 0.75), np.arange(len(TEXTS), dtype=np.int32)
    batch = assemble(encoded.take(numbers), numbers, 0 * numbers, exact_shape(encoded.lengths))
    engine = open_engine("torch")
    state = engine.start(model.spec, model.tensors, Recipe(), Placement("fp32", 0))
    found = engine.logits(state, batch)[np.argsort(batch.numbers)]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def test_ids_match_transformers_before_and_after_saving(folder: Path) -> None:
    texts = [*TEXTS, f"{BEGIN} spelt {END} out"]
    model = opened(folder, PAD)
    encoded = model.tokenizer.encode(texts, 1000, 0.75)
    rows = [row.tolist() for row in encoded.take(np.arange(len(texts), dtype=np.int32))]
    assert rows == AutoTokenizer.from_pretrained(saved(folder, model))(texts).input_ids
    assert rows == AutoTokenizer.from_pretrained(folder)([clean(text) for text in texts]).input_ids
    assert {row[0] for row in rows} == {model.tokenizer.special_ids[END] - 1}, "the beginning of a text, once"


def test_cut_documents_keep_their_beginning_token(folder: Path) -> None:
    encoded = opened(folder, PAD).tokenizer.encode([TEXTS[0] * 3], 10, 0.5)
    whole = opened(folder, PAD).tokenizer.encode([TEXTS[0] * 3], 1000, 0.5)
    assert encoded.ids.tolist() == [*whole.ids[:5], *whole.ids[-5:]]


@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_a_text_without_tokens_is_answered_alike_in_any_batch(folder: Path, engine: str) -> None:
    """Where no special token stands around a text, nothing is left of an empty one that could answer for it."""
    changed(folder, "tokenizer.json", post_processor=None)
    classifier = Classifier.open(saved(folder, opened(folder, PAD)), engine, threads=1)
    alone, among = classifier.logits([""]), classifier.logits(["yükseldi", "", "Düşüş"])
    np.testing.assert_allclose(among[1], alone[0], atol=1e-6)
    assert np.abs(among[1] - among[0]).max() > 1e-3


def test_without_a_padding_token_the_error_names_one(folder: Path) -> None:
    with pytest.raises(ModelError, match="names no padding token") as caught:
        opened(folder)
    assert caught.value.fix == f"--set pad_token='{PAD}'"


@pytest.mark.parametrize("token", ["<pad>", "a", BEGIN])
def test_padding_must_be_a_special_token_that_no_text_has(folder: Path, token: str) -> None:
    with pytest.raises(RecipeError, match="pad_token") as caught:
        opened(folder, token)
    assert PAD in str(caught.value.fix)


def test_config_and_tokenizer_may_name_the_padding(folder: Path) -> None:
    pad = opened(folder, PAD).spec.pad_id
    write_tokenizer(folder, pad_token=PAD)
    assert opened(folder).spec.pad_id == pad
    write_tokenizer(folder)
    changed(folder, "config.json", pad_token_id=pad)
    assert opened(folder).tokenizer.roles["pad_token"] == PAD
    assert opened(folder, END).spec.pad_id == pad - 1, "the recipe's goes first"
    changed(folder, "config.json", pad_token_id=-1)
    with pytest.raises(ModelError, match="names no padding token"):
        opened(folder)


def test_a_config_that_pads_with_text_is_refused(folder: Path) -> None:
    changed(folder, "config.json", pad_token_id=0)
    with pytest.raises(ModelError, match="pads with what texts may hold"):
        opened(folder)


def test_a_finished_classifier_needs_no_padding(folder: Path) -> None:
    where = saved(folder, opened(folder, PAD))
    changed(where, "config.json", pad_token_id=None)
    assert open_classifier(where).spec.pad_id == -1


def test_all_ways_to_say_how_positions_turn_mean_the_same() -> None:
    new = {"rope_parameters": {"rope_theta": 500.0, **SCALED}}
    old = {"rope_theta": 500.0, "rope_scaling": SCALED}
    oldest = {"rope_theta": 500.0, "rope_scaling": {"type" if k == "rope_type" else k: x for k, x in SCALED.items()}}
    specs = [read_spec({"model_type": "llama", **SIZES, **config}, LABELS, "x") for config in (new, old, oldest)]
    assert specs[0] == specs[1] == specs[2]
    assert specs[0].rope_scaling is not None


def test_what_is_written_means_the_same_to_transformers() -> None:
    theirs = LlamaConfig(rope_parameters={"rope_theta": 500.0, **SCALED}, head_dim=6, pad_token_id=7, **SIZES)
    written = write_config(read_spec(theirs.to_dict(), LABELS, "config.json"))
    again = LlamaConfig.from_dict(dict(written))
    names = ("rope_parameters", "head_dim", "num_key_value_heads", "rms_norm_eps", "hidden_act", "pad_token_id")
    assert [getattr(again, name) for name in names] == [getattr(theirs, name) for name in names]


def test_another_padding_is_refused_where_a_model_was_trained_with_one(tmp_path: Path) -> None:
    bert = write_model_folder(tmp_path / "bert")
    assert opened(bert, "[PAD]").spec.pad_id == 0
    with pytest.raises(RecipeError, match="trained with another"):
        opened(bert, "[MASK]")
