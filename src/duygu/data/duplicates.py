"""Which texts are copies of one another, exactly or nearly.

Two texts are near copies when their character 3-5-grams (TF-IDF) have a cosine of at least .85, or their five-word
shingles a Jaccard index of at least .6; case, punctuation and spacing do not count. Groups are the connected
components. All pairs are compared, and exactly, yet few are computed: features that many texts share are set aside,
and by Cauchy-Schwarz what they can add to a cosine is at most the product of the norms they make, so a sparse product
over the rare features finds every pair that can reach the threshold.
"""

# pyright: basic
# because scipy.sparse and scikit-learn have no types that strict checking could use

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duygu.data.minhash import likely_pairs

IntArray = NDArray[np.int32]
Numbers = NDArray[np.int64]
Pairs = Numbers  # (pairs, 2)
Rows = Any  # scipy.sparse.csr_array (texts, features)

COSINE = 0.85  # of character 3-5-grams, weighted by TF-IDF
JACCARD = 0.6  # of five-word shingles
SHINGLE = 5
EXACT_LIMIT = 20_000  # documents; beyond, MinHash looks for near copies
BLOCK = 20_000  # of them at a time
CHUNK = 512  # rows of the product of all pairs at a time
MARGIN = 0.05  # how far below the threshold what is set aside must stay

_word = re.compile(r"\w+")


def duplicate_groups(texts: Sequence[str]) -> IntArray:
    """(N,) group numbers from 0; copies, exact after normalising or near, share one.

    With more than `EXACT_LIMIT` texts only those are compared that `duygu.data.minhash` calls alike.
    """
    if not len(texts):
        return np.empty(0, np.int32)
    forms, exact = _normal_forms(texts)
    near = _near_pairs(forms) if len(texts) <= EXACT_LIMIT else _near_pairs_of_many(forms)
    return _connected(near, len(forms))[exact]


def exact_groups(texts: Sequence[str]) -> IntArray:
    """(N,) group numbers from 0; texts that are equal after normalising share one."""
    return _normal_forms(texts)[1]


def _normal_forms(texts: Sequence[str]) -> tuple[list[str], IntArray]:
    """The different normal forms, and (N,) the number of each text's."""
    numbers: dict[str, int] = {}
    places = np.array([numbers.setdefault(normal_form(text), len(numbers)) for text in texts], np.int32)
    return list(numbers), places


def copies(groups: IntArray, ids: Sequence[str]) -> list[list[str]]:
    """The ids of every group that has more than one document; ``groups`` (N,) are from `duplicate_groups`."""
    members: dict[int, list[str]] = {}
    for group, id in zip(groups.tolist(), ids, strict=True):
        members.setdefault(group, []).append(id)
    return [group for group in members.values() if len(group) > 1]


def normal_form(text: str) -> str:
    """The text's words, single spaces between, without case; the text itself where it has none.

    All four Turkish letters I, ı, İ and i become one, since capitals alone do not say which was meant.
    """
    folded = text.casefold().replace("\N{COMBINING DOT ABOVE}", "").replace("ı", "i")
    return " ".join(_word.findall(folded)) or text


def _near_pairs_of_many(texts: Sequence[str]) -> Pairs:
    """The same of very many: within groups that MinHash calls alike, as many groups at a time as can be compared."""
    groups = _connected(likely_pairs(texts), len(texts))
    alike = np.flatnonzero(np.bincount(groups)[groups] > 1)
    alike = alike[np.argsort(groups[alike], kind="stable")]
    found = [np.empty((0, 2), np.int64)]
    for block in _blocks(alike, groups):
        numbers: list[int] = block.tolist()
        found.append(np.sort(block[_near_pairs([texts[number] for number in numbers])], axis=1))
    return np.concatenate(found)


def _blocks(documents: Numbers, groups: IntArray) -> Iterator[Numbers]:
    """``documents``, a group after the other, in blocks of whole groups; a group beyond the limit is cut."""
    keys, start = groups[documents], 0
    while start < len(documents):
        end = start + BLOCK
        if end < len(documents) and keys[start] != keys[end]:
            end = int(np.searchsorted(keys, keys[end]))
        yield documents[start:end]
        start = end


def _connected(pairs: Pairs, count: int) -> IntArray:
    """(count,) groups that the pairs connect."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    groups: IntArray = connected_components(graph, directed=False)[1]
    return groups.astype(np.int32)


def _near_pairs(texts: Sequence[str]) -> Pairs:
    """Pairs (i < j) of different normal forms that are near copies."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.preprocessing import normalize

    characters = _features(TfidfVectorizer(analyzer="char", ngram_range=(3, 5), lowercase=False), texts)
    shingles = _features(CountVectorizer(analyzer=_shingles, binary=True), texts)  # pyright: ignore[reportArgumentType]
    similar = _pairs_above(characters, COSINE)
    # inter / (a + b - inter) >= t and a + b >= 2 sqrt(ab) give a cosine of the indicator vectors >= 2t / (1 + t)
    likely = _pairs_above(normalize(shingles), 2 * JACCARD / (1 + JACCARD))
    return np.concatenate([similar, likely[_jaccard(shingles, likely) >= JACCARD]])


def _features(vectorizer: Any, texts: Sequence[str]) -> Rows:
    """(texts, features); no columns where no text has a feature."""
    from scipy.sparse import csr_array

    try:
        return csr_array(vectorizer.fit_transform(texts), dtype=np.float64)
    except ValueError:  # an empty vocabulary
        return csr_array((len(texts), 0))


def _shingles(text: str) -> list[str]:
    """Every run of five words; a shorter text is one run."""
    words = text.split()
    return [" ".join(words[start : start + SHINGLE]) for start in range(max(1, len(words) - SHINGLE + 1))]


def _pairs_above(rows: Rows, cosine: float) -> Pairs:
    """Every pair i < j of rows, each of norm 1, whose product is at least ``cosine``."""
    found = [np.empty((0, 2), np.int64)]
    for candidates in _candidates(rows, cosine):
        for start in range(0, len(candidates), 8 * CHUNK):
            some = candidates[start : start + 8 * CHUNK]
            products = rows[some[:, 0]].multiply(rows[some[:, 1]]).sum(axis=1)
            found.append(some[products >= cosine - 1e-9])
    return np.concatenate(found)


def _candidates(rows: Rows, cosine: float) -> Iterator[Pairs]:
    """Every pair whose product can reach ``cosine``, a chunk of rows at a time."""
    frequencies = np.bincount(rows.indices, minlength=rows.shape[1])
    common, heavy = _set_aside(rows, frequencies, cosine)
    norms = np.sqrt(_squares(rows, common))
    rare = rows[:, (frequencies > 1) & ~common].tocsr()
    rare_T = rare.T.tocsr()
    for start in range(0, rows.shape[0], CHUNK):
        product = (rare[start : start + CHUNK] @ rare_T).tocoo()
        left, right = product.row.astype(np.int64) + start, product.col.astype(np.int64)
        reachable = product.data + norms[left] * norms[right] >= cosine - 1e-9
        yield np.stack([left, right], 1)[reachable & (left < right)]
    rows_T = rows[:, frequencies > 1].T.tocsr()
    for start in range(0, len(heavy), CHUNK):
        some = heavy[start : start + CHUNK]
        product = (rows[some][:, frequencies > 1] @ rows_T).tocoo()
        left, right = some[product.row], product.col.astype(np.int64)
        reachable = (product.data >= cosine - 1e-9) & (left != right)
        yield np.stack([np.minimum(left, right), np.maximum(left, right)], 1)[reachable]


def _set_aside(rows: Rows, frequencies: NDArray[np.int64], cosine: float) -> tuple[NDArray[np.bool_], Pairs]:
    """Which features to set aside as common, and the rows that they dominate, which are compared in full.

    The frequency from which a feature counts as common is the one that makes the two products cheapest.
    """
    work = np.asarray(frequencies, np.float64)
    per_row = rows.copy()
    per_row.data = work[rows.indices]
    full = per_row.sum(axis=1)
    best = (np.inf, np.zeros(len(work), np.bool_), np.empty(0, np.int64))
    for exponent in range(1, 2 + int(work.max(initial=1)).bit_length()):
        common = work > 2**exponent
        heavy = np.flatnonzero(_squares(rows, common) > cosine - MARGIN)
        cost = float((work[~common] ** 2).sum() + full[heavy].sum())
        if cost < best[0]:
            best = (cost, common, heavy)
    return best[1], best[2]


def _squares(rows: Rows, columns: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(rows,) squared norm that these columns make."""
    return np.asarray(rows.power(2) @ columns.astype(np.float64))


def _jaccard(rows: Rows, pairs: Pairs) -> NDArray[np.float64]:
    """(pairs,) Jaccard index of rows of ones."""
    sizes = rows.sum(axis=1)
    both = rows[pairs[:, 0]].multiply(rows[pairs[:, 1]]).sum(axis=1)
    return both / (sizes[pairs[:, 0]] + sizes[pairs[:, 1]] - both)
