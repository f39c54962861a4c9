"""ModernBERT's config and tensors. Warner et al. (2024), arXiv:2412.13663.

Configs that transformers 5 wrote name each layer's kind and each kind's rotary positions; older ones, and those written
here, say the same in three numbers, which every version of transformers reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from duygu.errors import ModelError
from duygu.models.keys import MATHEMATICS, Key, Switches, activation, choice, epsilon, integer, number, rate, short

if TYPE_CHECKING:
    from duygu.models.spec import ModelSpec

EVERY, THETA, LOCAL_THETA = "global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"
KINDS = {"full_attention": THETA, "sliding_attention": LOCAL_THETA}


def _window(name: str) -> Key:
    """Half of the width that a config says, to either side."""
    both = integer(name, 128, 2**20, low=2)
    return Key(name, 64, both.wanted, lambda value: int(both.parse(value)) // 2, lambda half: 2 * half)


def _theta(name: str, default: float) -> Key:
    return number(name, default, "a number of at least 1", lambda value: 1 <= value < 1e12)


KEYS: dict[str, Key] = {
    "activation": activation("hidden_activation"),
    "norm_eps": epsilon("norm_eps", 1e-5),
    "dropout": rate("mlp_dropout", 0.0),
    "attention_dropout": rate("attention_dropout", 0.0),
    "embedding_dropout": rate("embedding_dropout", 0.0),
    "classifier_dropout": rate("classifier_dropout", 0.0),
    "head_activation": activation("classifier_activation"),
    "pooling": choice("classifier_pooling", "cls", {"cls": "first", "mean": "mean"}),
    "global_every": integer(EVERY, 3, 2**10),
    "window": _window("local_attention"),
    "theta": _theta(THETA, 160_000.0),
    "local_theta": _theta(LOCAL_THETA, 10_000.0),
}
SWITCHES: Switches = {
    **dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), ((), MATHEMATICS)),
    "position_embedding_type": (("absolute", "sans_pos"), MATHEMATICS),  # left over from BERT's; both mean rotary here
}


def shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Every tensor by its name. Layer 0 has no norm before its attention."""
    hidden, wide = spec.hidden, spec.intermediate
    found: dict[str, tuple[int, ...]] = {
        "model.embeddings.tok_embeddings.weight": (spec.vocabulary, hidden),
        "model.embeddings.norm.weight": (hidden,),
    }
    for index in range(spec.layers):
        layer = f"model.layers.{index}"
        if index:
            found[f"{layer}.attn_norm.weight"] = (hidden,)
        found[f"{layer}.attn.Wqkv.weight"] = (3 * hidden, hidden)
        found[f"{layer}.attn.Wo.weight"] = (hidden, hidden)
        found[f"{layer}.mlp_norm.weight"] = (hidden,)
        found[f"{layer}.mlp.Wi.weight"] = (2 * wide, hidden)
        found[f"{layer}.mlp.Wo.weight"] = (hidden, wide)
    head = {"head.dense.weight": (hidden, hidden), "head.norm.weight": (hidden,)}
    labels = len(spec.labels)
    return {
        **found,
        "model.final_norm.weight": (hidden,),
        **head,
        "classifier.weight": (labels, hidden),
        "classifier.bias": (labels,),
    }


def rewrite(config: Mapping[str, object], where: str) -> Mapping[str, object]:
    """The config with ``layer_types`` and ``rope_parameters`` said in the older keys. Raises `ModelError`."""
    found = dict(config)
    kinds, turns = found.pop("layer_types", None), found.pop("rope_parameters", None)
    if kinds is not None:
        found[EVERY] = _every(kinds, where)
    if turns is not None:
        found |= _thetas(turns, where)
    return found


def _every(kinds: object, where: str) -> int:
    """The first of how many layers is global, where that describes all of them."""
    shown = short(kinds)
    layers = cast(list[object], kinds) if isinstance(kinds, list) else []
    later = [number for number, kind in enumerate(layers) if kind == "full_attention" and number]
    every = later[0] if later else max(1, len(layers))
    pattern = ["sliding_attention" if number % every else "full_attention" for number in range(len(layers))]
    if not layers or layers != pattern:
        fix = "wanted: full_attention first, then once every so many layers, sliding_attention between"
        raise ModelError(f"layer_types = {shown} is not understood", f"{where}: layer_types", fix)
    return every


def _thetas(turns: object, where: str) -> dict[str, object]:
    """Theta of each kind of layer, from rotary positions that are not scaled."""
    shown = short(turns)
    table: dict[str, Any] = cast(dict[str, Any], turns) if isinstance(turns, dict) else {"": turns}
    found: dict[str, object] = {}
    for kind, values in table.items():
        own = cast(dict[str, Any], values) if isinstance(values, dict) else {}
        plain = own.get("rope_type", "default") == "default" and own.keys() <= {"rope_type", "rope_theta"}
        if kind not in KINDS or not plain or "rope_theta" not in own:
            problem = f"rope_parameters = {shown} is not understood"
            fix = "wanted: for full_attention and sliding_attention, rope_type default and a rope_theta"
            raise ModelError(problem, f"{where}: rope_parameters", fix)
        found[KINDS[kind]] = own["rope_theta"]
    return found
