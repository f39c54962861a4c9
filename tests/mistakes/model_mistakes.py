"""Model folders, names and files that cannot be trained from or used: what a user gave, and what the answer says."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from duygu.models.folder import open_model, write_model
from tests.mistakes.case import Mistake
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
from tests.models.small_models import LABELS, write_model_folder

TRAIN = ("--engine", "torch", "--threads", "1", "--set", "length=16", "--set", "epochs=1", "--set", "precision=fp32")
CONFIG, WEIGHTS, INDEX, JSON = "config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"
PICKLE, VOCABULARY = "pytorch_model.bin", "vocab.txt"


class Bomb:
    """A pickle that runs a command where it is opened."""

    def __reduce__(self):
        return os.system, ("touch exploded",)


def write_texts(folder: Path) -> str:
    """Twenty texts of two labels; their folder's name."""
    for label, word in zip(LABELS, ("düştü", "yükseldi"), strict=True):
        (folder / "texts" / label).mkdir(parents=True)
        for number in range(10):
            path = folder / "texts" / label / f"{number}.txt"
            path.write_text(f"hisse {number * 7919 % 997} puan {word}", encoding="utf-8")
    return "texts"


def train(folder: Path, model: str) -> list[str]:
    return ["train", write_texts(folder), "--model", model, "--out", "run", *TRAIN]


def trained_from(harm: Harm) -> Callable[[Path], list[str]]:
    """Training from a sound model folder after ``harm``."""

    def make(folder: Path) -> list[str]:
        harm(write_model_folder(folder / "model"))
        return train(folder, "model")

    return make


def named(name: str) -> Callable[[Path], list[str]]:
    """Training from a model of this name."""
    return lambda folder: train(folder, name)


def used(harm: Harm) -> Callable[[Path], list[str]]:
    """Predicting with a finished classifier after ``harm``."""

    def make(folder: Path) -> list[str]:
        model = open_model(write_model_folder(folder / "start"), LABELS, 1, list)
        write_model(folder / "model", model.spec, model.tensors.items(), model.tokenizer, 16, 0.75)
        harm(folder / "model")
        return ["predict", "model", "hisse", "--engine", "torch", "--threads", "1"]

    return make


def encoder_only(folder: Path) -> list[str]:
    write_model_folder(folder / "model")
    return ["predict", "model", "hisse", "--engine", "torch", "--threads", "1"]


def settings(**changes: object) -> Harm:
    """Other values in the config of a finished classifier."""

    def harm(folder: Path) -> None:
        path = folder / CONFIG
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")

    return harm


def tokenizer(**changes: object) -> Harm:
    """A ``tokenizer.json`` in place of ``vocab.txt``, sound but for the changes."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": vocabulary}
    content = {"version": "1.0", "added_tokens": [], "model": {**model, "max_input_chars_per_word": 100}, **changes}
    return both(gone(VOCABULARY), text(JSON, json.dumps(content)))


def linked(name: str) -> Harm:
    """The file lies outside the folder and a link leads there."""

    def harm(folder: Path) -> None:
        (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(Path("..", name))

    return harm


def pickled(content: bytes) -> Harm:
    return both(gone(WEIGHTS), text(PICKLE, content))


def numbers(name: str, value: float) -> Harm:
    return weights(lambda tensors: tensors[name].__setitem__((3, 4), value))


def renamed(old: str, new: str) -> Harm:
    return lambda folder: (folder / old).rename(folder / new)


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def replaced_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def first_rows(folder: Path) -> None:
    """A vocabulary of 40 entries over an embedding of 20 rows."""
    config(vocab_size=20)(folder)
    weights(lambda tensors: tensors.update({WORD: tensors[WORD][:20].copy()}))(folder)


def precompiled(charsmap: str) -> Harm:
    return tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap})


def pickle_shard_above(folder: Path) -> None:
    gone(WEIGHTS)(folder)
    text(f"{PICKLE}.index.json", json.dumps({"weight_map": {WORD: f"../{PICKLE}"}}))(folder)


NAMES = [
    ("a preset's name with a slip", named("tinny"), "there is no model folder 'tinny'", "model tinny"),
    ("a folder that is not there", named("models/of/mine"), "there is no model folder 'models/of/mine'", "model"),
    ("an empty name", named(" "), "there is no model folder ' '", "model"),
    ("a name longer than any path", named("m" * 5000), "the model folder cannot be reached", "model"),
    ("the home folder of nobody", named("~nobody-of-this-name/model"), "cannot be reached", "model"),
    ("a hub name with a path in its revision", named("owner/model@../../etc"), "there is no model folder", "model"),
    ("a link to a hub page", named("https://hub.example/owner/model"), "there is no model folder", "model"),
    ("a file in place of the folder", trained_from(replaced_by_file), "a model is a folder", "model"),
    ("an empty folder", trained_from(emptied), "the folder has no config.json", "model"),
]  # fmt: skip
CONFIGS = [
    ("a folder without config.json", trained_from(gone(CONFIG)), "the folder has no config.json", "model"),
    ("an empty config.json", trained_from(text(CONFIG, "")), "not valid JSON", CONFIG),
    ("a config.json that was cut short", trained_from(text(CONFIG, '{"model_type": "be')), "not valid JSON", CONFIG),
    ("a config.json that is a list", trained_from(text(CONFIG, "[]")), "not a JSON object", CONFIG),
    ("a config.json that is a web page", trained_from(text(CONFIG, "<!doctype html>")), "not valid JSON", CONFIG),
    ("a config.json in Latin-5", trained_from(text(CONFIG, '{"a": "ş"}'.encode("iso-8859-9"))), "not UTF-8", CONFIG),
    ("a config.json nested 100,000 deep", trained_from(text(CONFIG, "[" * 100_000)), "not valid JSON", CONFIG),
    ("a number of 5,000 digits", trained_from(text(CONFIG, '{"a": ' + "9" * 5000 + "}")), "not valid JSON", CONFIG),
    ("NaN in config.json", trained_from(text(CONFIG, '{"layer_norm_eps": NaN}')), "NaN is not JSON", CONFIG),
    ("a config.json of 17 MB", trained_from(text(CONFIG, b" " * 17 * 2**20)), "larger than 16,777,216 bytes", CONFIG),
    ("a pipe in place of config.json", trained_from(fifo(CONFIG)), "not a regular file", CONFIG),
    ("no model_type", trained_from(config(model_type="gone")), "config.json has no model_type", CONFIG),
    ("a family that is not known here", trained_from(config(model_type="gpt2")), "'gpt2' is not a known", CONFIG),
    ("heads that do not divide the width", trained_from(config(num_attention_heads=5)),
     "num_attention_heads = 5 does not divide hidden_size = 12", CONFIG),
    ("a width as text", trained_from(config(hidden_size="12")), "hidden_size = '12' is not understood", "hidden_size"),
    ("a width of a billion", trained_from(config(hidden_size=10**9)), "hidden_size = 1000000000", "hidden_size"),
    ("no layers", trained_from(config(num_hidden_layers=0)), "num_hidden_layers = 0", "num_hidden_layers"),
    ("half a layer", trained_from(config(num_hidden_layers=1.5)), "num_hidden_layers = 1.5", "num_hidden_layers"),
    ("true as a number of heads", trained_from(config(num_attention_heads=True)), "= True is", "num_attention_heads"),
    ("a dropout of 1", trained_from(config(hidden_dropout_prob=1)), "hidden_dropout_prob = 1", "hidden_dropout_prob"),
    ("an activation that is not known", trained_from(config(hidden_act="swish")), "hidden_act = 'swish'", "hidden_act"),
    ("padding outside the vocabulary", trained_from(config(pad_token_id=40)), "outside the vocabulary", CONFIG),
    ("relative positions", trained_from(config(position_embedding_type="relative_key")), "changes what the model",
     "position_embedding_type"),
    ("a decoder", trained_from(config(is_decoder=True)), "is_decoder = True", "is_decoder"),
    ("quantised weights", trained_from(config(quantization_config={"bits": 4})), "quantised", "quantization_config"),
    ("a model that wants to run its own code", trained_from(config(auto_map={"AutoModel": "evil.Model"})),
     "code from the model folder, and duygu runs none", "auto_map"),
    ("a model that switches code on", trained_from(config(trust_remote_code=True)), "runs none", "trust_remote_code"),
    ("a model that wants a kernel from the hub", trained_from(config(_attn_implementation_internal="evil/kernel")),
     "runs none", "_attn_implementation_internal"),
    ("a duygu entry of a newer version", trained_from(config(duygu={"length": 9, "head_share": 0.5, "schema": 2})),
     "schema 2, this version reads 1", "duygu"),
    ("a duygu entry that makes no sense", trained_from(config(duygu={"length": "long"})), "not understood", "duygu"),
]  # fmt: skip
TENSORS = [
    ("a folder without weights", trained_from(gone(WEIGHTS)), "the folder has no model.safetensors", "model"),
    ("empty weights", trained_from(raw(lambda content: b"")), "not a sound safetensors file", WEIGHTS),
    ("weights that were cut short", trained_from(raw(lambda content: content[:-1])), "not a sound", WEIGHTS),
    ("weights cut in their header", trained_from(raw(lambda content: content[:50])), "not a sound", WEIGHTS),
    ("weights with bytes too many", trained_from(raw(lambda content: content + b"\0")), "not a sound", WEIGHTS),
    ("a large-file pointer in place of weights", trained_from(raw(lambda content: b"version https://git-lfs.github.com/spec/v1\n")),
     "git-lfs pointer", WEIGHTS),
    ("a header of a terabyte", trained_from(raw(lambda content: (2**40).to_bytes(8, "little") + content[8:])),
     "its header claims 1,099,511,627,776 bytes", WEIGHTS),
    ("a header that is not JSON", trained_from(header(lambda found: "{" + found)), "not a sound", WEIGHTS),
    ("a header with an unknown type", trained_from(header(lambda found: found.replace("F32", "F33", 1))), "F33",
     WEIGHTS),
    ("tensors that overlap", trained_from(header(lambda found: found.replace(
        '[12,12],"data_offsets":[', '[12,12],"data_offsets":[1'))), "not a sound", WEIGHTS),
    ("a pipe in place of weights", trained_from(fifo(WEIGHTS)), "not a regular file", WEIGHTS),
    ("NaN in a weight", trained_from(numbers(QUERY, np.nan)), "1 of the 144 numbers of tensor", QUERY),
    ("infinity in a weight", trained_from(numbers(QUERY, np.inf)), "are NaN or infinite", QUERY),
    ("a tensor that is missing", trained_from(weights(lambda found: found.pop(QUERY))), f"{QUERY}: missing", "model"),
    ("a tensor of another shape", trained_from(weights(lambda found: found.update({NORM: np.ones(11, "f4")}))),
     f"{NORM}: expected (12,), found (11,)", "model"),
    ("weights of integers", trained_from(weights(lambda found: found.update({NORM: np.ones(12, "i1")}))),
     "expected floating-point numbers", "model"),
    ("a tensor stored twice", trained_from(weights(lambda found: found.update(
        {NORM.removeprefix("bert."): found[NORM] + 1}))), "stored twice", "model"),
    ("a tensor of another architecture", trained_from(weights(lambda found: found.update(
        {DISTANCE: np.ones((31, 4), "f4")}))), "has no such tensor", "model"),
    ("weights of a larger model", trained_from(config(num_hidden_layers=1)), "has no such tensor", "model"),
    ("weights of a smaller model", trained_from(config(num_hidden_layers=3)), "layer.2.output.dense.weight: missing",
     "model"),
    ("weights of another vocabulary", trained_from(config(vocab_size=41)), "expected (41, 12), found (40, 12)",
     "model"),
    ("a vocabulary larger than the embedding", trained_from(first_rows),
     "the tokenizer has 34 entries, the word embedding only 20 rows", "model"),
    ("an index that is not JSON", trained_from(both(gone(WEIGHTS), text(INDEX, "{"))), "not valid JSON", INDEX),
    ("an index without its table", trained_from(shards(index={"metadata": {}})), "no weight_map", INDEX),
    ("`..` in a weight map", trained_from(shard_elsewhere("../two.safetensors")), "not a plain .safetensors", INDEX),
    ("an absolute path in a weight map", trained_from(shard_elsewhere("{}/two.safetensors")), "not a plain", INDEX),
    ("a shard in a sub-folder", trained_from(shards({QUERY: "sub/one.safetensors"})), "not a plain", INDEX),
    ("a shard of no name", trained_from(shards({QUERY: ["one.safetensors"]})), "not a plain", INDEX),  # type: ignore
    ("a shard that is missing", trained_from(both(shards(), gone("two.safetensors"))), "cannot be opened",
     "two.safetensors"),
    ("a shard without its tensor", trained_from(shards({WORD: "two.safetensors"})), "do not hold what the index says",
     INDEX),
    ("weights that are a link out of the folder", trained_from(linked(WEIGHTS)), "a link out of the model folder",
     WEIGHTS),
    ("a vocabulary that is a link out of the folder", trained_from(linked(VOCABULARY)), "a link out of", VOCABULARY),
    ("a config.json that is a link out of the folder", trained_from(linked(CONFIG)), "a link out of", CONFIG),
]  # fmt: skip
PICKLES = [
    ("a pickle that runs a command", trained_from(pickled(pickle.dumps(Bomb(), 2))), "the pickle is refused", PICKLE),
    ("weights of Keras", trained_from(both(gone(WEIGHTS), text("model.keras", b"x"))), "only there as model.keras",
     "model"),
    ("weights of TensorFlow", trained_from(renamed(WEIGHTS, "tf_model.h5")), "only there as tf_model.h5", "model"),
    ("a pickle under another name", trained_from(renamed(WEIGHTS, "weights.pkl")), "can run any code in it", "model"),
    ("`..` in the weight map of pickles", trained_from(pickle_shard_above), "not a plain .bin file name",
     f"{PICKLE}.index.json"),
    ("a pipe in place of a pickle", trained_from(both(gone(WEIGHTS), lambda folder: os.mkfifo(folder / PICKLE))),
     "not a regular file", PICKLE),
]  # fmt: skip
TOKENIZERS = [
    ("no tokenizer", trained_from(gone(VOCABULARY)), "no tokenizer that can be read", "model"),
    ("an empty vocabulary", trained_from(text(VOCABULARY, "")), "the vocabulary lacks [UNK], [CLS], [SEP]", VOCABULARY),
    ("a vocabulary in Latin-5", trained_from(text(VOCABULARY, "ş".encode("iso-8859-9"))), "not UTF-8", VOCABULARY),
    ("a vocabulary without [SEP]", trained_from(text(VOCABULARY, "[PAD]\n[UNK]\n[CLS]\na\n")), "lacks [SEP]",
     VOCABULARY),
    ("a tokenizer.json that is cut short", trained_from(text(JSON, '{"model": {')), "not valid JSON", JSON),
    ("a tokenizer.json without a model", trained_from(tokenizer(model=None)), "describes no tokenizer", JSON),
    ("a tokenizer of a type that is not known", trained_from(tokenizer(model={"type": "Morse"})), "broken", JSON),
    ("a tokenizer.json that makes the library panic", trained_from(precompiled("////f2FiY2Q=")), "broken", JSON),
    ("another tokenizer.json that makes it panic", trained_from(tokenizer(pre_tokenizer={
        "type": "FixedLength", "length": 0})), "broken", JSON),
    ("a normaliser that is none", trained_from(tokenizer(normalizer="lower")), "the tokenizer is broken", JSON),
    ("a tokenizer_config.json that is a list", trained_from(text("tokenizer_config.json", "[]")), "not a JSON object",
     "tokenizer_config.json"),
    ("a do_lower_case that is text", trained_from(both(tokenizer(normalizer={
        "type": "BertNormalizer", "clean_text": True, "lowercase": False, "strip_accents": None,
        "handle_chinese_chars": True}), text("tokenizer_config.json",
        '{"tokenizer_class": "BertTokenizer", "do_lower_case": "yes"}'))), "the tokenizer is broken", JSON),
]  # fmt: skip
CLASSIFIERS = [
    ("predicting with an encoder that was not trained", encoder_only, "id2label is missing", "id2label"),
    ("a classifier whose labels have no names", used(settings(id2label=None)), "id2label is missing", "id2label"),
    ("labels with a gap", used(settings(id2label={"0": "a", "2": "b"})), "does not number its labels", "id2label"),
    ("two labels of one name", used(settings(id2label={"0": "a", "1": "a"})), "cannot be told apart", "labels"),
    ("more labels than outputs", used(settings(id2label={"0": "a", "1": "b", "2": "c"})),
     "classifier.weight: expected (3, 12), found (2, 12)", "model"),
    ("a model that names tokens", used(settings(architectures=["BertForTokenClassification"])),
     "is no text classifier", "architectures"),
    ("a model that gives several labels", used(settings(problem_type="multi_label_classification")),
     "does not choose one label", "problem_type"),
    ("a classifier without its weights", used(gone(WEIGHTS)), "no model.safetensors", "model"),
    ("predicting with a folder that is not there", lambda folder: ["predict", "absent", "hisse"],
     "there is no model folder", "absent"),
    ("predicting with a folder of texts", lambda folder: ["predict", write_texts(folder), "hisse"],
     "has no config.json", "texts"),
]  # fmt: skip

MISTAKES: list[Mistake] = [
    Mistake("Models", what, make, says, where)
    for table in (NAMES, CONFIGS, TENSORS, PICKLES, TOKENIZERS, CLASSIFIERS)
    for what, make, says, where in table
]
