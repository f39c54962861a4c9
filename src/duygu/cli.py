"""The command line: each verb reads its options, calls one function and prints what that answers.

Standard output is data, standard error is talk, and with --json the data is JSON. Heavy packages are imported inside
the verbs, so that ``duygu --help`` answers at once. `main` turns every error into an exit code: 0 fine, 1 failure,
2 usage or input, 3 quality gate failed, 130 and 143 interrupted.
"""

from __future__ import annotations

import json
import os
import shlex
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from duygu import __version__
from duygu.errors import DuyguError, GateError, printable
from duygu.options import (
    chosen_recipe,
    data_options,
    folder_options,
    json_option,
    predictor_options,
    recipe_options,
    seed_option,
    settings_option,
    split_option,
    texts_to_predict,
    threads_option,
    whole_numbers,
)

if TYPE_CHECKING:
    from rich.console import Console

    from duygu.engines import EngineName

INTERRUPTED = 130  # 128 + SIGINT, as shells count
TRACEBACK = "DUYGU_TRACEBACK"  # environment variable: show where an error came from
DEMO_TEXT = "Şirketin kârı beklentileri aştı."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="duygu")
def duygu() -> None:
    """Fine-tune a language model into a text classifier, in PyTorch and in JAX, and see what differs.

    DATA is a folder with one sub-folder of .txt files per label. A model is a Hugging Face folder, or the preset tiny.

    \b
    Example:
      duygu demo
      duygu compare texts/ --model tiny --engines torch,jax --out comparison
    """


@duygu.command(short_help="Fine-tune a model with one engine.")
@click.argument("data")
@click.option("--engine", metavar="torch|jax", required=True, help="Framework to train with.")
@click.option("--model", metavar="FOLDER|PRESET", required=True, help="What to start from.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to write.")
@recipe_options
@seed_option
@data_options
@folder_options
@threads_option
@json_option
def train(
    data: str,
    engine: EngineName,
    model: str,
    out: Path,
    recipe: str | None,
    settings: tuple[str, ...],
    seed: int | None,
    split: str | None,
    split_seed: int,
    resume: bool,
    overwrite: bool,
    threads: int,
    as_json: bool,
) -> None:
    """Fine-tune MODEL on DATA with one engine and write a run folder.

    \b
    Example:
      duygu train texts/ --engine torch --model tiny --out run --set epochs=3
    """
    from duygu.training.loop import Job
    from duygu.training.loop import train as run
    from duygu.training.progress import shown_progress
    from duygu.verdict.report import print_run

    job = Job(
        data=data,
        model=model,
        engine=engine,
        recipe=chosen_recipe(model, recipe, settings, seed),
        out=out,
        split=split,
        split_seed=split_seed,
        threads=threads,
        resume=resume,
        overwrite=overwrite,
    )
    with shown_progress() as progress:
        metrics = run(job, progress)
    if as_json:
        _print_json(metrics)
    else:
        print_run(metrics, _console())
    _require_sound([str(out)] if metrics["collapsed"] else [])


@duygu.command(short_help="Score a finished model on labelled texts.")
@click.argument("model", metavar="MODEL|RUN")
@click.argument("data")
@split_option
@predictor_options
@json_option
def evaluate(
    model: str,
    data: str,
    split: str | None,
    engine: str | None,
    precision: Literal["fp32", "bf16"],
    threads: int,
    as_json: bool,
) -> None:
    """Score a finished MODEL, or the model of a RUN, on all documents of DATA or on the test part of a split.

    \b
    Example:
      duygu evaluate run other-texts/
      duygu evaluate run texts/ --split split.json --json
    """
    from duygu.data.corpus import read_corpus
    from duygu.data.split import duplicate_groups, read_split
    from duygu.use.classifier import Classifier, test_part
    from duygu.verdict.report import print_scores

    corpus = read_corpus(data)
    if split is None:
        documents = test_part(model, corpus)
    else:
        documents = read_split(split, corpus.ids, corpus.labels, duplicate_groups(corpus.texts)).test
    classifier = Classifier.open(model, engine, precision=precision, threads=threads)
    for warning in (*corpus.warnings, *classifier.model.warnings):
        _say(warning)
    part = "all" if documents is None else "test"
    _say(f"{classifier.engine.name}: {part} documents of {data}")
    scores = classifier.evaluate(corpus, documents)
    if as_json:
        head = {"schema": 1, "model": model, "data": data, "part": part, "engine": classifier.engine.name}
        _print_json({**head, "precision": precision, **scores.as_json()})
    else:
        print_scores(scores, f"{model} on {data}", _console())


@duygu.command(short_help="Train in both engines and print one table.")
@click.argument("sources", metavar="DATA | RUN RUN...", nargs=-1, required=True)
@click.option("--model", metavar="FOLDER|PRESET", help="What every run starts from; needed with DATA.")
@click.option("--engines", metavar="LIST", default="torch,jax", show_default=True, help="Engines to compare.")
@click.option("--seeds", metavar="LIST", default="13", show_default=True, callback=whole_numbers, help="Seeds to run.")
@click.option("--out", type=click.Path(path_type=Path), help="Comparison folder to write; needed with DATA.")
@recipe_options
@data_options
@folder_options
@threads_option
@json_option
def compare(
    sources: tuple[str, ...],
    model: str | None,
    engines: str,
    seeds: tuple[int, ...],
    out: Path | None,
    recipe: str | None,
    settings: tuple[str, ...],
    split: str | None,
    split_seed: int,
    resume: bool,
    overwrite: bool,
    threads: int,
    as_json: bool,
) -> None:
    """Train MODEL on DATA once per engine and seed, each in a process of its own, and print one table.

    With finished run folders in place of DATA, compare those.

    \b
    Example:
      duygu compare texts/ --model tiny --engines torch,jax --seeds 13,42 --out comparison
      duygu compare run-torch run-jax
    """
    from duygu.verdict.compare import CompareRequest, compare_runs
    from duygu.verdict.compare import compare as run

    first, *others = sources
    if others or (Path(first) / "metrics.json").is_file():
        if model is not None:
            raise click.UsageError("finished runs are compared as they are: leave --model out")
        _print_comparison(compare_runs(sources, out), as_json)
        return
    if model is None or out is None:
        raise click.UsageError("give --model and --out with DATA, or two finished run folders")
    request = CompareRequest(
        data=first,
        model=model,
        out=out,
        recipe=chosen_recipe(model, recipe, settings),
        engines=cast("tuple[EngineName, ...]", tuple(engines.split(","))),
        seeds=seeds,
        split=split,
        split_seed=split_seed,
        threads=threads,
        resume=resume,
        overwrite=overwrite,
    )
    _print_comparison(run(request, _say), as_json)


@duygu.command(short_help="Prove that both engines compute the same.")
@click.argument("model")
@click.argument("data", required=False)
@click.option("--steps", type=click.IntRange(1), default=60, show_default=True, help="Training steps to compare.")
@click.option("--documents", type=click.IntRange(2), default=64, show_default=True, help="Documents to compare on.")
@seed_option
@settings_option
@threads_option
@json_option
def parity(
    model: str,
    data: str | None,
    steps: int,
    documents: int,
    seed: int | None,
    settings: tuple[str, ...],
    threads: int,
    as_json: bool,
) -> None:
    """Prove on MODEL that the two engines compute the same: logits, gradients, and training steps with dropout on.

    Without DATA the bundled corpus is used. Exit code 3 tells that a difference is beyond its limit.

    \b
    Example:
      duygu parity checkpoint/ texts/
    """
    from duygu.data.demo import demo_corpus
    from duygu.recipe import parse_settings
    from duygu.verdict.parity import parity as prove

    result = prove(
        model,
        data or str(demo_corpus()),
        steps=steps,
        documents=documents,
        seed=13 if seed is None else seed,
        settings=parse_settings(settings),
        threads=threads,
        say=_say,
    )
    if as_json:
        _print_json(result.as_json())
    else:
        click.echo(result.table())
    failed = [
        f"{check.name}, {check.parties}: {check.value:.3g}, limit {check.limit:g}"
        for check in result.checks
        if not check.passed
    ]
    if failed:
        raise GateError("\n".join(["the engines differ by more than rounding explains", *failed]))


@duygu.command(short_help="Print label and probabilities of texts.")
@click.argument("model", metavar="MODEL|RUN")
@click.argument("text", metavar="TEXT | - | FILE")
@predictor_options
@json_option
def predict(
    model: str, text: str, engine: str | None, precision: Literal["fp32", "bf16"], threads: int, as_json: bool
) -> None:
    """Print the label and the probabilities of TEXT, of each line of a FILE, or of each line of standard input (-).

    \b
    Example:
      duygu predict run "Profits rose for a third year."
      duygu predict run headlines.txt --json
    """
    from duygu.use.classifier import Classifier

    texts = texts_to_predict(text)
    answers = Classifier.open(model, engine, precision=precision, threads=threads).predict(texts)
    rows = [dict(zip(answers.names, row, strict=True)) for row in answers.probabilities.tolist()]
    predictions = list(zip(answers.labels, rows, strict=True))
    if as_json:
        found = [{"label": label, "probabilities": row} for label, row in predictions]
        _print_json({"schema": "duygu.predictions/1", "model": model, "predictions": found})
        return
    for label, row in predictions:
        cells = (f"{printable(name)}={value:.4f}" for name, value in row.items())
        click.echo("\t".join([printable(label), *cells]))


@duygu.command(short_help="Compare the engines on the bundled texts.")
@click.option("--out", type=click.Path(path_type=Path), default="demo-out", show_default=True, help="Where to write.")
@json_option
def demo(out: Path, as_json: bool) -> None:
    """Train the tiny model on the bundled corpus in both engines and compare them, offline, in about two minutes.

    \b
    Example:
      duygu demo --out demo-out
    """
    from duygu.data.demo import demo_corpus
    from duygu.engines import ENGINES
    from duygu.models.presets import recipe_for
    from duygu.use.classifier import default_engine, installed_engines
    from duygu.verdict.compare import CompareRequest
    from duygu.verdict.compare import compare as run

    engines = installed_engines() or (default_engine(),)
    for missing in sorted(set(ENGINES) - set(engines)):
        _say(f"{missing} is not installed, so {engines[0]} runs alone: pip install 'duygu[{missing}]'")
    recipe = recipe_for("tiny")
    request = CompareRequest(str(demo_corpus()), "tiny", out, recipe, engines, (recipe.seed,), overwrite=True)
    _print_comparison(run(request, _say), as_json)
    run_folder = shlex.quote(str(out / "runs" / f"{engines[0]}-{recipe.seed}"))
    _say(f'next: duygu predict {run_folder} "{DEMO_TEXT}"')


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (``sys.argv`` without ``arguments``) and return the exit code."""
    try:
        code = duygu.main(arguments, "duygu", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    except DuyguError as error:
        _explain(error, str(error))
        return error.exit_code
    except Exception as error:
        _explain(error, f"unexpected {type(error).__name__}: {error} (where: run again with {TRACEBACK}=1)")
        return 1
    return code if isinstance(code, int) else 0


def _explain(error: Exception, message: str) -> None:
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    _say(message)


def _say(message: str) -> None:
    """Talk on standard error, line by line."""
    click.echo(printable(message, keep="\n"), err=True)


def _console() -> Console:
    """Standard output, as wide as its terminal; plain text where it is none."""
    from rich.console import Console

    return Console()


def _print_comparison(comparison: Mapping[str, Any], as_json: bool) -> None:
    """The comparison; then, if a run collapsed, `GateError`."""
    from duygu.verdict.report import print_comparison

    if as_json:
        _print_json(comparison)
    else:
        print_comparison(comparison, _console())
    _require_sound([run["name"] for run in comparison["runs"] if run["collapsed"]])


def _require_sound(collapsed: Sequence[str]) -> None:
    if collapsed:
        raise GateError(f"collapsed, answering every document with one label: {', '.join(collapsed)}")


def _print_json(value: Mapping[str, object]) -> None:
    """One line of ASCII: no terminal or locale can misread it."""
    click.echo(json.dumps(value, allow_nan=False))
