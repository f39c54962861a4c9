"""Which token other tools fill batches with, for models whose checkpoints name none.

Nothing is padded here, so no answer depends on it. But transformers reads the last token that is not padding, so a
saved model must name a token that ends no text; it is one that the vocabulary has already, since a new one would have
no vector.
"""

from __future__ import annotations

from dataclasses import replace

from duygu.data.tokens import TextTokenizer
from duygu.errors import ModelError, RecipeError
from duygu.models.spec import ModelSpec, family_of

USUAL = (  # the best first
    "<|finetune_right_pad_id|>", "<pad>", "[PAD]", "<unk>", "<|reserved_special_token_0|>", "<|endoftext|>",
)  # fmt: skip


def with_padding(spec: ModelSpec, tokenizer: TextTokenizer, wanted: str, where: str) -> tuple[ModelSpec, TextTokenizer]:
    """Spec and tokenizer that agree on a padding token: the one ``wanted``, else the config's, else the tokenizer's.

    Raises `RecipeError` for one that cannot be had, `ModelError` where there is none.
    """
    if family_of(spec).pads:
        _refuse_another(spec, tokenizer, wanted)
        return spec, tokenizer
    special = tokenizer.special_ids
    token = wanted or tokenizer.token(spec.pad_id) or tokenizer.roles.get("pad_token", "")
    if token in special:
        return replace(spec, pad_id=special[token]), tokenizer.padded_with(token)
    usual = next((token for token in USUAL if token in special), next(iter(special), "TOKEN"))
    unfit = f"{token!r} is no special token of its vocabulary, or one that stands around every text"
    if wanted:
        raise RecipeError(f"pad_token = {unfit}", "recipe field pad_token", f"--set pad_token='{usual}'")
    problem = f"the model pads with what texts may hold: {unfit}" if token else "the model names no padding token"
    raise ModelError(problem, where, f"--set pad_token='{usual}'")


def _refuse_another(spec: ModelSpec, tokenizer: TextTokenizer, wanted: str) -> None:
    """Where the checkpoint was trained with padding, and may count positions from it, no other will do."""
    if wanted and tokenizer.special_ids.get(wanted) != spec.pad_id:
        problem = f"pad_token = {wanted!r}, but the model was trained with another"
        raise RecipeError(problem, "recipe field pad_token", "leave pad_token empty for this model")
