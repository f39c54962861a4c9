"""``duygu compare``: models, engines and seeds in one table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from duygu.data.sources import BY_DEFAULT
from duygu.errors import FolderError, UserError
from duygu.options import (
    RecipeCommand,
    chosen_recipe,
    data_options,
    folder_options,
    format_options,
    json_option,
    recipe_options,
    show_recipe,
    texts_option,
    threads_option,
    track_option,
    whole_numbers,
)
from duygu.verbs.output import print_comparison, say

if TYPE_CHECKING:
    from duygu.verdict.request import CompareRequest


@click.command(cls=RecipeCommand, short_help="Train models in both engines and print one table.")
@click.argument("sources", metavar="DATA | RUN RUN...", nargs=-1)
@click.option(
    "--model", metavar="LIST", help="Folders or presets that runs start from, with commas between; needed with DATA."
)
@click.option("--engines", metavar="LIST", default="torch,jax", show_default=True, help="Engines to compare.")
@click.option("--seeds", metavar="LIST", default="13", show_default=True, callback=whole_numbers, help="Seeds to run.")
@click.option(
    "--folds", metavar="K", type=click.IntRange(2), help="K runs for each seed, which test every document once."
)
@click.option(
    "--margin",
    metavar="POINTS",
    type=float,
    default=1.5,
    show_default=True,
    help="Engines or models this near in accuracy are equivalent; stated before the first run.",
)
@click.option("--ensemble", is_flag=True, help="Score the mean answer of each engine's seeds, too.")
@click.option("--protocol", metavar="NAME", help="Show a report's conventions beside ours: report-2024.")
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1),
    help="Runs at a time, at most what memory holds. Unless given, one for every 8 cores, since several disturb each "
    "other's timing.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Comparison folder to write; needed with DATA.")
@recipe_options
@data_options
@format_options
@folder_options
@threads_option
@track_option
@texts_option
@json_option
@click.pass_context
def compare(
    context: click.Context,
    sources: tuple[str, ...],
    out: Path | None,
    recipe: str | None,
    settings: tuple[str, ...],
    print_recipe: bool,
    resume: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train each MODEL on DATA once per engine, seed and fold, each in a process of its own, and write report.html.

    Every model has the recipe that suits it, unless --recipe names one for all. With finished run folders in place of
    DATA, compare those. With --resume, what is not said is taken from the comparison in OUT, and finished runs are not
    repeated.

    \b
    Example:
      duygu compare texts/ --model tiny --engines torch,jax --seeds 13,42 --out comparison
      duygu compare texts/ --model tiny --seeds 13,42,87 --folds 5 --jobs 2 --out folds
      duygu compare texts/ --model berturk,electra-tr --seeds 13,42,87 --out models
      duygu compare --resume --out comparison
      duygu compare run-torch run-jax --protocol report-2024
    """
    if print_recipe:
        show_recipe(_only_model(options["model"]), recipe, settings)
        return
    if not sources and not resume:
        raise click.UsageError("Missing argument 'DATA | RUN RUN...'.")
    if len(sources) > 1 or (sources and (Path(sources[0]) / "metrics.json").is_file()):
        print_comparison(_of_finished_runs(sources, out, options), as_json)
        return
    from duygu.verdict.compare import compare as run

    said = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    said |= {"format"} if options["format"] != BY_DEFAULT else set()
    if out is None or not (resume or options["model"]):
        raise click.UsageError("give --model and --out with DATA, or two finished run folders")
    request = _request(sources, out, resume, options, said, (recipe, settings))
    print_comparison(run(request, say), as_json)


def _of_finished_runs(sources: tuple[str, ...], out: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    from duygu.verdict.compare import Conclude, compare_runs
    from duygu.verdict.page import PAGE

    if options["model"] is not None:
        raise click.UsageError("finished runs are compared as they are: leave --model out")
    how = Conclude(options["margin"] / 100, options["ensemble"], options["protocol"], texts=options["texts"])
    result = compare_runs(sources, out, how)
    if out is not None:
        say(f"report: {out / PAGE}")
    return result


def _models(text: str | None) -> str | tuple[str, ...] | None:
    """One model, or several with commas between; a folder may have commas in its name."""
    if text is None or "," not in text or Path(text).is_dir():
        return text
    models = tuple(text.split(","))
    if "" in models:
        raise UserError("there is nothing between two commas", f"--model {text}", "as in berturk,electra-tr")
    return models


def _only_model(text: str | None) -> str | None:
    models = _models(text)
    if isinstance(models, tuple):
        raise click.UsageError("each model has a recipe of its own: name one with --print-recipe")
    return models


def _request(
    sources: tuple[str, ...],
    out: Path,
    resume: bool,
    options: Mapping[str, Any],
    said: Collection[str],
    recipe: tuple[str | None, tuple[str, ...]],
) -> CompareRequest:
    """What was asked for; of a comparison that is resumed only what was ``said``."""
    from duygu.verdict.compare import CompareRequest
    from duygu.verdict.request import recorded

    fields: dict[str, Any] = {
        **options,
        "model": _models(options["model"]),
        "engines": tuple(options["engines"].split(",")),
        "folds": options["folds"] or 0,
        "jobs": options["jobs"] or 0,
        "margin": options["margin"] / 100,
    }
    kept: dict[str, Any] = {}
    if resume:
        kept = recorded(out)
        fields = {name: value for name, value in fields.items() if name in said}
    fields |= {"data": sources[0]} if sources else {}
    model = fields.get("model", kept.get("model"))
    if model is None or "data" not in {**kept, **fields}:
        fix = "give DATA and --model, and what else it was begun with"
        raise FolderError("does not say what was to be compared", str(out), fix)
    if "recipe" not in kept or recipe != (None, ()):
        one = isinstance(model, str)
        fields["recipe"] = chosen_recipe(model, *recipe) if one else tuple(chosen_recipe(m, *recipe) for m in model)
    return CompareRequest(**{**kept, **fields, "out": out, "resume": resume})
