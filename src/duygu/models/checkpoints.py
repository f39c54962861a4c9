"""Pretrained models by short names: which model of the hub each is, its shape, its recipe, and why to take it or not.

The shapes are those of the models' own configs, so that ``duygu models`` can say what they need before anything is
fetched; what is trained is always read from the checkpoint itself. Scores of other people's tests are named with
their source and were not measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model of the hub under a name of ours."""

    model: str  # owner/name on the hub
    config: Mapping[str, Any]  # as far as it says the shape
    reason: str  # for it, or against it
    recipe: str = "default"  # name of the recipe preset that suits it
    advised: bool = True
    weights: int = 0  # of a family without a twin, whose shapes only transformers knows
    gated: bool = False  # whether the hub gives it only to those who accepted its terms

    @property
    def access(self) -> str:
        """What to do before it can be fetched; empty where nothing is."""
        terms = f"accept its terms at huggingface.co/{self.model}, then `hf auth login`, or set HF_TOKEN"
        return f"gated: {terms}" if self.gated else ""


def _bert(vocabulary: int, **more: Any) -> Mapping[str, Any]:
    return {"model_type": "bert", "vocab_size": vocabulary, **more}


def _roberta(kind: str, vocabulary: int, **more: Any) -> Mapping[str, Any]:
    own = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    return {"model_type": kind, "vocab_size": vocabulary, **own, **more}


def _modern(vocabulary: int, **more: Any) -> Mapping[str, Any]:
    return {"model_type": "modernbert", "vocab_size": vocabulary, "pad_token_id": 0, **more}


def _qwen(kind: str, hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int) -> Mapping[str, Any]:
    return {
        "model_type": kind, "vocab_size": 151_936, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "intermediate_size": intermediate,
        "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0,
    }  # fmt: skip


def _qwen3(hidden: int, layers: int, heads: int, intermediate: int) -> Mapping[str, Any]:
    return {**_qwen("qwen3", hidden, layers, heads, 8, intermediate), "head_dim": 128}


_ELECTRA = {"embedding_size": 768, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
_LLAMA_8B = {
    "vocab_size": 128_256, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14_336, "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}  # fmt: skip
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}

CHECKPOINTS: Mapping[str, Checkpoint] = {
    "berturk": Checkpoint(
        "dbmdz/bert-base-turkish-cased",
        _bert(32_000),
        "the usual Turkish encoder, and the one to begin with",
    ),
    "berturk-128k": Checkpoint(
        "dbmdz/bert-base-turkish-128k-cased",
        _bert(128_000),
        "fewer pieces per word than berturk; a point better on OffensEval-TR (stefan-it/turkish-bert)",
    ),
    "berturk-uncased": Checkpoint(
        "dbmdz/bert-base-turkish-uncased",
        _bert(32_000),
        "its pre-training texts had lost ç, ğ, ö, ş and ü, so these entries learnt nothing (dbmdz/berts#35)",
        advised=False,
    ),
    "distilberturk": Checkpoint(
        "dbmdz/distilbert-base-turkish-cased",
        {"model_type": "distilbert", "vocab_size": 32_000},
        "half the layers of berturk: for speed, where a few points are worth it",
    ),
    "electra-tr": Checkpoint(
        "dbmdz/electra-base-turkish-cased-discriminator",
        {"model_type": "electra", "vocab_size": 32_000, **_ELECTRA},
        "as large as berturk and a point better on OffensEval-TR (stefan-it/turkish-bert)",
    ),
    "convbert-tr": Checkpoint(
        "dbmdz/convbert-base-turkish-cased",
        {"model_type": "convbert", "vocab_size": 32_000, "max_position_embeddings": 512},
        "as large as berturk, of the same texts; an encoder that also reads by convolution",
        weights=107_407_754,
    ),
    "mbert": Checkpoint(
        "google-bert/bert-base-multilingual-cased",
        _bert(119_547),
        "104 languages in one vocabulary; for Turkish alone berturk is smaller and reads it in fewer pieces",
    ),
    "xlm-r-base": Checkpoint(
        "FacebookAI/xlm-roberta-base",
        _roberta("xlm-roberta", 250_002),
        "100 languages; collapses at the rates that suit BERT, so it has a recipe of its own",
        recipe="large",
    ),
    "xlm-r-large": Checkpoint(
        "FacebookAI/xlm-roberta-large",
        _roberta("xlm-roberta", 250_002, **_LARGE),
        "100 languages, the strongest of them here; wants a GPU",
        recipe="large",
    ),
    "sindbert-large": Checkpoint(
        "SindBERT/SindBERT_large",
        _roberta("roberta", 52_009, **_LARGE),
        "Turkish RoBERTa; its authors found no steady gain from its size (arXiv:2510.21364); wants a GPU",
        recipe="large",
    ),
    "tabibert": Checkpoint(
        "boun-tabilab/TabiBERT",
        _modern(50_176),
        "Turkish ModernBERT for long texts; 1.6 points over berturk on its authors' TabiBench (arXiv:2512.23065)",
        recipe="modernbert",
    ),
    "modernbert-tr": Checkpoint(
        "ytu-ce-cosmos/modernbert-tr-base-1k",
        _modern(50_176, max_position_embeddings=1024),
        "Turkish ModernBERT; by its authors' account the better of the two at classifying texts",
        recipe="modernbert",
    ),
    "mmbert": Checkpoint(
        "jhu-clsp/mmBERT-base",
        _modern(256_000, local_rope_theta=160_000.0),
        "ModernBERT for 1,800 languages and long texts; two thirds of its weights are its vocabulary",
        recipe="modernbert",
    ),
    "qwen2.5-0.5b": Checkpoint(
        "Qwen/Qwen2.5-0.5B",
        _qwen("qwen2", 896, 24, 14, 2, 4864),
        "the smallest decoder here; Apache 2.0; of its 29 languages its authors name 13, Turkish not among them; its "
        "Turkish was not measured here",
        recipe="lora",
    ),
    "qwen3-0.6b": Checkpoint(
        "Qwen/Qwen3-0.6B-Base",
        _qwen3(1024, 28, 16, 3072),
        "the decoder to begin with: 119 languages by its authors' account; a quarter of its weights are its "
        "vocabulary; Apache 2.0; its Turkish was not measured here",
        recipe="lora",
    ),
    "qwen3-1.7b": Checkpoint(
        "Qwen/Qwen3-1.7B-Base",
        _qwen3(2048, 28, 16, 6144),
        "as qwen3-0.6b, three times as large; Apache 2.0; wants a GPU; its Turkish was not measured here",
        recipe="lora",
    ),
    "qwen3-4b": Checkpoint(
        "Qwen/Qwen3-4B-Base",
        _qwen3(2560, 36, 32, 9728),
        "as qwen3-0.6b, seven times as large, so in 4 bits; Apache 2.0; wants a GPU; its Turkish was not measured here",
        recipe="lora-4bit",
    ),
    "qwen3-8b": Checkpoint(
        "Qwen/Qwen3-8B-Base",
        _qwen3(4096, 36, 32, 12_288),
        "the largest Qwen here, in 4 bits; Apache 2.0; wants a GPU; its Turkish was not measured here",
        recipe="lora-4bit",
    ),
    "llama-3.1-8b": Checkpoint(
        "meta-llama/Llama-3.1-8B",
        {"model_type": "llama", **_LLAMA_8B},
        "seventy times the weights of berturk, and Turkish is none of its eight languages; reads long texts; in 4 bits "
        "for a GPU of 16 GB; Llama 3.1 Community License",
        recipe="llama-4bit",
        gated=True,
    ),
}


def repository(name: str) -> str:
    """The model of the hub that a short name stands for; any other name as it is."""
    return CHECKPOINTS[name].model if name in CHECKPOINTS else name


def access(name: str) -> str:
    """What to do before a model can be fetched, by its short name or the hub's; empty where nothing is known of it."""
    model = repository(name).partition("@")[0]
    return next((found.access for found in CHECKPOINTS.values() if found.model == model), "")
