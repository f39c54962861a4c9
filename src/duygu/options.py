"""The options that several verbs share, each written once, and what their values mean."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from duygu.data.sources import DataFormat
from duygu.errors import DataError, RecipeError, UserError

if TYPE_CHECKING:
    from duygu.models.presets import RecipePreset
    from duygu.recipe import Recipe

PRINT_RECIPE = "--print-recipe"
Command = TypeVar("Command", bound=Callable[..., object])


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator; the help lists them in the order given."""
    return lambda command: reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def format_options(command: Callable[..., object]) -> Callable[..., object]:
    """The options that say how DATA is laid out; the command gets them as one argument, ``format``."""

    @wraps(command)
    def collected(*arguments: Any, **options: Any) -> object:
        given = {field.name: options.pop(field.name) for field in fields(DataFormat)}
        return command(*arguments, format=DataFormat(**given), **options)

    return together(
        click.option("--text-column", metavar="NAME", help="Column of a table that holds the texts; else text."),
        click.option("--label-column", metavar="NAME", help="Column that holds the labels; else label."),
        click.option("--id-column", metavar="NAME", help="Column of the documents' ids; else rows are numbered."),
        click.option("--date-column", metavar="NAME", help="Column of dates, such as 2024-01-31."),
        click.option("--source-column", metavar="NAME", help="Column that says who published a text."),
        click.option("--encoding", metavar="NAME", help="Encoding of every file; else each file's own is found."),
    )(collected)


def whole_numbers(context: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """``"13,42"`` as numbers."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers such as 13,42") from error


def decimals(context: click.Context, option: click.Parameter, text: str) -> tuple[float, ...]:
    """``"70,10,20"`` as numbers; nothing as none."""
    try:
        return tuple(float(number) for number in text.split(",")) if text else ()
    except ValueError as error:
        raise UserError(f"{text!r} is not a list of numbers", option.opts[0], "as in 70,10,20") from error


def trackers(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    """``"wandb,mlflow"`` as names of trackers, each of them installed; nothing as none."""
    if not text:
        return ()
    from duygu.training.track import require

    names = tuple(text.split(","))
    require(names)
    return names


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
engine_option = click.option("--engine", metavar="torch|jax", help="Framework to compute with; else what is installed.")
threads_option = click.option("--threads", metavar="N", type=click.IntRange(0), default=0, help="CPU threads.")
merge_option = click.option(
    "--merge", is_flag=True, help="Save a whole model, adapters added to its weights: lora_save=merged."
)
seed_option = click.option("--seed", metavar="N", type=click.IntRange(0), help="Seed of head, data order and dropout.")
split_option = click.option("--split", metavar="FILE", help="Take the split saved in FILE.")
track_option = click.option(
    "--track", metavar="LIST", default="", callback=trackers, help="Follow runs in wandb, tensorboard, mlflow."
)
texts_option = click.option(
    "--texts/--no-texts", default=True, help="Quote documents in the report, or list them by their ids alone."
)
settings_option = click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Set one recipe field, as in --set epochs=3."
)
recipe_option = click.option("--recipe", metavar="FILE|PRESET", help="A recipe in TOML, or a recipe preset's name.")
recipe_options = together(
    recipe_option,
    settings_option,
    click.option(PRINT_RECIPE, is_flag=True, help="Print the recipe as TOML that explains itself, and end."),
)
data_options = together(
    split_option,
    click.option(
        "--split-seed", metavar="N", type=click.IntRange(0), default=0, help="Seed of the split, apart from the run's."
    ),
)
folder_options = together(
    click.option("--resume", is_flag=True, help="Go on from what OUT already holds."),
    click.option("--overwrite", is_flag=True, help="Replace what OUT already holds."),
)
predictor_options = together(
    engine_option,
    click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", help="fp32 unless given."),
    threads_option,
)


class RecipeCommand(click.Command):
    """A verb with `recipe_options`, which needs none of its other arguments where it only prints the recipe."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        needed = [option for option in self.params if option.required and PRINT_RECIPE in args]
        for option in needed:
            option.required = False
        try:
            return super().parse_args(ctx, args)
        finally:
            for option in needed:
                option.required = True


def chosen_recipe(
    model: str, recipe: str | None, settings: Iterable[str], seed: int | None = None, merge: bool = False
) -> Recipe:
    """The model's own recipe, or the one named; then every --set; then --seed and --merge."""
    return _changed(_named_recipe(model, recipe), settings, seed, merge)


def show_recipe(
    model: str | None, recipe: str | None, settings: Iterable[str], seed: int | None = None, merge: bool = False
) -> None:
    """Print the recipe that `chosen_recipe` would give as TOML that explains itself."""
    preset = _named_recipe(model, recipe)
    click.echo(preset.explained(_changed(preset, settings, seed, merge)), nl=False)


def _named_recipe(model: str | None, recipe: str | None) -> RecipePreset:
    from duygu.files import read_text
    from duygu.models.presets import RecipePreset, preset_for, recipe_preset
    from duygu.recipe import Recipe

    if recipe is None:
        return preset_for(model)
    if recipe.endswith(".toml") or os.sep in recipe:
        read = Recipe.from_toml(read_text(Path(recipe), error=RecipeError), recipe)
        return RecipePreset(recipe, "read from this file.", read, {})
    return recipe_preset(recipe)


def _changed(preset: RecipePreset, settings: Iterable[str], seed: int | None, merge: bool) -> Recipe:
    from duygu.recipe import parse_settings

    changed = preset.recipe.changed(parse_settings(settings))
    if merge and not changed.lora_rank:
        fix = "--set lora_rank=16, or leave --merge out"
        raise RecipeError("there are no adapters to merge: lora_rank is 0", "--merge", fix)
    given = {"seed": seed} if seed is not None else {}
    return changed.changed(given | ({"lora_save": "merged"} if merge else {}))


def texts_to_predict(text: str) -> list[str]:
    """What to predict: the text itself, or the non-empty lines of a file or of standard input (``-``)."""
    from duygu.data.encoding import Undecodable, decode
    from duygu.files import read_bytes

    if text == "-":
        data, where = sys.stdin.buffer.read(), "standard input"
    elif _names_file(text):
        data, where = read_bytes(Path(text), error=DataError), text
    else:
        return [text]
    try:
        lines = decode(data)[0].split("\n")
    except Undecodable as error:
        raise DataError(f"not text: {error}", where, "save it as UTF-8") from error
    return [line for line in lines if line.strip()]


def _names_file(text: str) -> bool:
    """Whether ``text`` is meant as a file: one that is there, or a single word that ends in .txt."""
    try:
        return Path(text).is_file() or (text.endswith(".txt") and not any(c.isspace() for c in text))
    except OSError:  # too long for a path
        return False
