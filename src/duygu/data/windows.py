"""Windows: how a text that is longer than the model can read is read in parts. Plain arithmetic on token ids.

Every window of a longer document is full and framed by the document's own special tokens. Each begins ``step`` tokens
after the one before it; the last ends where the document ends, so it may repeat more. A document that fits is a window
itself and is not touched. What is done with the answers is the engines' affair: their mean is the document's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Windows:
    """How documents are divided; lengths are in tokens, special ones included."""

    length: int  # of a window
    step: int  # from the beginning of a window to that of the next, at least 1
    most: int  # windows of one document
    before: int  # special tokens at a document's beginning
    after: int  # and at its end

    @classmethod
    def overlapping(cls, length: int, overlap: float, most: int, before: int, after: int) -> Windows:
        """Windows of which each repeats the share ``overlap`` of the text of the one before it."""
        room = length - before - after
        return cls(length, max(1, room - round(room * overlap)), most, before, after)

    @property
    def limit(self) -> int:
        """The longest document that ``most`` windows hold."""
        return self.length + (self.most - 1) * self.step

    def counts(self, lengths: IntArray) -> IntArray:
        """(N,) windows of documents of these lengths (N,)."""
        return 1 + np.maximum(0, -(-(lengths - self.length) // self.step))

    def rows(self, lengths: IntArray) -> IntArray:
        """(R,) lengths of all windows of documents of these lengths (N,), one document after the other."""
        return np.repeat(np.minimum(lengths, self.length), self.counts(lengths))

    def computed(self, lengths: IntArray) -> IntArray:
        """(N,) tokens that all windows of each document have together."""
        return np.minimum(lengths, self.length) * self.counts(lengths)

    def divide(self, ids: IntArray) -> list[IntArray]:
        """The windows of a document (T,), from its beginning to its end."""
        if len(ids) <= self.length:
            return [ids]
        head, text, tail = np.split(ids, [self.before, len(ids) - self.after])
        room = self.length - self.before - self.after
        last = len(text) - room
        starts = [*range(0, last, self.step), last]
        return [np.concatenate([head, text[start : start + room], tail]) for start in starts]

    def split(self, documents: Sequence[IntArray]) -> tuple[list[IntArray], IntArray, IntArray]:
        """The windows of several documents: their ids, whose each is (R,) and which of that document's (R,), from 0."""
        parts = [self.divide(ids) for ids in documents]
        owners = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
        places = np.concatenate([np.arange(len(part), dtype=np.int32) for part in parts])
        return [window for part in parts for window in part], owners, places
