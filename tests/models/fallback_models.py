"""The smallest models of families without a twin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from duygu.models.spec import family_of, read_spec, tensor_shapes
from tests.models.small_models import LABELS, WORDS, write_tokenizer

VOCABULARY = 83
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 48, "pad_token_id": 0, "num_labels": 3,
}  # fmt: skip
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
CONFIGS: dict[str, dict[str, Any]] = {
    "convbert": {"embedding_size": 16, "conv_kernel_size": 3},
    "albert": {"embedding_size": 16, "classifier_dropout_prob": 0.1},
    "deberta": DISENTANGLED,
    "deberta-v2": {**DISENTANGLED, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3},
    "mpnet": {},
    "big_bird": {"attention_type": "original_full"},
    "camembert": {},
    "ernie": {},
    "eurobert": {"bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 3},
    "megatron-bert": {},
    "rembert": {"input_embedding_size": 16},
    "roberta-prelayernorm": {},
    "xlm-roberta-xl": {},
    "fnet": {"tpu_short_seq_length": 48},
    "gpt2": {"n_inner": 40},
}


def write_folder(folder: Path, family: str, head: str | None = None) -> Path:
    """A folder of an encoder without head, as the hub has them, with a tokenizer of letters."""
    config = {"model_type": family, **SIZES, **CONFIGS[family], "vocab_size": len(WORDS), "num_labels": 2}
    spec = read_spec(config, LABELS, family)
    random, prefix = np.random.default_rng(0), family_of(spec).prefix
    tensors = {
        name: (random.standard_normal(shape) * 0.1 + ("orm" in name and name.endswith("weight"))).astype(np.float32)
        for name, shape in tensor_shapes(spec).items()
        if name.startswith(prefix)
    }
    folder.mkdir()
    save_file({**tensors, **({head: np.ones((2, 2), np.float32)} if head else {})}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_tokenizer(folder)
    return folder
