"""README of a model folder: what the model learnt from, how, what it scored, what it cannot do, how to load it.

Every line is read from the run's own record. Names come from the user's data and could hold markup, so they stand in
code spans or in quoted strings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from duygu.errors import printable
from duygu.models.adapter_folder import leaves_adapters
from duygu.recipe import Recipe
from duygu.verdict.metrics import Scores

Json = Mapping[str, Any]


def model_card(metrics: Json, data: Json, environment: Json, recipe: Recipe) -> str:
    """Markdown with a front matter that the hub reads, from the content of a run's files."""
    test, adapters = Scores.from_json(metrics["test"]), leaves_adapters(metrics["model"], recipe)
    sections = (
        ("Scores", _scores(test)),
        ("Confidence", _confidence(metrics, test)),
        ("Data", _data(data)),
        ("Training", _training(metrics, environment, recipe)),
        ("Limits", _limits(metrics, data, test)),
        ("How to load it", LOAD_ADAPTERS.format(labels=len(test.labels)) if adapters else LOAD),
    )
    parts = [_front(environment, adapters), "# Text classifier", _summary(metrics, test)]
    parts += [f"## {title}\n\n{text}" for title, text in sections]
    return "\n\n".join(parts) + "\n"


LOAD = """```python
from duygu import Classifier
Classifier.open("model").predict(["a text"])  # calibrated, long texts read as in training

from transformers import pipeline
pipeline("text-classification", "model")("a text", truncation=True)  # not calibrated; of a long text the head only
```"""


LOAD_ADAPTERS = """These are adapters; the model that they belong to is named in `adapter_config.json` and must exist.

```python
from duygu import Classifier
Classifier.open("model").predict(["a text"])  # calibrated, long texts read as in training

from peft import AutoPeftModelForSequenceClassification
AutoPeftModelForSequenceClassification.from_pretrained("model", num_labels={labels})  # not calibrated
```"""


def _front(environment: Json, adapters: bool) -> str:
    """YAML for the hub; a JSON string is a YAML string, whatever it holds."""
    revision = environment.get("model_revision")
    origin = [f"base_model: {json.dumps(str(revision).partition('@')[0])}"] if revision else []
    lines = [f"library_name: {'peft' if adapters else 'transformers'}", "pipeline_tag: text-classification", *origin]
    return "\n".join(["---", *lines, "---"])


def _summary(metrics: Json, test: Scores) -> str:
    low, high = test.accuracy_interval
    found = f"{test.accuracy:.1%} of {test.documents} test documents right (95 % interval {low:.1%} to {high:.1%})"
    collapsed = " **The run collapsed: almost every document got the same label.**" if metrics["collapsed"] else ""
    return f"Answers with one of {_named(test.labels)}: {found}.{collapsed}"


def _scores(test: Scores) -> str:
    low, high = test.accuracy_interval
    whole = [
        ("accuracy", f"{test.accuracy:.4f} ({low:.4f} to {high:.4f}, Wilson, 95 %)"),
        ("macro-F1", f"{test.macro_f1:.4f}"),
        ("Matthews correlation", f"{test.mcc:.4f}"),
        ("log loss", f"{test.loss:.4f}"),
    ]
    labels = (
        (_code(name), f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", str(one.support))
        for name, one in zip(test.labels, test.per_label, strict=True)
    )
    by_label = _table(("label", "precision", "recall", "F1", "documents"), labels)
    return f"{_table((f'{test.documents} test documents', ''), whole)}\n\n{by_label}"


def _confidence(metrics: Json, test: Scores) -> str:
    found = (
        f"Brier score {test.calibration.brier:.4f}, calibration error {test.calibration.ece:.4f} as the model answers."
    )
    temperature = f"{metrics['temperature']:.4f}, fitted on {metrics['validation']['documents']} validation documents"
    return f"{found} duygu divides the logits by {temperature} (`calibration.json`); this changes no label."


def _data(data: Json) -> str:
    parts = ", ".join(f"{name} {len(ids)}" for name, ids in data["parts"].items())
    labels = ", ".join(f"{_code(name)} {count}" for name, count in data["labels"].items())
    rows = [
        ("documents", str(data["documents"])),
        ("labels", labels),
        ("parts", parts),
        ("longer than the limit, so cut", str(data["truncated"])),
        ("SHA-256 of texts, labels and ids", _code(data["corpus"])),
        ("SHA-256 of the split", f"{_code(data['split'])}, seed {data['split_seed']}"),
    ]
    return _table(("", ""), rows)


def _training(metrics: Json, environment: Json, recipe: Recipe) -> str:
    engine = ", ".join(metrics[name] for name in ("engine", "through", "precision") if name in metrics)
    versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
    rows = [
        ("began with", _code(environment.get("model_revision") or metrics["model"])),
        ("engine", f"{engine}, on {_code(environment.get('device', 'unknown'))}"),
        ("kept", f"epoch {metrics['kept_epoch']} of {recipe.epochs}"),
        ("versions", versions),
    ]
    return f"{_table(('', ''), rows)}\n\n```toml\n{recipe.to_toml()}```"


def _limits(metrics: Json, data: Json, test: Scores) -> str:
    low, high = test.accuracy_interval
    fewest = min(range(len(test.labels)), key=lambda number: test.per_label[number].f1)
    lines = [
        f"{test.documents} test documents leave the accuracy open between {low:.1%} and {high:.1%}, and only for texts "
        "like these: another source or a later time can be harder.",
        f"It is weakest on {_code(test.labels[fewest])} (F1 {test.per_label[fewest].f1:.3f}).",
        f"This is one run with seed {metrics['seed']}; another seed gives another model.",
        "It knows no label but its own and gives one to every text, whatever the text is about.",
    ]
    lines += [_escaped(str(warning)) for warning in data["warnings"]]
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(_code, names))


def _code(text: object) -> str:
    """A code span on one line, which a table's cell can hold."""
    return f"`{printable(str(text)).replace('`', chr(39)).replace('|', '/')}`"


def _escaped(text: str) -> str:
    """A sentence that may quote names: what could be markup stands as it is."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|~&#" else c for c in printable(text))
