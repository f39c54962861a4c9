"""What is wrong with a corpus, found before anything is trained on it.

`audit` reads DATA once and asks one question after another; each answer is a `Finding` with a level. Nothing in DATA is
ever changed. A check is a function of the `Subject` in one of the modules here, and its line in `_findings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from duygu.data.corpus import Corpus, read_corpus, read_unlabelled
from duygu.data.duplicates import duplicate_groups, exact_groups
from duygu.data.sources import BY_DEFAULT, DataFormat
from duygu.data.split import IntArray, Split, read_split
from duygu.data.tokens import TextTokenizer
from duygu.errors import DataError
from duygu.models.presets import PRESETS
from duygu.models.source import find_model
from duygu.training.progress import SILENT, Progress
from duygu.verdict.audit import copies, labels, lengths, sources, words
from duygu.verdict.audit.findings import Audit, Finding, Subject
from duygu.verdict.audit.folds import drawn, fold_numbers, out_of_fold
from duygu.verdict.baselines import LINEAR, predictors
from duygu.verdict.metrics import FloatArray

__all__ = ["Audit", "Finding", "audit", "brief_audit"]


def audit(
    data: str | Path,
    *,
    split: str | Path | None = None,
    model: str | None = None,
    labelled: bool = True,
    format: DataFormat = BY_DEFAULT,
    progress: Progress = SILENT,
) -> Audit:
    """Look into a folder or a table of texts, as `duygu.read_corpus` reads them.

    ``split`` is a file that `duygu.read_split` reads: its test part is searched for texts that were trained on.
    ``model`` (a preset, a folder with a tokenizer, a model of the hub) counts tokens. Of a table that is not
    ``labelled``, what needs no labels is found. Raises `DataError` and `ModelError`.
    """
    if split is not None and not labelled:
        raise DataError("a split cannot be checked without labels", "--split --unlabelled", "leave one of the two out")
    progress.phase("reading")
    corpus = read_corpus(data, **format.as_dict()) if labelled else read_unlabelled(data, format)
    progress.phase("looking for copies")
    near = duplicate_groups(corpus.texts)
    given = None if split is None else read_split(split, corpus.ids, corpus.labels, near, corpus_digest=corpus.digest)
    subject = Subject(corpus, exact_groups(corpus.texts), near)
    tokenizer = None if model is None else _tokenizer(model, corpus, progress)
    found = [*_of_texts(subject, tokenizer, progress), *(_of_labels(subject, given, progress) if labelled else ())]
    return _audit(str(data), corpus, given, model, found)


def brief_audit(data: str, corpus: Corpus, near: IntArray, split: Split | None) -> Audit:
    """What can be found without cross-validation, for the page of a comparison; ``near`` are the groups of copies."""
    subject = Subject(corpus, exact_groups(corpus.texts), near)
    found = [
        lengths.encodings(subject),
        lengths.word_lengths(subject),
        copies.exact_copies(subject),
        copies.near_copies(subject),
        labels.balance(subject),
        copies.conflicts(subject),
    ]
    if split is not None:
        linear = predictors(corpus.texts, corpus.labels, len(corpus.names))[LINEAR]
        found.append(copies.leakage(subject, split, linear(split.train, split.test)))  # as compare's own baseline
    return _audit(data, corpus, split, None, found)


def _audit(data: str, corpus: Corpus, given: Split | None, model: str | None, found: Sequence[Finding]) -> Audit:
    counts = np.bincount(corpus.labels, minlength=len(corpus.names)).tolist() if corpus.names else []
    return Audit(
        data=data,
        documents=len(corpus.texts),
        labels=dict(zip(corpus.names, counts, strict=True)),
        digest=corpus.digest,
        split=None if given is None else given.digest,
        model=model,
        findings=tuple(found),
        warnings=(*corpus.warnings, *(given.warnings if given else ())),
    )


def _of_texts(subject: Subject, tokenizer: TextTokenizer | None, progress: Progress) -> Iterator[Finding]:
    """What needs no labels."""
    yield lengths.encodings(subject)
    yield lengths.word_lengths(subject)
    if tokenizer is not None:
        progress.phase("tokenising")
        whole, special, unknown = lengths.count_tokens(tokenizer, subject.corpus.texts)
        yield lengths.token_lengths(subject, whole, special)
        yield lengths.tokenizer_health(subject, whole - special, unknown)
    yield copies.exact_copies(subject)
    yield copies.near_copies(subject)


def _of_labels(subject: Subject, split: Split | None, progress: Progress) -> Iterator[Finding]:
    """What labels are needed for, and perhaps a split."""
    yield labels.balance(subject)
    yield copies.conflicts(subject)
    corpus, documents = subject.corpus, drawn(subject)
    folds = fold_numbers(subject, documents)
    known = predictors(corpus.texts, corpus.labels, len(corpus.names), corpus.sources)
    progress.phase("cross-validating baselines")
    crossed = {name: out_of_fold(ask, documents, folds, len(corpus.names)) for name, ask in known.items()}
    tested: dict[str, FloatArray] = {}
    if split is not None:
        progress.phase("testing baselines on the given split")
        seen = np.concatenate([split.train, split.validation])
        tested = {name: ask(seen, split.test) for name, ask in known.items()}
        yield copies.leakage(subject, split, tested[LINEAR])
    yield labels.baseline_scores(subject, documents, crossed, split, tested)
    yield sources.source_shortcut(subject, documents, folds)
    progress.phase("leaving sources out")
    yield from sources.left_out_sources(subject, documents, crossed[LINEAR], known[LINEAR])
    progress.phase("looking for a word list behind the labels")
    yield words.word_list(subject, documents, folds, crossed[LINEAR])
    yield labels.doubtful_labels(subject, documents, crossed[LINEAR])


def _tokenizer(model: str, corpus: Corpus, progress: Progress) -> TextTokenizer:
    """Of a preset, trained on these texts; of a folder, which need hold nothing else; of a model on the hub."""
    if model in PRESETS:
        return TextTokenizer.train(corpus.texts, PRESETS[model].vocabulary)
    folder = Path(model).expanduser()
    return TextTokenizer.from_folder(folder if folder.is_dir() else find_model(model, progress).folder)
