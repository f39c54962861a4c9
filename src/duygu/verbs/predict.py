"""``duygu predict``: labels and probabilities of texts."""

from __future__ import annotations

from typing import Literal

import click

from duygu.errors import printable
from duygu.options import json_option, predictor_options, texts_to_predict
from duygu.verbs.output import print_json


@click.command(short_help="Print label and probabilities of texts.")
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
        print_json({"schema": "duygu.predictions/1", "model": model, "predictions": found})
        return
    for label, row in predictions:
        cells = (f"{printable(name)}={value:.4f}" for name, value in row.items())
        click.echo("\t".join([printable(label), *cells]))
