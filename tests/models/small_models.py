"""The smallest sound model that the tests of this wing build on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from duygu.models.spec import read_spec, tensor_shapes

SIZES = {
    "vocab_size": 40,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
}
LABELS = ("düşüş", "yükseliş")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcçdefgğhıijklmnoöprsştuüvyz"]


def write_tokenizer(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    settings = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_model_folder(folder: Path, **sizes: int) -> Path:
    """A sound folder of an encoder without head: config.json, model.safetensors, vocab.txt."""
    folder.mkdir()
    config = {"model_type": "bert", **SIZES, **sizes}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    generator = np.random.default_rng(0)
    shapes = tensor_shapes(read_spec(config, LABELS, "config.json"))
    tensors = {
        name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items() if name.startswith("bert.")
    }
    save_file(tensors, folder / "model.safetensors")
    write_tokenizer(folder)
    return folder
