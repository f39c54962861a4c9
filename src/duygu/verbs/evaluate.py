"""``duygu evaluate``: scores of a finished model on labelled texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from duygu.options import format_options, json_option, predictor_options, split_option
from duygu.verbs.output import console, print_json, say

if TYPE_CHECKING:
    from duygu.data.sources import DataFormat


@click.command(short_help="Score a finished model on labelled texts.")
@click.argument("model", metavar="MODEL|RUN")
@click.argument("data")
@split_option
@format_options
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
    format: DataFormat,
) -> None:
    """Score a finished MODEL, or the model of a RUN, on all documents of DATA or on the test part of a split.

    A table that the RUN itself was trained on is read as it was then, unless its columns are named anew.

    \b
    Example:
      duygu evaluate run other-texts/
      duygu evaluate run texts/ --split split.json --json
    """
    from duygu.data.corpus import read_corpus
    from duygu.data.split import duplicate_groups, read_split
    from duygu.training.run_folder import recorded_format
    from duygu.use.classifier import Classifier, model_folder, test_part
    from duygu.verdict.report import print_scores

    corpus = read_corpus(data, **recorded_format(model_folder(model).parent, data, format).as_dict())
    if split is None:
        documents = test_part(model, corpus)
    else:
        groups = duplicate_groups(corpus.texts)
        documents = read_split(split, corpus.ids, corpus.labels, groups, corpus_digest=corpus.digest).test
    classifier = Classifier.open(model, engine, precision=precision, threads=threads)
    for warning in (*corpus.warnings, *classifier.model.warnings):
        say(warning)
    part = "all" if documents is None else "test"
    say(f"{classifier.engine.name}: {part} documents of {data}")
    scores = classifier.evaluate(corpus, documents)
    if as_json:
        head = {"schema": 1, "model": model, "data": data, "part": part, "engine": classifier.engine.name}
        print_json({**head, "precision": precision, **scores.as_json()})
    else:
        print_scores(scores, f"{model} on {data}", console())
