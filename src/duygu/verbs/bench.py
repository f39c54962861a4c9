"""``duygu bench``: both engines against the tools that one would pick instead."""

from __future__ import annotations

from pathlib import Path

import click

from duygu.options import folder_options, json_option, threads_option
from duygu.verbs.output import console, print_json


@click.command(short_help="Measure the engines against other tools.")
@click.option("--workloads", metavar="LIST", default="W1,W2,W3,W4", show_default=True, help="What to measure.")
@click.option("--contenders", metavar="LIST", default="", help="Whom to measure, by name; else all.")
@click.option("--rounds", metavar="N", type=click.IntRange(1), default=3, show_default=True, help="Repeats of each.")
@click.option("--quick", is_flag=True, help="Few steps, one round, the strongest rivals that are installed.")
@click.option("--documents", metavar="N", type=click.IntRange(1), help="Texts to score; else 256, or 64 with --quick.")
@click.option("--data", type=click.Path(path_type=Path), help="Labelled texts to train on.")
@click.option("--texts", type=click.Path(path_type=Path), help="Texts to score: .jsonl, .jsonl.gz or lines.")
@click.option("--model", metavar="FOLDER|PRESET", help="Measure this model in place of random weights.")
@click.option("--vocabulary", type=click.Path(path_type=Path), help="Folder with the random weights' vocabulary.")
@click.option("--out", type=click.Path(path_type=Path), default="bench.json", show_default=True, help="What to write.")
@folder_options
@threads_option
@json_option
def bench(
    workloads: str,
    contenders: str,
    rounds: int,
    quick: bool,
    documents: int | None,
    data: Path | None,
    texts: Path | None,
    model: str | None,
    vocabulary: Path | None,
    out: Path,
    resume: bool,
    overwrite: bool,
    threads: int,
    as_json: bool,
) -> None:
    """Measure duygu's engines side by side with other tools, each in a process and an environment of its own.

    W1 trains a model of BERTurk's shape, W2 scores texts with it, W3 does both with MiniLM, W4 tokenises. Texts that
    are not named come from ../shared, or from the bundled corpus. Environments are made on first use and kept.

    \b
    Example:
      duygu bench --quick
      duygu bench --workloads W1,W2 --out bench.json
    """
    from duygu.scale.bench import BenchRequest, require_answers, run_bench
    from duygu.scale.report import print_result
    from duygu.scale.workloads import Sources
    from duygu.training.progress import shown_progress

    request = BenchRequest(
        out=out,
        workloads=_names(workloads),
        contenders=_names(contenders),
        rounds=rounds,
        quick=quick,
        threads=threads,
        documents=documents or 0,
        sources=Sources(data, texts, model, vocabulary),
        resume=resume,
        overwrite=overwrite,
    )
    with shown_progress() as progress:
        result = run_bench(request, progress)
    if as_json:
        print_json(result)
    else:
        print_result(result, console())
    require_answers(result)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
