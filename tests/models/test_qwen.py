"""What is Qwen's own in configs and tokenizers; transformers is the oracle.

Of a folder whose config is Qwen2's ``AutoTokenizer`` makes a ``Qwen2Tokenizer``, whatever the folder names, and that
class leaves out the cleaning which stands in ``tokenizer.json``; ``PreTrainedTokenizerFast`` reads all of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import LABELS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

from duygu.data.corpus import clean
from duygu.engines import Placement, open_engine
from duygu.errors import ModelError
from duygu.models.folder import Model, open_model, write_model
from duygu.models.spec import parameters, read_spec, unknown_keys
from duygu.recipe import Recipe
from duygu.training.plan import assemble, exact_shape

END, TURN = "<|endoftext|>", "<|im_end|>"  # what pads, and a special token beside it
COMMON = {
    "attention_dropout": 0.0, "bos_token_id": 151_643, "hidden_act": "silu", "initializer_range": 0.02,
    "rms_norm_eps": 1e-06, "rope_theta": 1_000_000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "use_cache": True, "use_sliding_window": False, "vocab_size": 151_936,
}  # fmt: skip
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {  # configs as they are on the hub, and weights without a head
    "Qwen/Qwen2.5-0.5B": ({
        **COMMON, "architectures": ["Qwen2ForCausalLM"], "eos_token_id": 151_643, "hidden_size": 896,
        "intermediate_size": 4864, "max_position_embeddings": 32_768, "max_window_layers": 24, "model_type": "qwen2",
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "sliding_window": 32_768,
        "transformers_version": "4.40.1", "use_mrope": False,
    }, 494_032_768),
    "Qwen/Qwen3-0.6B": ({
        **COMMON, "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "eos_token_id": 151_645,
        "head_dim": 128, "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40_960,
        "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
        "num_key_value_heads": 8, "rope_scaling": None, "sliding_window": None, "transformers_version": "4.51.0",
    }, 596_049_920),
}  # fmt: skip
TEXTS = [
    "Hisseler yükseldi, kâr arttı.", "Du\u0308s\u0327u\u0308s\u0327", "zarar  açıkladı\n\n2024'te",
    "it's\r\n İŞ 😀 ığdır", f"{TURN} spelt {END} out",
]  # fmt: skip
SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
    "intermediate_size": 24, "max_position_embeddings": 128, "initializer_range": 0.3,
}  # fmt: skip


def write_tokenizer(folder: Path, **roles: str) -> int:
    """As transformers writes a Qwen tokenizer, trained on a few texts. Returns its entries."""
    scratch = Tokenizer(models.BPE())
    scratch.normalizer, scratch.pre_tokenizer = normalizers.NFC(), pre_tokenizers.ByteLevel(False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    scratch.train_from_iterator(TEXTS, trainer)
    scratch.model.save(str(folder))
    own: Any = Qwen2Tokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), **roles)
    own.add_special_tokens({"additional_special_tokens": [TURN]})
    own.save_pretrained(folder)
    return len(own)


@pytest.fixture(scope="module", params=["qwen2", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small language model, whose config names no padding token; more rows than its tokenizer has entries."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp(request.param)
    config = AutoConfig.for_model(request.param, vocab_size=write_tokenizer(path) + 5, **SIZES)
    model: Any = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(path)
    return path


def saved(model: Model, where: Path) -> Path:
    write_model(where, model.spec, model.tensors.items(), model.tokenizer, 64, 0.75)
    return where


def answers(model: Model, texts: list[str]) -> np.ndarray:
    """(texts, labels) logits."""
    encoded, numbers = model.tokenizer.encode(texts, 64, 0.75), np.arange(len(texts), dtype=np.int32)
    batch = assemble(encoded.take(numbers), numbers, 0 * numbers, exact_shape(encoded.lengths))
    engine = open_engine("torch")
    state = engine.start(model.spec, model.tensors, Recipe(), Placement("fp32", 0))
    return engine.logits(state, batch)[np.argsort(batch.numbers)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_give_the_published_numbers_of_parameters(name: str) -> None:
    config, weights = PUBLISHED[name]
    spec = read_spec(config, LABELS, name)
    assert unknown_keys(config) == ()
    assert parameters(spec) - len(LABELS) * spec.hidden == weights
    assert (spec.theta, spec.norm_eps, spec.head_dim) == (1e6, 1e-6, config.get("head_dim", 64))
    assert (spec.biased, spec.head_norms) == (config["model_type"] == "qwen2", config["model_type"] == "qwen3")


def test_biases_of_qwen2_are_there_whatever_its_config_says() -> None:
    """As in transformers, which does not ask."""
    config = PUBLISHED["Qwen/Qwen2.5-0.5B"][0]
    specs = [read_spec({**config, "attention_bias": says}, LABELS, "config.json") for says in (True, False, None)]
    assert specs[0] == specs[1] == specs[2]
    assert specs[0].biased


def test_a_window_that_is_used_is_refused_by_name() -> None:
    config = {**PUBLISHED["Qwen/Qwen2.5-0.5B"][0], "use_sliding_window": True}
    with pytest.raises(ModelError, match="sliding_window = 32768: this changes what the model computes"):
        read_spec(config, LABELS, "config.json")


def test_ids_match_transformers_before_and_after_saving(folder: Path, tmp_path: Path) -> None:
    model = open_model(folder, LABELS, 5, list)
    encoded = model.tokenizer.encode(TEXTS, 1000, 0.75)
    rows = [row.tolist() for row in encoded.take(np.arange(len(TEXTS), dtype=np.int32))]
    cleaned = [clean(text) for text in TEXTS]
    assert rows == AutoTokenizer.from_pretrained(folder)(cleaned).input_ids
    assert rows == AutoTokenizer.from_pretrained(saved(model, tmp_path / "saved"))(cleaned).input_ids
    assert rows == PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")(TEXTS).input_ids


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_saved_model_scores_batches_in_transformers(folder: Path, side: str, tmp_path: Path) -> None:
    """What other tools do with the folder; the tokenizer names the padding token that the config does not."""
    model = open_model(folder, LABELS, 5, list)
    assert model.tokenizer.token(model.spec.pad_id) == END
    theirs = AutoModelForSequenceClassification.from_pretrained(saved(model, tmp_path / "saved")).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved", padding_side=side)
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = theirs(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).logits.numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(answers(model, TEXTS), expected, atol=1e-5, rtol=0)


def test_an_empty_text_is_read_as_padding_alone(folder: Path, tmp_path: Path) -> None:
    """No special token stands around a text, so nothing would be left to answer for it."""
    model = open_model(folder, LABELS, 5, list)
    theirs = AutoModelForSequenceClassification.from_pretrained(saved(model, tmp_path / "saved")).eval()
    with torch.inference_mode():
        expected = theirs(torch.tensor([[model.spec.pad_id]])).logits.numpy()
    found = answers(model, [TEXTS[0], "", TEXTS[2], "\u200b"])
    np.testing.assert_allclose(found[[1, 3]], np.repeat(expected, 2, axis=0), atol=1e-5, rtol=0)


def test_the_recipe_may_name_another_padding(folder: Path) -> None:
    model = open_model(folder, LABELS, 5, list, pad_token=TURN)
    assert model.tokenizer.token(model.spec.pad_id) == TURN == model.tokenizer.roles["pad_token"]
