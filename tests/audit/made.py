"""Corpora that are made so that what is wrong with them is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duygu.data.corpus import Corpus, build_corpus
from duygu.data.duplicates import duplicate_groups, exact_groups
from duygu.data.sources import Document
from duygu.verdict.audit.findings import Subject

SYLLABLES = [a + b for a in "bcdfghklmnprstvyz" for b in "aeiouöü"]


def words(count: int, seed: int = 0) -> list[str]:
    """Different words of three syllables."""
    random = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(random.choice(SYLLABLES, 3))] = None
    return list(found)


def texts(count: int, vocabulary: Sequence[str], length: int = 30, seed: int = 0) -> list[str]:
    """Texts of words drawn alike."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(vocabulary, length)) for _ in range(count)]


def corpus(
    contents: Sequence[str], labels: Sequence[str], sources: Sequence[str | None] | None = None, encoding: str = "UTF-8"
) -> Corpus:
    """Documents ``0000``, ``0001``, ... in the order given."""
    known = sources or [None] * len(contents)
    documents = [
        Document(f"{number:04}", label, text, encoding, source=source)
        for number, (text, label, source) in enumerate(zip(contents, labels, known, strict=True))
    ]
    return build_corpus(documents, "made")


def subject(contents: Sequence[str], labels: Sequence[str], sources: Sequence[str | None] | None = None) -> Subject:
    """The same as what is audited."""
    made = corpus(contents, labels, sources)
    return Subject(made, exact_groups(made.texts), duplicate_groups(made.texts))
