"""``duygu train``: one run with one engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from duygu.options import (
    RecipeCommand,
    chosen_recipe,
    data_options,
    folder_options,
    format_options,
    json_option,
    merge_option,
    recipe_options,
    seed_option,
    show_recipe,
    threads_option,
    track_option,
)
from duygu.verbs.output import console, print_json, require_sound, say


@click.command(cls=RecipeCommand, short_help="Fine-tune a model with one engine.")
@click.argument("data")
@click.option("--engine", metavar="torch|jax", required=True, help="Framework to train with.")
@click.option("--model", metavar="FOLDER|PRESET", required=True, help="What to start from.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to write.")
@recipe_options
@seed_option
@merge_option
@data_options
@format_options
@folder_options
@threads_option
@click.option("--fold", metavar="K", type=click.IntRange(1), help="Which fold the split is, for the record.")
@track_option
@json_option
def train(
    model: str,
    out: Path,
    recipe: str | None,
    settings: tuple[str, ...],
    print_recipe: bool,
    seed: int | None,
    merge: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Fine-tune MODEL on DATA with one engine and write a run folder.

    \b
    Example:
      duygu train texts/ --engine torch --model tiny --out run --set epochs=3
      duygu train news.csv --text-column body --label-column mood --engine jax --model tiny --out run
      duygu train texts/ --engine jax --model berturk --out run --set lora_rank=16 --merge
      duygu train --recipe report-2024 --print-recipe > mine.toml
    """
    if print_recipe:
        show_recipe(model, recipe, settings, seed, merge)
        return
    from duygu.training.loop import Job
    from duygu.training.loop import train as run
    from duygu.training.progress import shown_progress
    from duygu.verdict.page import write_page
    from duygu.verdict.report import print_run

    job = Job(model=model, recipe=chosen_recipe(model, recipe, settings, seed, merge), out=out, **options)
    with shown_progress() as progress:
        metrics = run(job, progress)
    page = write_page(out)
    if as_json:
        print_json(metrics)
    else:
        print_run(metrics, console())
        say(f"report: {page}")
    require_sound([str(out)] if metrics["collapsed"] else [])
