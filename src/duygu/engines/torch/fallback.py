"""Sequence classifiers without a twin, computed by transformers; with the interface of `bert.BertClassifier`.

    T  flat tokens of all documents     N  documents of a pass, each of length L     C  width of the word vectors

transformers is imported here and nowhere else. A model is built from its config's numbers by transformers' own classes;
nothing is loaded from the model folder, and ``trust_remote_code`` is not passed. Its dropout is PyTorch's, drawn from a
generator that each forward pass sets from the keys that a twin's masks come from: so a resumed run draws the same.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification
from transformers.utils import logging

from duygu.engines.torch.bert import Layout
from duygu.errors import ModelError
from duygu.models.spec import ModelSpec

# Families whose padding changes no answer: their documents go through in one padded pass. The others (ConvBERT's
# convolution sees what stands beside a document's end) take one pass for each length, without padding.
_MASKED = """
    albert big_bird camembert deberta deberta-v2 ernie eurobert megatron-bert mpnet rembert xlm-roberta-xl
"""
MASKED = frozenset(_MASKED.split())
_HIDDEN = """
    hidden_dropout_prob hidden_dropout dropout dropout_prob resid_pdrop resid_dropout embd_pdrop embedding_dropout
    activation_dropout mlp_dropout classifier_dropout classifier_dropout_prob pooler_dropout cls_dropout
    summary_last_dropout
"""
HIDDEN = tuple(_HIDDEN.split())  # fields of configs that are rates of dropout
ATTENTION = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
UNLIMITED = 2**20  # tokens, where a config knows no longest text
SIZES = {  # fields of ModelSpec, as configs name them
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
}


class FallbackClassifier(nn.Module):
    """Token ids to logits. Its parameters are fp32 and have transformers' names; products are made in ``low``."""

    def __init__(self, spec: ModelSpec, low: torch.dtype = torch.float32) -> None:
        super().__init__()
        assert spec.fallback is not None
        self.spec, self.low = spec, low
        with torch.device("cpu"):  # whatever holds outside: buffers that no checkpoint has are computed here
            self.model = build(spec.fallback.settings, len(spec.labels))
        self.masked = spec.family in MASKED
        self.takes_mask = "attention_mask" in inspect.signature(self.model.forward).parameters

    def named_parameters(self, *args: Any, **options: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Under the names of the checkpoint."""
        return self.model.named_parameters(*args, **options)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Under the names of the checkpoint."""
        return self.model.load_state_dict(state_dict, strict=strict, assign=assign)

    def words(self, layout: Layout) -> Tensor:
        """(T, C) word vectors of the tokens."""
        return self.model.get_input_embeddings()(layout.ids_T)

    def forward(self, words_TC: Tensor, layout: Layout, keys_LST: Tensor | None = None, again: bool = False) -> Tensor:
        """Word vectors (T, C) to logits (D, Y); a run that asks for ``again`` is refused before it begins."""
        assert not again
        self.train(keys_LST is not None)
        low = torch.autocast(words_TC.device.type, self.low, enabled=self.low != torch.float32)
        with seeded(keys_LST), low:
            return torch.cat([self._classify(words_TC, layout, *rows) for rows in passes(layout, self.masked)])

    def _classify(self, words_TC: Tensor, layout: Layout, tokens: slice, documents: slice, length: int) -> Tensor:
        """Logits (N, Y) of the documents of one pass, padded to ``length``."""
        lengths_N = layout.lengths_D[documents]
        rows_T = torch.arange(len(lengths_N), device=lengths_N.device).repeat_interleave(lengths_N)
        places_T = rows_T * length + layout.positions_T[tokens]

        def spread(x_T: Tensor, fill: int) -> Tensor:
            """(T, ...) to (N, L, ...)."""
            room = x_T.new_full((len(lengths_N) * length, *x_T.shape[1:]), fill)
            return room.index_copy(0, places_T, x_T).unflatten(0, (-1, length))

        inputs = {"input_ids": spread(layout.ids_T[tokens], self.spec.pad_id)}
        if self.takes_mask:
            inputs["attention_mask"] = spread(torch.ones_like(places_T), 0)
        with answering(self.model.get_input_embeddings(), spread(words_TC[tokens], 0)):
            return self._ask(inputs)

    def _ask(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What transformers answers; raises `ModelError` where the family takes no such texts (of any length, say)."""
        try:
            return self.model(**inputs).logits.float()
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            documents, length = inputs["input_ids"].shape
            problem = f"transformers cannot compute {documents} texts of {length} tokens: {_first_line(error)}"
            raise ModelError(problem, f"model_type {self.spec.family}", "choose a model of another family") from error


def passes(layout: Layout, masked: bool) -> Iterator[tuple[slice, slice, int]]:
    """Which tokens and documents go through the model together, and the length that they are padded to."""
    if masked:
        yield slice(None), slice(None), max(length for _, length in layout.groups)
        return
    token = document = 0
    for count, length in layout.groups:
        yield slice(token, token + count * length), slice(document, document + count), length
        token, document = token + count * length, document + count


@contextmanager
def answering(embedding: nn.Module, words_NLC: Tensor) -> Iterator[None]:
    """Within, the word embedding answers with these vectors, so that gradients reach them.

    The model still gets ids: many families take positions, or the token to read, from where the padding is.
    """

    def answer(_: nn.Module, __: Any, found: Tensor) -> Tensor:
        more = found[:, words_NLC.shape[1] :]  # what a family pads by itself
        return torch.cat([words_NLC, more], dim=1) if more.shape[1] else words_NLC

    handle = embedding.register_forward_hook(answer)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def seeded(keys_LST: Tensor | None) -> Iterator[None]:
    """Within, PyTorch draws what seed, step and first document of the pass decide; without keys nothing is drawn."""
    if keys_LST is None:
        yield
        return
    device = keys_LST.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(keys_LST[0, 0, 0]) % 2**32)
        yield


def build(config: Mapping[str, Any], labels: int) -> Any:
    """transformers' model with random weights. Raises ValueError for a family that it does not know."""
    name = config["model_type"]
    if name not in CONFIG_MAPPING:
        raise ValueError(f"model_type {name!r} is not a known family, neither here nor in transformers")
    logging.set_verbosity_error()
    settings = CONFIG_MAPPING[name].from_dict({**config, "num_labels": labels})
    if type(settings) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ValueError(f"transformers has no text classifier of model_type {name!r}")
    return AutoModelForSequenceClassification.from_config(settings, dtype=torch.float32)


def describe(config: Mapping[str, Any], labels: int) -> dict[str, Any]:
    """What `duygu.models.fallback` asks: class, names and shapes of the tensors, sizes, fields with rates of dropout.

    Raises ValueError, or whatever transformers does, for a model that cannot be computed here.
    """
    with torch.device("meta"):
        model = build(config, labels)
    shapes = [(name, list(parameter.shape)) for name, parameter in model.named_parameters()]
    others = sorted(model.state_dict().keys() - {name for name, _ in shapes})
    prefix, words = f"{model.base_model_prefix}.", model.get_input_embeddings()
    if others:
        raise ValueError(f"model_type {config['model_type']!r} has tensors that are shared or never learn: {others[0]}")
    if not isinstance(words, nn.Embedding) or not any(name.startswith(prefix) for name, _ in shapes):
        raise ValueError(f"model_type {config['model_type']!r} has no word vectors, or no encoder below its head")
    found = model.config.to_dict()
    return {
        "architecture": type(model).__name__,
        "prefix": prefix,
        "shapes": shapes,
        "sizes": _sizes(model, words),
        "dropout": [name for name in HIDDEN if name in found],
        "attention_dropout": [name for name in ATTENTION if name in found],
    }


def _sizes(model: Any, words: nn.Embedding) -> dict[str, Any]:
    """Sizes by field of ModelSpec; what the config does not say is 1, or for the padding None."""
    config = model.config
    longest = getattr(config, "max_position_embeddings", None) or 0
    return {
        "vocabulary": words.num_embeddings,
        "positions": longest - _first_position(model) if longest > 0 else UNLIMITED,
        "pad_id": getattr(config, "pad_token_id", None),
        "initializer_range": float(getattr(config, "initializer_range", 0.02)),
        **{field: getattr(config, name, None) or 1 for field, name in SIZES.items()},
    }


def _first_position(model: nn.Module) -> int:
    """Rows of the position vectors that serve no text: those up to the padding's, as RoBERTa's kind has them."""
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    rows = [table.padding_idx for table in tables if isinstance(table, nn.Embedding) and table.padding_idx is not None]
    return rows[0] + 1 if rows else 0


def answer(config: str, labels: int) -> dict[str, Any]:
    """`describe`, or ``problem``: one line of why not."""
    try:
        return describe(json.loads(config), labels)
    except Exception as error:  # transformers checks a config in many ways, none of them its own
        first = _first_line(error)
        return {"problem": first if isinstance(error, ValueError) else f"transformers cannot build the model: {first}"}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


if __name__ == "__main__":
    print(json.dumps(answer(sys.stdin.read(), int(sys.argv[1]))))
