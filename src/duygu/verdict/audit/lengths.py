"""How long the texts are, what a limit of tokens cuts, and whether the vocabulary fits their language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duygu.data.tokens import TextTokenizer
from duygu.data.windows import Windows
from duygu.recipe import Recipe
from duygu.verdict.audit.findings import Finding, Subject, level, percent

LIMITS = (128, 256, 512)  # tokens
SHARES = (5, 25, 50, 75, 95, 100)  # percentiles
BARS = 40  # of a histogram
SHORT = 3  # words; our judgement of what is hardly a text
SHORT_LOOK = 0.01  # of documents
LONG = 256  # tokens; where a quarter of the documents is longer, 512 are worth their price (our judgement)
FERTILE = 2.5  # tokens per word; a Turkish vocabulary of 32,000 needs 1.8, see docs/audit.md
UNKNOWN_LOOK, UNKNOWN_STOP = 0.01, 0.05  # of tokens; our judgement
ALL = 2**30  # tokens: nothing is cut

Counts = NDArray[np.integer[Any]]


def word_lengths(subject: Subject) -> Finding:
    """Words of each text."""
    words = _words(subject.corpus.texts)
    short = int((words < SHORT).sum())
    low, middle, high = np.percentile(words, (5, 50, 95)).round().astype(int).tolist()
    sentence = f"A text has {middle} words (median); nine in ten have {low} to {high}, the longest {words.max():,}."
    if short:
        sentence += f" {short} have fewer than {SHORT} words."
    numbers = {**_spread(words), "short": short, "histogram": histogram(words)}
    return Finding("length in words", level(short > SHORT_LOOK * len(words)), sentence, numbers)


def token_lengths(subject: Subject, tokens: Counts, special: int = 2) -> Finding:
    """Tokens of each text, ``tokens`` (N,) with the ``special`` ones; what each limit cuts, and what windows cost."""
    cut = {
        str(limit): {
            "documents": int((tokens > limit).sum()),
            "share": float((tokens > limit).mean()),
            "tokens": float(np.maximum(tokens - limit, 0).sum() / tokens.sum()),
            "windows": _windows_cost(tokens, limit, special),
        }
        for limit in LIMITS
    }
    described = [
        f"{limit} tokens cut {percent(one['share'])} of the documents ({percent(one['tokens'])} of all tokens)"
        for limit, one in cut.items()
    ]
    sentence = f"A text has {round(float(np.median(tokens)))} tokens (median). A limit of {'; of '.join(described)}."
    more = cut[str(LONG)]["windows"] - 1
    if more > 0:
        sentence += f" Read in windows of {LONG} tokens, nothing is cut and {percent(more)} more tokens are computed."
    numbers = {**_spread(tokens), "limits": cut, "histogram": histogram(tokens)}
    return Finding("length in tokens", level(float(np.percentile(tokens, 75)) > LONG), sentence, numbers)


def tokenizer_health(subject: Subject, tokens: Counts, unknown: int) -> Finding:
    """Tokens per word, and how many are the token for what the vocabulary has not.

    ``tokens`` (N,) are without special ones, ``unknown`` is their number over all documents.
    """
    total, words = int(tokens.sum()), int(_words(subject.corpus.texts).sum())
    fertility, share = total / words, unknown / max(total, 1)
    sentence = f"{fertility:.2f} tokens per word; {percent(share)} of the tokens are unknown."
    if fertility > FERTILE:
        sentence += " Words fall to pieces: the vocabulary hardly fits the language of these texts."
    if share > UNKNOWN_LOOK:
        sentence += " What the vocabulary does not know is lost to the model."
    numbers = {
        "tokens": total, "words": words, "tokens_per_word": fertility, "unknown": unknown, "unknown_share": share,
    }  # fmt: skip
    look = fertility > FERTILE or share > UNKNOWN_LOOK
    return Finding("tokenizer", level(look, share > UNKNOWN_STOP), sentence, numbers)


def count_tokens(tokenizer: TextTokenizer, texts: Sequence[str]) -> tuple[Counts, int, int]:
    """(N,) tokens of each text with the special ones, how many of those each has, and all tokens that are unknown."""
    encoded = tokenizer.encode(texts, ALL, 1.0)
    special = int(tokenizer.encode([""], ALL, 1.0).whole[0])
    unknown = 0 if tokenizer.unknown_id is None else int((encoded.ids == tokenizer.unknown_id).sum())
    return encoded.whole, special, unknown


def encodings(subject: Subject) -> Finding:
    """In which encodings the files were, and whether reading them left doubts."""
    counts = dict(subject.corpus.encodings)
    listed = ", ".join(f"{name} ({count})" for name, count in counts.items())
    foreign = [name for name in counts if not name.startswith("UTF-8")]
    sentence = f"All texts were read as {listed}."
    if len(counts) > 1:
        sentence = f"The texts are in {len(counts)} encodings: {listed}; plain ASCII counts as UTF-8."
    if foreign:
        sentence += " duygu reads them rightly; what expects UTF-8 will not."
    return Finding("encodings", level(len(counts) > 1 or bool(foreign)), sentence, {"documents": counts})


def histogram(values: Counts) -> dict[str, object]:
    """Counts of documents in bars of equal width up to the 99th percentile; what is longer is in the last.

    ``edges`` are one more than ``counts``.
    """
    top = max(1.0, float(np.percentile(values, 99)))
    width = max(1, int(np.ceil(top / BARS)))
    edges = np.arange(0, top + width, width)
    counts = np.histogram(np.minimum(values, edges[-1]), edges)[0]
    return {"edges": edges.astype(int).tolist(), "counts": counts.tolist(), "longest": int(values.max())}


def _windows_cost(tokens: Counts, limit: int, special: int) -> float:
    """Tokens computed where documents are read whole in windows of ``limit``, over those where they are cut to it."""
    windows = Windows.overlapping(limit, Recipe().overlap, ALL, special, 0)
    return float(windows.computed(tokens.astype(np.int32)).sum() / np.minimum(tokens, limit).sum())


def _words(texts: Sequence[str]) -> Counts:
    return np.array([len(text.split()) for text in texts], np.int64)


def _spread(values: Counts) -> dict[str, object]:
    found = np.percentile(values, SHARES).tolist()
    return {"mean": float(values.mean()), "percentiles": dict(zip(map(str, SHARES), found, strict=True))}
