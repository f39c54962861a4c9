"""Llama's config and tensors. Grattafiori et al. (2024), arXiv:2407.21783; Touvron et al. (2023), arXiv:2302.13971.

Qwen2 (arXiv:2407.10671) and Qwen3 (arXiv:2505.09388) are Llamas but for what `ModelSpec` says of them, and for what
`duygu.models.qwen` has of their configs.
Configs that transformers 5 wrote say how positions turn in ``rope_parameters``; older ones, and those written here, in
``rope_theta`` and ``rope_scaling``, which every version of transformers reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from duygu.errors import ModelError
from duygu.models.keys import MATHEMATICS, Key, Switches, choice, epsilon, integer, number, rate, short

if TYPE_CHECKING:
    from duygu.models.spec import ModelSpec

LLAMAS = ("llama", "qwen2", "qwen3")  # families of this kind
SAME_MODEL = "take config.json and the weights from the same model"
THETA = 10_000.0
NO_PADDING = -1  # in place of the id of a padding token
TYPES = ("type", "rope_type")  # the older name of the key, and the newer one, which holds where both are there
STRETCHED = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
WANTED = (
    "rope_type default with a rope_theta, or llama3 with factor, low_freq_factor below high_freq_factor, and "
    "original_max_position_embeddings"
)


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How Llama 3.1 slows rotary positions down, so that texts may be longer than those of its first training."""

    factor: float  # by which features turn slower whose period is long
    low: float  # a period is long above the first training's length divided by this
    high: float  # and short below that length divided by this; in between the factor fades out
    positions: int  # tokens of a text in the first training


def _scaling() -> Key:
    """None where positions are not scaled."""

    def parse(value: Any) -> RopeScaling:
        factor, low, high, positions = (value[name] for name in STRETCHED)
        numbers = all(type(x) in (int, float) and 0 < x < 1e9 for x in (factor, low, high))
        if not (numbers and factor >= 1 and low < high and type(positions) is int and 0 < positions <= 2**24):
            raise ValueError(value)
        return RopeScaling(float(factor), float(low), float(high), positions)

    def write(scaling: RopeScaling | None) -> dict[str, Any] | None:
        if scaling is None:
            return None
        values = (scaling.factor, scaling.low, scaling.high, scaling.positions)
        return {"rope_type": "llama3", **dict(zip(STRETCHED, values, strict=True))}

    return Key("rope_scaling", None, WANTED, parse, write)


def _or_none(key: Key, missing: int) -> Key:
    """A key that may be absent or null, which ``missing`` stands for."""
    return Key(key.name, missing, key.wanted, key.parse, lambda value: None if value == missing else value)


def _padding() -> Key:
    """`NO_PADDING` where the config names no padding token, or says so with -1, as the first Llamas' do."""
    plain = integer("pad_token_id", 0, 2**24, low=NO_PADDING)
    return _or_none(plain, NO_PADDING)


KEYS: dict[str, Key] = {
    "kv_heads": _or_none(integer("num_key_value_heads", 0, 2**12), 0),
    "head_width": _or_none(integer("head_dim", 0, 2**12), 0),
    "activation": choice("hidden_act", "silu", {"swish": "silu", "silu": "silu"}),
    "norm_eps": epsilon("rms_norm_eps", 1e-6),
    "attention_dropout": rate("attention_dropout", 0.0),
    "theta": number("rope_theta", THETA, "a number of at least 1", lambda value: 1 <= value < 1e12),
    "rope_scaling": _scaling(),
    "pad_id": _padding(),
}
SWITCHES: Switches = {
    **dict.fromkeys(("attention_bias", "mlp_bias", "sliding_window", "use_sliding_window"), ((), MATHEMATICS)),
    STRETCHED[-1]: ((), MATHEMATICS),  # beside the table it belongs in, where transformers lets it overrule that
    "partial_rotary_factor": ((1,), MATHEMATICS),
    "pretraining_tp": ((1,), MATHEMATICS),  # how many parts each product is summed in: other rounding
}


def shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Every tensor by its name."""
    hidden, wide = spec.hidden, spec.intermediate
    queries, shared = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (spec.vocabulary, hidden)}
    for index in range(spec.layers):
        layer = f"model.layers.{index}"
        for part, width in (("q", queries), ("k", shared), ("v", shared)):
            found[f"{layer}.self_attn.{part}_proj.weight"] = (width, hidden)
            if spec.biased:
                found[f"{layer}.self_attn.{part}_proj.bias"] = (width,)
        found[f"{layer}.self_attn.o_proj.weight"] = (hidden, queries)
        if spec.head_norms:
            found[f"{layer}.self_attn.q_norm.weight"] = (spec.head_dim,)
            found[f"{layer}.self_attn.k_norm.weight"] = (spec.head_dim,)
        found[f"{layer}.mlp.gate_proj.weight"] = (wide, hidden)
        found[f"{layer}.mlp.up_proj.weight"] = (wide, hidden)
        found[f"{layer}.mlp.down_proj.weight"] = (hidden, wide)
        found[f"{layer}.input_layernorm.weight"] = (hidden,)
        found[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
    return {**found, "model.norm.weight": (hidden,), "score.weight": (len(spec.labels), hidden)}


def complete(values: dict[str, Any], where: str) -> None:
    """Fill in what a config may leave to others of its values. Raises `ModelError` where they contradict each other."""
    values["kv_heads"] = values["kv_heads"] or values["heads"]
    values["head_width"] = values["head_width"] or values["hidden"] // values["heads"]
    if values["heads"] % values["kv_heads"]:
        problem = f"num_key_value_heads = {values['kv_heads']} does not divide num_attention_heads = {values['heads']}"
        raise ModelError(problem, where, SAME_MODEL)


def rewrite(config: Mapping[str, object], where: str) -> Mapping[str, object]:
    """The config with ``rope_parameters`` said in the older keys. Raises `ModelError`."""
    found = dict(config)
    _require_full_attention(found.pop("layer_types", None), where)
    newer, older = found.pop("rope_parameters", None), found.pop("rope_scaling", None)
    name, given = ("rope_scaling", older) if older else ("rope_parameters", newer)
    if not given:
        return found
    turns = _turns(given)
    plain = turns is not None and turns.keys() <= {"rope_type", "rope_theta"} and turns["rope_type"] == "default"
    stretched = turns is not None and turns.keys() <= {"rope_type", "rope_theta", *STRETCHED}
    if turns is None or not (plain or (stretched and turns["rope_type"] == "llama3")):
        raise ModelError(f"{name} = {short(given)} is not understood", f"{where}: {name}", f"wanted: {WANTED}")
    if "rope_theta" in turns:
        found["rope_theta"] = turns["rope_theta"]
    if not plain:
        first_length = {STRETCHED[-1]: found.get("max_position_embeddings")}  # as transformers does without it
        found["rope_scaling"] = dict.fromkeys(STRETCHED) | first_length | turns
    return found


def _turns(given: object) -> dict[str, Any] | None:
    """What the config says of rotary positions, in the newer words; None where it is no table."""
    if not isinstance(given, dict):
        return None
    table = cast(dict[str, Any], given)
    kind = [table[name] for name in TYPES if name in table]
    scaled = {name: value for name, value in table.items() if name not in TYPES}
    if scaled.get("partial_rotary_factor") == 1:
        del scaled["partial_rotary_factor"]
    return {"rope_type": kind[-1] if kind else "default", **scaled}


def _require_full_attention(kinds: object, where: str) -> None:
    shown = short(kinds)
    layers = cast(list[object], kinds) if isinstance(kinds, list) else [kinds]
    if kinds is not None and any(kind != "full_attention" for kind in layers):
        fix = "wanted: full_attention in every layer"
        raise ModelError(f"layer_types = {shown} is not understood", f"{where}: layer_types", fix)
