"""Four small encoders from scratch, one of each family, as model folders that `duygu compare` crosses with the engines.

    python benchmarks/cross.py ../shared/data/bist --split ../shared/data/bist_split.json --out models
    duygu compare ../shared/data/bist --split ../shared/data/bist_split.json --recipe tiny \\
        --model models/bert-small,models/roberta-small,models/distilbert-small,models/modernbert-small \\
        --engines torch,jax --seeds 13,42,87 --no-texts --out cross

All have random weights of one seed, four layers of width 128 (their usual arithmetic otherwise) and one cased WordPiece
tokenizer of 4,000 entries, which is trained on the training part alone, as that of ``tiny`` is. So what differs between
them is the family; none of them has read a text before, which is why they need the recipe of ``tiny``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duygu.data.corpus import read_corpus
from duygu.data.duplicates import duplicate_groups
from duygu.data.split import make_split, read_split
from duygu.data.tokens import TextTokenizer
from duygu.files import write_text
from duygu.models.families import FAMILIES
from duygu.models.spec import read_spec, tensor_shapes
from duygu.models.weights import initialise, write_safetensors

LAYERS, WIDTH, HEADS, POSITIONS, VOCABULARY, SEED = 4, 128, 4, 512, 4000, 13
SIZES = {"num_hidden_layers": LAYERS, "hidden_size": WIDTH, "num_attention_heads": HEADS}
CONFIGS: Mapping[str, Mapping[str, Any]] = {  # what each family's config says besides vocabulary, padding and positions
    "bert": {**SIZES, "intermediate_size": 4 * WIDTH},
    "roberta": {**SIZES, "intermediate_size": 4 * WIDTH, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "distilbert": {"n_layers": LAYERS, "dim": WIDTH, "n_heads": HEADS, "hidden_dim": 4 * WIDTH},
    "modernbert": {**SIZES, "intermediate_size": 3 * WIDTH // 2, "classifier_pooling": "mean"},
}
LABELS = ("a", "b")  # of a head that is not written: a training draws its own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the texts that the tokenizer is trained on")
    parser.add_argument("--split", help="a saved split, of which the training part counts; else that of seed 0")
    parser.add_argument("--out", type=Path, default=Path("models"))
    options = parser.parse_args()
    tokenizer = TextTokenizer.train(training_texts(options.data, options.split), VOCABULARY)
    for family in CONFIGS:
        folder = options.out / f"{family}-small"
        weights = write_encoder(folder, family, tokenizer)
        print(f"{folder}: {weights:,} weights, {tokenizer.vocabulary} entries")


def training_texts(data: str, saved: str | None) -> list[str]:
    """The texts that `duygu train` would learn from."""
    corpus = read_corpus(data)
    groups = duplicate_groups(corpus.texts)
    split = (
        read_split(saved, corpus.ids, corpus.labels, groups, 0, corpus.digest)
        if saved
        else make_split(corpus.labels, groups, corpus.ids, 0, where=corpus.root)
    )
    return [corpus.texts[number] for number in split.train]


def write_encoder(folder: Path, family: str, tokenizer: TextTokenizer) -> int:
    """Write a model folder without a head, every weight drawn as a training draws those of a fresh layer; their number.

    Position vectors of RoBERTa's kind begin after the padding's, so their table has a row more.
    """
    room = POSITIONS + 1 + tokenizer.pad_id if family == "roberta" else POSITIONS
    own = {"vocab_size": tokenizer.vocabulary, "pad_token_id": tokenizer.pad_id, "max_position_embeddings": room}
    config = {"model_type": family, **own, **CONFIGS[family]}
    spec = read_spec(config, LABELS, family)
    shapes = {name: shape for name, shape in tensor_shapes(spec).items() if name not in FAMILIES[family].head}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = ((name, initialise(name, shape, spec, SEED)) for name, shape in shapes.items())
    write_safetensors(folder / "model.safetensors", shapes, tensors)
    tokenizer.save(folder, POSITIONS)
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    return sum(initialise(name, shape, spec, SEED).size for name, shape in shapes.items())


if __name__ == "__main__":
    main()
