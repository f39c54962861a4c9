"""What a value of ``config.json`` may be, and which keys change the mathematics or ask for code and must be off.

A `Key` is read by allow-list; one of `Switches` must be absent, null, false, empty, or a value that means so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
Pooling = Literal["first", "mean"]
Switch = tuple[tuple[object, ...], str]  # what it may be, and why it may be nothing else
Switches = Mapping[str, Switch]  # by key


@dataclass(frozen=True, slots=True)
class Key:
    """One value of ``config.json``: its key, what stands for it where it is absent, and what it may be."""

    name: str
    default: int | float | str | None
    wanted: str
    parse: Callable[[Any], Any]  # raises ValueError
    write: Callable[[Any], Any] = lambda value: value  # what `parse` reads back


def short(value: object) -> str:
    """The value for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def integer(name: str, default: int, high: int, low: int = 1) -> Key:
    """A whole number in a range."""

    def parse(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(value)
        return value

    return Key(name, default, f"an integer from {low} to {high}", parse)


def number(name: str, default: float | None, wanted: str, holds: Callable[[float], bool]) -> Key:
    """A number for which ``holds`` is true."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
            raise ValueError(value)
        return float(value)

    return Key(name, default, wanted, parse)


def epsilon(name: str, default: float) -> Key:
    """What keeps a norm from dividing by 0."""
    return number(name, default, "a small number above 0", lambda value: 0 < value < 1)


def rate(name: str, default: float | None) -> Key:
    """A rate of dropout."""
    return number(name, default, "a rate from 0 to below 1", lambda value: 0 <= value < 1)


def choice(name: str, default: str, meanings: Mapping[str, str]) -> Key:
    """One of several words; of those that mean the same the last is written."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in meanings:
            raise ValueError(value)
        return meanings[value]

    words = {meaning: word for word, meaning in meanings.items()}
    return Key(name, meanings[default], f"one of {', '.join(meanings)}", parse, words.__getitem__)


def activation(name: str) -> Key:
    """One of transformers' names of an activation."""
    return choice(name, "gelu", _ACTIVATIONS)


_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}

CODE = "it asks for code from the model folder, and duygu runs none"
MATHEMATICS = "this changes what the model computes, and no engine here computes it"

SWITCHES: Switches = {
    "auto_map": ((), CODE),
    "trust_remote_code": ((), CODE),
    "custom_pipelines": ((), CODE),
    "_attn_implementation_internal": ((), CODE),
    "_attn_implementation": (("eager", "sdpa", "flash_attention_2"), CODE),
    "attn_implementation": (("eager", "sdpa", "flash_attention_2"), CODE),
    "_experts_implementation_internal": ((), CODE),
    "kernels": ((), CODE),
    "use_kernels": ((), CODE),
    "kernel_config": ((), CODE),
    "quantization_config": ((), "the weights are quantised; give the model's fp32, bf16 or fp16 weights"),
    "position_embedding_type": (("absolute",), MATHEMATICS),
    "is_decoder": ((), MATHEMATICS),
    "add_cross_attention": ((), MATHEMATICS),
    "is_encoder_decoder": ((), MATHEMATICS),
    "pruned_heads": ((), MATHEMATICS),
    "rope_scaling": ((), MATHEMATICS),
    "rope_parameters": ((), MATHEMATICS),
    "adapters": ((), MATHEMATICS),
}

_HARMLESS_KEYS = """
    model_type architectures id2label label2id num_labels _num_labels problem_type finetuning_task duygu
    _name_or_path name_or_path transformers_version tokenizer_class language directionality task_specific_params
    dtype torch_dtype torchscript use_bfloat16 use_cache gradient_checkpointing chunk_size_feed_forward
    output_attentions output_hidden_states output_past return_dict return_dict_in_generate output_scores
    bos_token_id eos_token_id sep_token_id cls_token_id mask_token_id unk_token_id decoder_start_token_id
    forced_bos_token_id forced_eos_token_id tie_word_embeddings tie_encoder_decoder cross_attention_hidden_size
    pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type temperature
    top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
    num_beams num_beam_groups diversity_penalty num_return_sequences max_length min_length do_sample
    early_stopping bad_words_ids suppress_tokens begin_suppress_tokens prefix exponential_decay_length_penalty
    remove_invalid_values tf_legacy_loss
    summary_type summary_use_proj summary_activation summary_last_dropout summary_first_dropout
    summary_proj_to_labels qa_dropout sinusoidal_pos_embds tie_weights_
    layer_types layer_norm_eps decoder_bias deterministic_flash_attn initializer_cutoff_factor reference_compile
    repad_logits_with_grad sparse_prediction sparse_pred_ignore_index
"""
HARMLESS = frozenset(_HARMLESS_KEYS.split())
