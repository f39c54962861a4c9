"""Every knob of a run in one frozen object, validated once.

A recipe is plain numbers: it knows no framework, no file and no data. It comes from defaults, then a preset or TOML
file, then ``--set key=value``; later wins. What it holds after that is written to ``recipe.toml`` of the run, so that
a run can be repeated from its folder alone. The defaults follow Mosbach et al. (2021), "On the Stability of
Fine-tuning BERT": bias-corrected Adam, 10 % warm-up, many small steps.
"""

from __future__ import annotations

import difflib
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_type_hints

from duygu.errors import RecipeError, printable

Precision = Literal["auto", "fp32", "bf16"]
Keep = Literal["best", "last"]
Long = Literal["head+tail", "head", "windows"]

COMMENT_WIDTH = 100  # characters of a line that explains a field


@dataclass(frozen=True, slots=True)
class Recipe:
    """The knobs of one run; `MEANINGS` says what each is. ``None`` means "as the checkpoint's own config says"."""

    epochs: int = 10
    batch: int = 16
    microbatch: int = 0
    gradient_checkpointing: bool = False
    length: int = 256
    long: Long = "head+tail"
    head_share: float = 0.75
    max_windows: int = 8
    overlap: float = 0.25
    lr: float = 2e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    clip: float = 1.0
    dropout: float | None = None
    attention_dropout: float | None = None
    precision: Precision = "auto"
    keep: Keep = "best"
    checkpoint_steps: int = 0
    class_weights: str = "none"
    label_smoothing: float = 0.0
    r_drop: float = 0.0
    word_dropout: float = 0.0
    word_swap: float = 0.0
    layer_decay: float = 1.0
    frozen: int = 0
    fresh_layers: int = 0
    ema: float = 0.0
    lora_rank: int = 0
    lora_alpha: float = 32.0
    lora_targets: str = "all-linear"
    lora_dropout: float = 0.0
    lora_save: str = "adapter"
    quantise: str = "none"
    patience: int = 0
    restarts: int = 1
    guard_warn: float = 0.3
    guard_mark: float = 0.6
    guard_loss: float = 0.95
    guard_share: float = 0.98
    pad_token: str = ""
    seed: int = 13

    def __post_init__(self) -> None:
        for name, (holds, wanted) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not holds(value):
                raise RecipeError(f"{name} = {value!r} is out of range", f"recipe field {name}", f"give {wanted}")

    def changed(self, settings: Mapping[str, Any]) -> Recipe:
        """This recipe with ``settings`` applied; strings are read as the field's type ("none" for unset)."""
        return replace(self, **{name: _parse(name, value) for name, value in settings.items()})

    @property
    def cut(self) -> tuple[int, float, int, float]:
        """What becomes of a long document: ``length``, share of the head, most windows and their overlap.

        In the order in which a tokenizer and a model folder take them. One window is none: the document is cut.
        """
        if self.long == "windows":
            return self.length, self.head_share, self.max_windows, self.overlap
        return self.length, 1.0 if self.long == "head" else self.head_share, 1, 0.0

    def as_dict(self) -> dict[str, int | float | str | None]:
        """Field names to plain values, in the order of declaration."""
        return asdict(self)

    def to_toml(self) -> str:
        """TOML text that `from_toml` reads back to an equal recipe; unset fields are left out."""
        lines = (f"{name} = {_toml(value)}" for name, value in self.as_dict().items() if value is not None)
        return "\n".join(lines) + "\n"

    def explained(self, notes: Mapping[str, str]) -> str:
        """TOML text that `from_toml` reads back to an equal recipe, unset fields included.

        Above every field stands what it is, its default where that is another, and its note in ``notes``, if any.
        """
        usual = Recipe().as_dict()
        parts: list[str] = []
        for name, value in self.as_dict().items():
            shown = _toml("none" if value is None else value)
            default = "" if value == usual[name] else f" Default: {str(usual[name]).lower()}."
            comments = [f"{MEANINGS[name]}.{default}", *([notes[name]] if name in notes else [])]
            parts.append("\n".join([*map(comment, comments), f"{name} = {shown}"]))
        return "\n\n".join(parts) + "\n"

    @classmethod
    def from_toml(cls, text: str, where: str = "recipe.toml") -> Recipe:
        """Read TOML text; ``where`` names the file in errors."""
        try:
            settings = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"not valid TOML: {error}", where, "write one `name = value` a line") from error
        try:
            return cls().changed(settings)
        except RecipeError as error:
            raise RecipeError(error.problem, f"{where}: {error.where}", error.fix) from error


def parse_settings(pairs: Iterable[str]) -> dict[str, str]:
    """``["epochs=3", "lr=1e-4"]`` to a mapping; raises `RecipeError` for a pair without ``=``."""
    settings: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise RecipeError(f"{pair!r} is not key=value", f"--set {pair}", "write it as --set epochs=3")
        settings[name.strip()] = value.strip()
    return settings


def comment(text: str) -> str:
    """``text`` as lines of a TOML comment, whatever it holds."""
    return textwrap.fill(printable(text), COMMENT_WIDTH, initial_indent="# ", subsequent_indent="# ")


def label_weights(text: str) -> tuple[float, ...]:
    """The numbers of a ``class_weights`` that names them; raises ValueError for anything else."""
    return tuple(_number(part) for part in text.split(","))


def _share(value: float) -> bool:
    return 0.0 <= value < 1.0


def _part(value: float) -> bool:
    return 0.0 < value <= 1.0


def _weights(value: str) -> bool:
    try:
        return value in ("none", "balanced") or all(weight > 0 for weight in label_weights(value))
    except ValueError:
        return False


def _token(value: str) -> bool:
    """What TOML can quote as it is."""
    return value.isprintable() and not set(value) & set('"\\')


def _names(value: str) -> bool:
    return all(re.fullmatch(r"[\w.*-]+", name) for name in value.split(","))


MEANINGS: Mapping[str, str] = {
    "epochs": "Passes over the training part",
    "batch": "Documents per optimiser step",
    "microbatch": "Documents per forward pass, to save memory; 0 takes the whole step at once",
    "gradient_checkpointing": "Whether the backward pass computes each layer again from its input, which alone is "
    "kept: less memory, a third more work, the same gradient",
    "length": "Tokens that the model reads at once, special tokens included",
    "long": "What becomes of a document that is longer: head+tail and head cut it; windows reads it in overlapping "
    "parts of that length, whose mean logits are its own",
    "head_share": "Share of a cut document's tokens that is taken from its head; the rest is taken from its tail",
    "max_windows": "Windows of a document at most; one that needs more is cut to what so many hold",
    "overlap": "Share of a window's text that the next one repeats",
    "lr": "Highest learning rate",
    "warmup": "Share of all updates during which the learning rate rises; after them it falls to 0, both linearly",
    "weight_decay": "AdamW's, on weights of linear layers and embeddings, not on biases and norms",
    "beta1": "AdamW's memory of the gradient",
    "beta2": "AdamW's memory of the squared gradient",
    "eps": "AdamW's, added to the root of the second moment",
    "clip": "Global norm to which a longer gradient is cut; 0 never cuts",
    "dropout": "Rate for hidden states and head; none takes the checkpoint's own",
    "attention_dropout": "Rate for attention probabilities; none takes the checkpoint's own",
    "precision": "Arithmetic: fp32, bf16, or auto, which takes bf16 where this machine multiplies it faster",
    "keep": "Weights that the run keeps: those of the epoch of best validation macro-F1, or of the last epoch",
    "checkpoint_steps": "Besides every epoch, a checkpoint every so many steps; 0 for epochs only; changes no result",
    "class_weights": "Weight of each label's documents in the loss: none, balanced (as many documents as the average "
    "label), or one number a label in the order of their names, as in 1.1,0.9",
    "label_smoothing": "Share of each label's target that is spread over all labels",
    "r_drop": "Weight of the distance between the answers of two passes with other dropout, twice the work; 0 is off",
    "word_dropout": "Share of a document's plain words that a mask token stands for, drawn anew every epoch",
    "word_swap": "Share of a document's plain words that trade places with the next, drawn anew every epoch",
    "layer_decay": "Learning rate of a layer as a share of the rate of the layer above it; 1 is the same for all",
    "frozen": "Blocks that do not learn, from below: 1 the embeddings, 2 the first layer too, and so on",
    "fresh_layers": "Top layers that start from new weights, and the pooler with them; 0 keeps all of the checkpoint's",
    "ema": "Memory of the moving average of the weights that is evaluated and kept in their place; 0 averages nothing",
    "lora_rank": "Width of the adapters that learn in place of the layers' own weights; 0 trains these themselves",
    "lora_alpha": "What the adapters add is scaled by this over their width",
    "lora_targets": "Layers that have adapters: all-linear, or endings of their names, as in query,value",
    "lora_dropout": "Rate for what the adapters read",
    "lora_save": "What the result is: an adapter folder for PEFT, or the whole model with the adapters merged into it",
    "quantise": "Weights of the layers in 4 bits: none, nf4, or nf4-double, whose scales are quantised too; with "
    "adapters only",
    "patience": "Epochs after the warm-up without a better validation macro-F1 that end the training; 0 never ends it",
    "restarts": "How often a collapsed run starts again, at half the rate, with a new seed and long warm-up: 0 or 1",
    "guard_warn": "Share of the updates after which a run that looks collapsed is warned of",
    "guard_mark": "Share of the updates after which a run that still looks so is marked as collapsed",
    "guard_loss": "A run looks collapsed if its training loss is above this share of the loss of always giving the "
    "labels' shares",
    "guard_share": "A run looks collapsed if one label has at least this share of the validation predictions",
    "pad_token": "Entry of the vocabulary that other tools pad with, for models such as Llama, which name none; empty "
    "takes the model's own",
    "seed": "Decides head, data order, dropout and augmented words; the split has a seed of its own, --split-seed",
}

_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (lambda value: 1 <= value <= 10_000, "an integer from 1 to 10000"),
    "batch": (lambda value: 1 <= value <= 65_536, "an integer from 1 to 65536"),
    "microbatch": (lambda value: 0 <= value <= 65_536, "0, or an integer up to batch"),
    "gradient_checkpointing": (lambda value: isinstance(value, bool), "true or false"),
    "length": (lambda value: 8 <= value <= 1_048_576, "an integer of at least 8"),
    "long": (lambda value: value in ("head+tail", "head", "windows"), "head+tail, head or windows"),
    "head_share": (lambda value: 0.0 <= value <= 1.0, "a number from 0 to 1"),
    "max_windows": (lambda value: 1 <= value <= 1024, "an integer from 1 to 1024"),
    "overlap": (_share, "a share from 0 to below 1"),
    "lr": (lambda value: 0.0 < value <= 1.0, "a number above 0, such as 2e-5"),
    "warmup": (_share, "a share from 0 to below 1"),
    "weight_decay": (lambda value: 0.0 <= value <= 1.0, "a number from 0 to 1"),
    "beta1": (_share, "a number from 0 to below 1"),
    "beta2": (_share, "a number from 0 to below 1"),
    "eps": (lambda value: 0.0 < value <= 1.0, "a small number above 0"),
    "clip": (lambda value: 0.0 <= value < float("inf"), "a number of at least 0 (0 never clips)"),
    "dropout": (_share, "a rate from 0 to below 1, or none"),
    "attention_dropout": (_share, "a rate from 0 to below 1, or none"),
    "precision": (lambda value: value in ("auto", "fp32", "bf16"), "auto, fp32 or bf16"),
    "keep": (lambda value: value in ("best", "last"), "best or last"),
    "checkpoint_steps": (lambda value: value >= 0, "0 or a number of steps"),
    "class_weights": (_weights, "none, balanced, or a number above 0 for every label, as in 1.1,0.9"),
    "label_smoothing": (_share, "a share from 0 to below 1"),
    "r_drop": (lambda value: 0.0 <= value <= 100.0, "a number from 0 to 100"),
    "word_dropout": (_share, "a share from 0 to below 1"),
    "word_swap": (_share, "a share from 0 to below 1"),
    "layer_decay": (lambda value: 0.0 < value <= 1.0, "a number above 0, up to 1"),
    "frozen": (lambda value: 0 <= value <= 1024, "0 or a number of blocks"),
    "fresh_layers": (lambda value: 0 <= value <= 1024, "0 or a number of layers"),
    "ema": (_share, "a number from 0 to below 1, such as 0.99"),
    "lora_rank": (lambda value: 0 <= value <= 4096, "0 or a width, such as 16"),
    "lora_alpha": (lambda value: 0.0 < value <= 65_536.0, "a number above 0, such as twice the width"),
    "lora_targets": (_names, "all-linear, or endings of layers' names with commas between, as in query,value"),
    "lora_dropout": (_share, "a rate from 0 to below 1"),
    "lora_save": (lambda value: value in ("adapter", "merged"), "adapter or merged"),
    "quantise": (lambda value: value in ("none", "nf4", "nf4-double"), "none, nf4 or nf4-double"),
    "patience": (lambda value: 0 <= value <= 10_000, "0 or a number of epochs"),
    "restarts": (lambda value: value in (0, 1), "0 or 1"),
    "guard_warn": (_part, "a share above 0, up to 1"),
    "guard_mark": (_part, "a share above 0, up to 1"),
    "guard_loss": (lambda value: 0.0 < value <= 10.0, "a number above 0; 10 looks at predictions only"),
    "guard_share": (lambda value: 0.5 < value <= 1.0, "a share above 0.5, up to 1"),
    "pad_token": (_token, "a special token of the vocabulary, such as <|finetune_right_pad_id|>"),
    "seed": (lambda value: 0 <= value < 2**31, "an integer from 0 to 2147483647"),
}

_FIELD_NAMES = tuple(field.name for field in fields(Recipe))
_FIELD_TYPES = get_type_hints(Recipe)
_ELSEWHERE = {  # what other trainers call these fields
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "batch_size": "batch",
    "per_device_train_batch_size": "microbatch",
    "max_length": "length",
    "max_seq_length": "length",
    "truncation": "long",
    "stride": "overlap",
    "doc_stride": "overlap",
    "warmup_ratio": "warmup",
    "max_grad_norm": "clip",
    "adam_epsilon": "eps",
    "label_smoothing_factor": "label_smoothing",
    "early_stopping_patience": "patience",
    "bf16": "precision",
    "fp16": "precision",
    "save_steps": "checkpoint_steps",
    "lora_r": "lora_rank",
    "target_modules": "lora_targets",
    "load_in_4bit": "quantise",
}


def _parse(name: str, value: Any) -> Any:
    """``value`` as the type of field ``name``; text is converted, a number must already fit."""
    if name not in _FIELD_NAMES:
        nearest = _ELSEWHERE.get(name) or difflib.get_close_matches(name, _FIELD_NAMES, n=1, cutoff=0.0)[0]
        fix = f"did you mean {nearest}? fields: {', '.join(_FIELD_NAMES)}"
        raise RecipeError(f"unknown recipe field {name!r}", f"recipe field {name}", fix)
    kind = _FIELD_TYPES[name]
    try:
        if kind is bool:
            return _truth(value)
        if kind is int:
            return _whole(value)
        if kind is float:
            return _number(value)
        if kind == float | None:
            return None if value is None or str(value).lower() == "none" else _number(value)
        return str(value)
    except (KeyError, TypeError, ValueError) as error:
        wanted = _RANGES[name][1]
        raise RecipeError(f"{name} = {value!r} is not usable", f"recipe field {name}", f"give {wanted}") from error


def _truth(value: Any) -> bool:
    return {"true": True, "false": False}[str(value).lower()]


def _whole(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(value)
    return number


def _toml(value: int | float | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)
