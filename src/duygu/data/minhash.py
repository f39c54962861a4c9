"""Which of very many texts may be near copies: MinHash says so, and `duygu.data.duplicates` decides.

A text is the set of its runs of five characters. Two sets have the same smallest value under a random hash function
with the probability of their Jaccard index (Broder 1997), so texts that agree on every value of one band of a few
functions are likely alike (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3). It is written in
numpy, a text at a time: only the signatures are held, half a kilobyte a text, and no package is needed for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.int64]  # (pairs, 2)
Hashes = NDArray[np.uint32]

RUN = 5  # characters
BANDS, ROWS = 32, 4  # of 128 hash functions: at a Jaccard index of .6, 99 pairs in 100 meet in a band; at .1, 1 in 300
ALIKE = 0.5  # Jaccard index, as the signatures estimate it within .04; near copies have .6 and more
NEIGHBOURS = 50  # texts of one band that each is compared with; more copies than that are linked through one another
CHUNK = 2**16  # pairs at a time

_random = np.random.Generator(np.random.Philox(key=0))
_factors = _random.integers(2**64, size=BANDS * ROWS, dtype=np.uint64, endpoint=False) | np.uint64(1)
_terms = _random.integers(2**64, size=BANDS * ROWS, dtype=np.uint64)
_step, _mix = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)  # odd, of random-looking bits


def likely_pairs(texts: Sequence[str]) -> Pairs:
    """Pairs (i < j) of texts whose runs of five characters seem to have a Jaccard index of at least `ALIKE`.

    Of a group of more than `NEIGHBOURS` copies not every pair is given, but enough to connect them.
    """
    signatures = np.array([_signature(_runs(text)) for text in texts], np.uint32).reshape(len(texts), BANDS * ROWS)
    return _candidates(signatures)


def _runs(text: str) -> Hashes:
    """Distinct hashes of a text's runs of characters; of all of it where it is shorter."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    width = min(RUN, len(codes))
    hashes = np.zeros(len(codes) - width + 1, np.uint64)
    for place in range(width):
        hashes = hashes * _step + codes[place : place + len(hashes)]
    hashes = (hashes ^ (hashes >> np.uint64(31))) * _mix
    return np.unique((hashes >> np.uint64(32)).astype(np.uint32))


def _signature(runs: Hashes) -> Hashes:
    """The smallest value of each hash function: multiply-add-shift, which is 2-independent (Dietzfelbinger 1996)."""
    values = runs.astype(np.uint64)[:, None] * _factors + _terms
    return (values.min(axis=0) >> np.uint64(32)).astype(np.uint32)


def _candidates(signatures: Hashes) -> Pairs:
    """Pairs (i < j) that agree on a band, and on `ALIKE` of all values."""
    count = len(signatures)
    found = [np.empty(0, np.int64)]
    for band in range(BANDS):
        keys = np.zeros(count, np.uint64)
        for row in range(ROWS):
            keys = keys * _step + signatures[:, band * ROWS + row]
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for distance in range(1, min(NEIGHBOURS + 1, count)):
            same = ordered[distance:] == ordered[:-distance]
            if not same.any():
                break
            one, other = order[:-distance][same], order[distance:][same]
            found.append(np.minimum(one, other) * count + np.maximum(one, other))
    codes = np.unique(np.concatenate(found))
    pairs = np.stack(np.divmod(codes, max(count, 1)), axis=1)
    parts = (pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK))
    likely = [part[_agreement(signatures, part) >= ALIKE] for part in parts]
    return np.concatenate([np.empty((0, 2), np.int64), *likely])


def _agreement(signatures: Hashes, pairs: Pairs) -> NDArray[np.float64]:
    """(pairs,) share of the hash functions on which a pair agrees: its Jaccard index, estimated."""
    return (signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).mean(axis=1)
