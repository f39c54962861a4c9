"""Models of families without a twin that cannot be trained, used or compared as a user asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from duygu.models.folder import open_model, write_model
from tests.mistakes.case import Mistake
from tests.mistakes.model_mistakes import CONFIG, TRAIN, settings, write_texts
from tests.models.fallback_models import write_folder
from tests.models.harms import Harm
from tests.models.small_models import LABELS

TOKENIZER = "tokenizer_config.json"
TWINS = "a model of a family that both engines compute: bert"


def sound(folder: Path) -> None:
    """Nothing is wrong with the folder."""


def trained(harm: Harm, *options: str, engine: str = "torch", family: str = "convbert") -> Callable[[Path], list[str]]:
    """Training from a sound folder of the family after ``harm``."""

    def make(folder: Path) -> list[str]:
        harm(write_folder(folder / "model", family))
        return [
            "train",
            write_texts(folder),
            "--model",
            "model",
            "--out",
            "run",
            "--engine",
            engine,
            *TRAIN[2:],
            *options,
        ]

    return make


def compared(folder: Path) -> list[str]:
    write_folder(folder / "model", "convbert")
    return ["compare", write_texts(folder), "--model", "model", "--engines", "torch,jax", "--out", "comparison"]


def proved(folder: Path) -> list[str]:
    write_folder(folder / "model", "convbert")
    return ["parity", "model", write_texts(folder)]


def asked(folder: Path) -> list[str]:
    """A finished classifier, asked in JAX."""
    model = open_model(write_folder(folder / "start", "convbert"), LABELS, 1, list)
    write_model(folder / "model", model.spec, model.tensors.items(), model.tokenizer, 16, 0.75)
    return ["predict", "model", "hisse", "--engine", "jax", "--threads", "1"]


def code_for_tokens(folder: Path) -> None:
    path = folder / TOKENIZER
    own = {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **own}), encoding="utf-8")


CASES = [
    ("ConvBERT in JAX", trained(sound, engine="jax"), "has no twin here, so jax cannot compute it", "model_type"),
    ("ConvBERT compared in both engines", compared, "has no twin here, so jax cannot compute it", "model_type"),
    ("proof of ConvBERT in both engines", proved, "has no twin here, so jax cannot compute it", "model_type"),
    ("a finished ConvBERT asked in JAX", asked, TWINS, "model_type"),
    ("ConvBERT with code of its own", trained(settings(auto_map={"AutoModel": "evil.Model"})),
     "code from the model folder, and duygu runs none", "auto_map"),
    ("ConvBERT that switches code on", trained(settings(trust_remote_code=True)), "runs none", "trust_remote_code"),
    ("a kernel from the hub, deep in a config", trained(settings(inner=[{"attn_implementation": "evil/kernel"}])),
     "runs none", "attn_implementation"),
    ("a tokenizer with code of its own", trained(code_for_tokens), "the tokenizer asks for code", TOKENIZER),
    ("quantised weights of ConvBERT", trained(settings(quantization_config={"bits": 4})), "quantised",
     "quantization_config"),
    ("an encoder with a decoder", trained(settings(model_type="bart", is_encoder_decoder=True)),
     "models of one stack", "is_encoder_decoder"),
    ("a model of pictures", trained(settings(model_type="vit")), "has no text classifier of model_type 'vit'", CONFIG),
    ("a decoder that knows no padding", trained(settings(model_type="gpt2", pad_token_id=None)),
     "config.json has no pad_token_id", "pad_token_id"),
    ("weights of another size", trained(settings(num_hidden_layers=1)), "has no such tensor", "model"),
    ("fresh layers of ConvBERT", trained(sound, "--set", "fresh_layers=1"), "known of twins only", "fresh_layers"),
    ("rates by layer where layers have no numbers", trained(sound, "--set", "layer_decay=0.9", family="albert"),
     "number no layers", "layer_decay"),
    ("dropout where a config has none", trained(sound, "--set", "dropout=0.1", family="eurobert"),
     "the config of eurobert has no field for it", "dropout"),
]  # fmt: skip

MISTAKES: list[Mistake] = [
    Mistake("Models without a twin", what, make, says, where) for what, make, says, where in CASES
]
