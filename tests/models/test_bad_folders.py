"""Folders that must not open: each ends in a `ModelError` that names the culprit, the place and the way out."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest
from small_models import LABELS

from duygu.errors import ModelError
from duygu.models.folder import open_classifier, open_model, write_model
from tests.models.harms import (
    DISTANCE,
    NORM,
    QUERY,
    WORD,
    Harm,
    both,
    config,
    fifo,
    gone,
    header,
    raw,
    shard_elsewhere,
    shards,
    text,
    weights,
)

CASES: dict[str, tuple[Harm, str]] = {
    "folder missing": (shutil.rmtree, "handmade"),
    "folder is a file": (lambda folder: [shutil.rmtree(folder), folder.write_text("")], "file"),
    "config missing": (gone("config.json"), "config.json"),
    "config empty": (text("config.json", ""), "config.json"),
    "config cut": (text("config.json", '{"model_type": "be'), "config.json"),
    "config a list": (text("config.json", "[]"), "config.json"),
    "config not UTF-8": (text("config.json", b'{"model_type": "\xff"}'), "config.json"),
    "config nested deeply": (text("config.json", "[" * 100_000), "config.json"),
    "config with a huge number": (text("config.json", '{"hidden_size": ' + "9" * 5000 + "}"), "config.json"),
    "config with NaN": (text("config.json", '{"model_type": "bert", "layer_norm_eps": NaN}'), "NaN"),
    "config too large": (text("config.json", b" " * (16 * 2**20 + 1)), "config.json"),
    "config a folder": (both(gone("config.json"), lambda folder: (folder / "config.json").mkdir()), "config.json"),
    "config a pipe": (fifo("config.json"), "config.json"),
    "family missing": (config(model_type="gone"), "model_type"),
    "family unknown": (config(model_type="gpt2"), "'gpt2'"),
    "hidden immense": (config(hidden_size=10**9), "hidden_size"),
    "hidden at the limit": (config(hidden_size=2**16, num_attention_heads=1), "(40, 65536)"),
    "vocabulary immense": (config(vocab_size=2**24), "(16777216, 12)"),
    "heads do not divide": (config(num_attention_heads=5), "num_attention_heads"),
    "vocabulary other than the rows": (config(vocab_size=41), WORD),
    "tokenizer larger than the embedding": (
        both(config(vocab_size=20), weights(lambda t: t.update({WORD: t[WORD][:20].copy()}))),
        "tokenizer",
    ),
    "more layers than the weights": (config(num_hidden_layers=3), "bert.encoder.layer.2.output.dense.weight: missing"),
    "fewer layers than the weights": (config(num_hidden_layers=1), QUERY),
    "activation unknown": (config(hidden_act="gelu_10"), "gelu_10"),
    "relative positions": (config(position_embedding_type="relative_key"), "position_embedding_type"),
    "a decoder": (config(is_decoder=True), "is_decoder"),
    "cross attention": (config(add_cross_attention=True), "add_cross_attention"),
    "quantised config": (config(quantization_config={"bits": 4}), "quantization_config"),
    "auto_map": (config(auto_map={"AutoModel": "evil.Model"}), "auto_map"),
    "trust_remote_code": (config(trust_remote_code=True), "trust_remote_code"),
    "attention kernel": (config(_attn_implementation_internal="evil/kernel"), "_attn_implementation_internal"),
    "pipeline of its own": (config(custom_pipelines={"evil": {}}), "custom_pipelines"),
    "duygu entry unreadable": (config(duygu={"length": "long"}), "duygu"),
    "duygu entry newer": (config(duygu={"length": 9, "head_share": 0.5, "schema": 2}), "schema 2"),
    "weights missing": (gone("model.safetensors"), "model.safetensors"),
    "weights only as pickle": (both(gone("model.safetensors"), text("pytorch_model.bin", b"x")), "pytorch_model.bin"),
    "weights empty": (raw(lambda content: b""), "model.safetensors"),
    "weights cut": (raw(lambda content: content[:-1]), "model.safetensors"),
    "weights cut in the header": (raw(lambda content: content[:50]), "model.safetensors"),
    "weights too long": (raw(lambda content: content + b"\0"), "model.safetensors"),
    "weights a pickle": (raw(lambda content: pickle.dumps({"a": 1})), "model.safetensors"),
    "weights a pipe": (fifo("model.safetensors"), "model.safetensors"),
    "weights a device": (
        both(gone("model.safetensors"), lambda folder: (folder / "model.safetensors").symlink_to("/dev/zero")),
        "model.safetensors",
    ),
    "header too long": (raw(lambda content: (2**40).to_bytes(8, "little") + content[8:]), "header"),
    "header not JSON": (header(lambda header: "{" + header), "model.safetensors"),
    "header overlapping": (
        header(lambda header: header.replace('[12,12],"data_offsets":[', '[12,12],"data_offsets":[1')),
        "model.safetensors",
    ),
    "header with an unknown type": (header(lambda header: header.replace("F32", "F33", 1)), "model.safetensors"),
    "header with another shape": (header(lambda header: header.replace("[40,12]", "[12,40]")), WORD),
    "tensor missing": (weights(lambda t: t.pop(QUERY)), QUERY),
    "half a pooler": (weights(lambda t: t.pop("bert.pooler.dense.bias")), "bert.pooler.dense.bias: missing"),
    "tensor misshapen": (
        weights(lambda t: t.update({NORM: np.ones(11, "f4")})),
        f"{NORM}: expected (12,), found (11,)",
    ),
    "tensor of integers": (weights(lambda t: t.update({NORM: np.ones(12, "i1")})), NORM),
    "tensor twice": (weights(lambda t: t.update({NORM.removeprefix("bert."): t[NORM] + 1})), NORM),
    "tensor of another mathematics": (
        weights(lambda t: t.update({DISTANCE: np.ones((31, 4), "f4")})),
        "distance_embedding",
    ),
    "tensor with NaN": (weights(lambda t: t[QUERY].__setitem__((3, 4), np.nan)), QUERY),
    "tensor with infinity": (weights(lambda t: t[QUERY].__setitem__((3, 4), -np.inf)), QUERY),
    "index not JSON": (both(gone("model.safetensors"), text("model.safetensors.index.json", "{")), "index.json"),
    "index without map": (shards(index={"metadata": {}}), "weight_map"),
    "index with an empty map": (shards(index={"weight_map": {}}), "weight_map"),
    "shard above the folder": (shard_elsewhere("../two.safetensors"), "'../two.safetensors' is not a plain"),
    "shard at an absolute path": (shard_elsewhere("{}/two.safetensors"), "is not a plain .safetensors file name"),
    "shard in a subfolder": (shards({QUERY: "sub\\one.safetensors"}), "sub"),
    "shard that is no safetensors": (shards({QUERY: "one.bin"}), "one.bin"),
    "shard of no name": (shards({QUERY: ["one.safetensors"]}), "one.safetensors"),  # type: ignore[dict-item]
    "shard missing": (both(shards(), gone("two.safetensors")), "two.safetensors"),
    "shard without its tensor": (shards({QUERY: "one.safetensors", WORD: "two.safetensors"}), "bert."),
    "tensor only in the index": (shards({"bert.ghost": "one.safetensors"}), "bert.ghost"),
    "tensor in two shards": (
        both(shards(), lambda folder: shutil.copy(folder / "one.safetensors", folder / "two.safetensors")),
        "bert.",
    ),
}


@pytest.mark.parametrize(("harm", "culprit"), CASES.values(), ids=CASES)
def test_bad_folder_is_a_model_error(handmade, harm, culprit):
    harm(handmade)
    with pytest.raises(ModelError) as caught:
        dict(open_model(handmade, LABELS, 1, list).tensors)
    error = caught.value
    assert error.problem
    assert error.where
    assert error.fix
    assert culprit in str(error)


@pytest.mark.parametrize(
    "case", ["hidden immense", "hidden at the limit", "header too long", "more layers than the weights"]
)
def test_sizes_are_checked_before_anything_is_allocated(handmade, case):
    CASES[case][0](handmade)
    tracemalloc.start()
    with pytest.raises(ModelError):
        open_model(handmade, LABELS, 1, list)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 * 2**20


def test_the_folder_that_is_harmed_is_sound(handmade):
    whole = dict(open_model(handmade, LABELS, 1, list).tensors)
    shards()(handmade)
    assert dict(open_model(handmade, LABELS, 1, list).tensors).keys() == whole.keys()


CLASSIFIERS: dict[str, tuple[dict[str, object], str]] = {
    "no labels": ({"id2label": None}, "id2label"),
    "labels of a gap": ({"id2label": {"0": "a", "2": "b"}}, "id2label"),
    "labels not numbered": ({"id2label": {"a": "b", "c": "d"}}, "id2label"),
    "labels a list": ({"id2label": ["a", "b"]}, "id2label"),
    "labels equal": ({"id2label": {"0": "a", "1": "a"}}, "labels"),
    "labels not text": ({"id2label": {"0": 1, "1": 2}}, "labels"),
    "more labels than outputs": ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "classifier.weight: expected (3, 12)"),
    "tokens classified": ({"architectures": ["BertForTokenClassification"]}, "BertForTokenClassification"),
    "architectures not a list": ({"architectures": "BertModel"}, "BertModel"),
    "several labels a text": ({"problem_type": "multi_label_classification"}, "multi_label_classification"),
}


@pytest.mark.parametrize(("changes", "culprit"), CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_bad_classifier_is_a_model_error(handmade, tmp_path, changes, culprit):
    model = open_model(handmade, LABELS, 1, list)
    out = tmp_path / "out"
    write_model(out, model.spec, model.tensors.items(), model.tokenizer, 16, 0.75)
    path = out / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelError) as caught:
        open_classifier(out)
    assert culprit in str(caught.value)
    assert caught.value.where
    assert caught.value.fix


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("dbmdz/bert-base-turkish-cased", "unset HF_HUB_OFFLINE"),
        ("tinny", "tiny"),
        ("no/such/folder", "preset"),
        ("a" * 9999, "preset"),
        ("~nobody-of-this-name/model", "preset"),
    ],
)
def test_source_that_is_no_folder_gets_a_hint(source, hint):
    with pytest.raises(ModelError) as caught:
        open_model(source, LABELS, 1, list)
    assert hint in caught.value.fix


def test_opening_executes_unpickles_and_imports_nothing_of_the_folder(handmade):
    """The oracle is the interpreter's own audit of the whole process."""

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {handmade / 'exploded'}",)

    for name in ("pytorch_model.bin", "training_args.pt", "tokenizer.pkl", "optimizer.ckpt"):
        (handmade / name).write_bytes(pickle.dumps(Bomb()))
    for name in ("modeling_bert.py", "tokenization.py", "__init__.py", "json.py", "safetensors.py"):
        (handmade / name).write_text(f"open({str(handmade / 'exploded')!r}, 'w')")
    program = f"""
        import json, sys
        import duygu.models.folder as wing
        folder, seen = {str(handmade)!r}, []
        def audit(event, arguments):
            inside = folder in str(arguments[:2])
            if event == "open" and inside:
                seen.append((event, str(arguments[0]).rpartition("/")[2], str(arguments[1])))
            elif event in {{"pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "socket.connect"}}:
                seen.append((event, str(arguments)))
            elif event in {{"import", "exec", "compile"}} and inside:
                seen.append((event, str(arguments)))
        sys.addaudithook(audit)
        dict(wing.open_model(folder, ("a", "b"), 1, list).tensors)
        print(json.dumps([seen, [name for name in ("torch", "jax", "transformers") if name in sys.modules]]))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    output = subprocess.run(command, cwd=handmade.parent, capture_output=True, text=True, check=True).stdout
    seen, frameworks = json.loads(output)
    assert frameworks == []
    assert not (handmade / "exploded").exists()
    opened = {name for event, name, *_ in seen if event == "open"}
    assert {"config.json", "model.safetensors"} <= opened
    assert opened <= {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "tokenizer.json",
                      "special_tokens_map.json", "added_tokens.json"}  # fmt: skip
    assert {mode for event, _, *modes in seen if event == "open" for mode in modes} <= {"r", "rb"}
    assert [event for event, *_ in seen if event != "open"] == []
