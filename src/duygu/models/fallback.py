"""Families without a twin: what transformers says of their models, which the torch engine then computes through it.

No code of a model folder takes part: a config that asks for any is refused, and ``trust_remote_code`` is never passed.
transformers brings PyTorch along, so it is asked by `duygu.engines.torch.fallback` within a process that has PyTorch
already, and else in a process of its own that ends with the answer. What it is asked is a function of the config.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from duygu.errors import ModelError, RecipeError
from duygu.models.families import FAMILIES, Family
from duygu.models.keys import CODE, SWITCHES, Switches

ENGINE = "torch"  # the one that has the fallback
THROUGH = "through transformers (fallback)"
MODULE = "duygu.engines.torch.fallback"
PACKAGES = ("torch", "transformers")
INSTALL = "pip install 'duygu[torch,transformers]'"

# What transformers computes as it is said is no matter of ours; what would be another kind of model is.
REFUSED: Switches = {name: switch for name, switch in SWITCHES.items() if switch[1] is CODE} | {
    "quantization_config": SWITCHES["quantization_config"],
    "is_encoder_decoder": ((), "it has an encoder and a decoder, and duygu trains models of one stack"),
    "adapters": ((), "these belong to another library"),
    "pruned_heads": ((), "transformers no longer computes this"),
}
_SAID_ANEW = """
    architectures _name_or_path transformers_version dtype torch_dtype id2label label2id num_labels _num_labels
    problem_type finetuning_task duygu
"""
DROPPED = REFUSED.keys() | set(_SAID_ANEW.split())  # keys that are off, or not about the arithmetic
# BigBird's sparse attention falls back to the full one at the first short batch and stays there (its
# ``set_attention_type``), so that answers would depend on what was asked before.
PINNED: Mapping[str, Mapping[str, object]] = {"big_bird": {"attention_type": "original_full"}}
_OTHER_HEADS = """
    cls.* lm_head.* predictions.* sop_classifier.* lm_predictions.* mask_predictions.* generator_* discriminator_*
    decoder.* *pooler.* *position_ids *token_type_ids
"""
IGNORED = tuple(_OTHER_HEADS.split())


@dataclass(frozen=True, slots=True)
class Fallback:
    """A model as transformers makes it: from which config, and which tensors it then has."""

    config: str  # JSON object; no labels in it
    architecture: str  # the class that transformers loads a result with
    prefix: str  # of every tensor but the head's
    shapes: tuple[tuple[str, tuple[int, ...]], ...]  # by name, from the embeddings to the head
    dropout: tuple[str, ...]  # the config's fields with a rate for hidden states, the head included
    attention_dropout: tuple[str, ...]  # those with a rate for attention

    @property
    def settings(self) -> dict[str, Any]:
        """The config as an object."""
        return json.loads(self.config)

    @property
    def family(self) -> Family:
        """How its tensors are matched with a checkpoint's: the head is new, and so is a pooler that is not there."""
        names = [name for name, _ in self.shapes]
        return Family(
            architecture=self.architecture,
            prefix=self.prefix,
            keys={},
            shapes=lambda _: dict(self.shapes),
            head=tuple(name for name in names if not name.startswith(self.prefix)),
            ignored=IGNORED,
            optional=tuple(name for name in names if name.startswith(self.prefix) and "pooler" in name),
        )

    def with_rates(self, hidden: float | None, attention: float | None) -> Fallback:
        """With these rates of dropout in every field that has one; None leaves the checkpoint's.

        Raises `RecipeError` for a rate that the config has no field for.
        """
        settings = self.settings
        asked = {"dropout": (hidden, self.dropout), "attention_dropout": (attention, self.attention_dropout)}
        for name, (rate, fields) in asked.items():
            if rate is not None and not fields:
                problem = f"{name} = {rate}, but the config of {settings['model_type']} has no field for it"
                raise RecipeError(problem, f"recipe field {name}", f"leave {name} out")
            settings |= {} if rate is None else dict.fromkeys(fields, rate)
        return replace(self, config=_json(settings))


def has_twin(config: Mapping[str, object], where: str, engines: Sequence[str] = ()) -> bool:
    """Whether both engines compute models of this config's family.

    Raises `ModelError` for a config that names no family, and for one without a twin where one of ``engines`` has no
    fallback either.
    """
    name = config.get("model_type")
    twins = ", ".join(FAMILIES)
    if not isinstance(name, str) or not name:
        problem = "config.json has no model_type" if name is None else f"model_type {name!r} is not a known family"
        raise ModelError(problem, where, f"choose a model of a known family: {twins}")
    without = [engine for engine in engines if engine != ENGINE]
    if name not in FAMILIES and without:
        problem = f"model_type {name!r} has no twin here, so {without[0]} cannot compute it; torch can, {THROUGH}"
        fix = f"take {ENGINE} alone, or a model of a family that both engines compute: {twins}"
        raise ModelError(problem, f"{where}: model_type", fix)
    return name in FAMILIES


def ask(config: Mapping[str, object], labels: int, where: str) -> tuple[Fallback, dict[str, Any]]:
    """What transformers makes of a config with so many labels, and the sizes it reads there, by field of ModelSpec.

    Raises `ModelError` where packages are missing, and where transformers knows no such classifier.
    """
    name, twins = config["model_type"], ", ".join(FAMILIES)
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        problem = f"model_type {name!r} has no twin here and runs {THROUGH}, but {missing[-1]} is not installed"
        raise ModelError(problem, f"{where}: model_type", f"{INSTALL}, or choose a model of: {twins}")
    kept = {**{key: value for key, value in config.items() if key not in DROPPED}, **PINNED.get(str(name), {})}
    answer = _answer(_json(kept), labels)
    if "problem" in answer:
        fix = f"choose a text classifier that this version of transformers knows, or a model of: {twins}"
        raise ModelError(answer["problem"], f"{where}: model_type", fix)
    shapes = tuple((tensor, tuple(shape)) for tensor, shape in answer["shapes"])
    rates = {field: tuple(answer[field]) for field in ("dropout", "attention_dropout")}
    return Fallback(_json(kept), answer["architecture"], answer["prefix"], shapes, **rates), answer["sizes"]


def parts_of(config: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The config and every object within it: any of them could ask for code."""
    waiting: list[object] = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield cast(dict[str, object], value)
            waiting += cast(dict[str, object], value).values()
        elif isinstance(value, list):
            waiting += cast(list[object], value)


def note(name: str) -> str:
    """What a user is told of a model that runs so."""
    pinned = "".join(f"; {key} is {value} here, at any length" for key, value in PINNED.get(name, {}).items())
    return (
        f"{name} has no twin here: it runs {THROUGH}, version {version()}, on {ENGINE} only, with PyTorch's own dropout"
        f"{pinned}"
    )


def version() -> str:
    """Of transformers."""
    return importlib.metadata.version("transformers")


@functools.cache
def _answer(config: str, labels: int) -> dict[str, Any]:
    if "torch" in sys.modules:
        return importlib.import_module(MODULE).answer(config, labels)
    command = [sys.executable, "-P", "-m", MODULE, str(labels)]
    done = subprocess.run(command, input=config, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        return {"problem": f"transformers does not answer: {reason}"}
    return json.loads(done.stdout.splitlines()[-1])


def _json(config: Mapping[str, object]) -> str:
    return json.dumps(config, sort_keys=True, ensure_ascii=False)
