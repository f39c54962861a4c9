"""``duygu models``: the models that have a name here, what they need, and why to take them or not."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from duygu.errors import printable
from duygu.options import json_option
from duygu.verbs.output import print_json

if TYPE_CHECKING:
    from duygu.models.checkpoints import Checkpoint
    from duygu.models.spec import ModelSpec

GIB = 1 << 30
ENGINES = ("torch", "jax")
LABELS = ("one", "other")  # too few weights to matter
HEAD = ("", "weights", "tokens", "to train", "to score", "recipe")


@click.command(short_help="List the models that have a name here.")
@json_option
def models(as_json: bool) -> None:
    """List the model presets: weights, longest document, memory, recipe, and why to take one or not.

    A preset's name is given wherever a MODEL is wanted. Any other model of these families is given by its folder or its
    name on the hub; no model is fetched by this list.

    \b
    Example:
      duygu models
      duygu models --json
      duygu train texts/ --engine jax --model berturk --out run
    """
    found = [*_pretrained(), *_from_scratch()]
    if as_json:
        print_json({"schema": 1, "models": found})
    else:
        for line in _lines(found):
            click.echo(printable(line))


def _pretrained() -> Iterator[dict[str, Any]]:
    from duygu.models.checkpoints import CHECKPOINTS
    from duygu.models.fallback import has_twin
    from duygu.models.spec import read_spec

    for name, checkpoint in CHECKPOINTS.items():
        about = {
            "model": checkpoint.model,
            "advised": checkpoint.advised,
            "reason": checkpoint.reason,
            "access": checkpoint.access,
        }
        if has_twin(checkpoint.config, name):
            needs = _needs(read_spec(checkpoint.config, LABELS, name), checkpoint.recipe)
        else:
            needs = _of_fallback(checkpoint)
        yield {"name": name, **about, **needs}


def _of_fallback(checkpoint: Checkpoint) -> dict[str, Any]:
    """The same of a model without a twin, as far as it is known where transformers is not asked: no memory."""
    return {
        "family": checkpoint.config["model_type"],
        "engines": ["torch"],
        "parameters": checkpoint.weights,
        "context": checkpoint.config["max_position_embeddings"],
        "train_bytes": {},
        "score_bytes": {},
        "recipe": checkpoint.recipe,
    }


def _from_scratch() -> Iterator[dict[str, Any]]:
    from duygu.models.presets import PRESETS

    for name, preset in PRESETS.items():
        about = {"model": None, "advised": True, "reason": preset.about, "access": ""}
        yield {"name": name, **about, **_needs(preset.spec(preset.vocabulary, 0, LABELS), preset.recipe)}


def _needs(spec: ModelSpec, recipe: str) -> dict[str, Any]:
    """What a model needs when it is trained with its recipe, every document as long as that allows; in fp32 where the
    recipe leaves that open.
    """
    from duygu.models.presets import RECIPES
    from duygu.models.spec import parameters
    from duygu.scale.memory import scoring_with_recipe, with_recipe

    knobs = RECIPES[recipe].recipe
    low, documents = "bf16" if knobs.precision == "bf16" else "fp32", knobs.microbatch or knobs.batch
    train = {engine: with_recipe(spec, knobs, engine, low, documents).total for engine in ENGINES}
    score = {engine: scoring_with_recipe(spec, knobs, engine, low).total for engine in ENGINES}
    return {
        "family": spec.family,
        "engines": list(ENGINES),
        "parameters": parameters(spec),
        "context": spec.positions,
        "train_bytes": train,
        "score_bytes": score,
        "recipe": recipe,
    }


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    """Two lines or more for each: figures, then words."""
    from duygu.models.fallback import THROUGH

    width = min(100, shutil.get_terminal_size().columns)
    row = "{:15} {:>8} {:>7} {:>9} {:>9}  {}"
    yield row.format(*HEAD)
    for one in found:
        needs = (one[f"{kind}_bytes"].values() for kind in ("train", "score"))
        train, score = (f"{max(need) / GIB:.1f} GiB" if need else "" for need in needs)
        weights = f"{one['parameters'] / 1e6:.1f}M"
        yield row.format(one["name"], weights, one["context"], train, score, one["recipe"])
        source = f"{one['model']}: " if one["model"] else ""
        through = "" if len(one["engines"]) > 1 else f"torch only, {THROUGH}: "
        access = f"; {one['access']}" if one["access"] else ""
        words = f"{source}{through}{'' if one['advised'] else 'not advised: '}{one['reason']}{access}"
        yield from textwrap.wrap(words, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    yield ""
    yield from textwrap.wrap(
        "All but those for torch only are computed by both engines. Memory is predicted for a CPU with the recipe's "
        "batch, length, adapters and precision, fp32 where it leaves that open, of the engine that takes more; duygu "
        "doctor --model NAME has the parts.",
        width,
    )
