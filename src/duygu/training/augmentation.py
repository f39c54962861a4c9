"""Other words for the same label: some words masked, some exchanged with their neighbour, anew in every epoch.

Lengths never change: a mask token stands for every piece of a word that is left out, as in whole-word masking. So the
plan, which is made of lengths, stays the same, and no shape is compiled for it. Whole words move, never a piece of one:
a suffix stays with its stem. Only plain words are touched; numbers, signs, number words and negations carry the label
of a market text and stay where they are, also negated verbs (artmadı, artmayan, artmıyor) and -sız.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from duygu.recipe import Recipe
from duygu.training.plan import IntArray

SPELLED = 1 << 16  # words whose verdict is kept

NUMBERS = re.compile(
    "(bir|iki|üç|dört|beş|altı|yedi|sekiz|dokuz|on|yirmi|otuz|kırk|elli|altmış|yetmiş|seksen|doksan|yüz|bin|buçuk|yarım"
    "|çeyrek|one|two|three|four|five|six|seven|eight|nine|ten|hundred|thousand|million|billion|percent"
    "|(milyon|milyar|trilyon|yüzde).*)$"
)
NEGATIONS = re.compile(
    "(değil|yok|hiç|hayır|asla)|(no|not|never|none|nor|neither|without|cannot|don|doesn|didn|isn|aren|wasn|won)$"
)
# -ma/-me is also the infinitive's (artma, artması, artmaya); here it is taken as negation only where a verb ending
# that no noun has follows.
NEGATED = re.compile(
    r"[^\W\d_]{2}(m[ae](d[ıi]|d[ae]n|m[ae]|m[ıi]ş|y[ae][nclmr]|y[ıi][np]|z|s[ıi]n(l[ae]r)?$)|m[ıiuü]yor|s[ıiuü]z)"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What augmentation must know of a tokenizer."""

    begins: NDArray[np.bool_]  # (V,) whether a token begins a word
    special: NDArray[np.bool_]  # (V,) whether it stands for no text
    mask: int  # the id that stands for a word left out
    spell: Callable[[Sequence[int]], str]  # ids of a word to its text


class Augmentation:
    """The words of documents, changed as a recipe says; a pure function of (seed, epoch, document)."""

    def __init__(self, vocabulary: Vocabulary, recipe: Recipe) -> None:
        self._vocabulary, self._recipe = vocabulary, recipe
        self._plain = lru_cache(SPELLED)(lambda word: is_plain(vocabulary.spell(word)))

    def __call__(self, ids: IntArray, number: int, epoch: int) -> IntArray:
        """The ids (T,) of document ``number`` as ``epoch``, counted from 1, sees them: (T,)."""
        words = self._words(ids)
        plain = np.array([self._plain(tuple(word.tolist())) for word in words])
        generator = np.random.Generator(np.random.Philox(key=[self._recipe.seed, epoch << 32 | number]))
        masked, swapped = (generator.random(len(words)) for _ in range(2))
        for index in np.flatnonzero(plain & (masked < self._recipe.word_dropout)):
            words[index] = np.full_like(words[index], self._vocabulary.mask)
        order = exchange(plain, swapped < self._recipe.word_swap)
        return np.concatenate([words[index] for index in order])

    def _words(self, ids: IntArray) -> list[IntArray]:
        """The document cut into words; a special token is one of its own."""
        special = self._vocabulary.special[ids]
        begins = self._vocabulary.begins[ids] | special
        begins[1:] |= special[:-1]
        return np.split(ids, np.flatnonzero(begins[1:]) + 1)


def augmentation(vocabulary: Callable[[], Vocabulary], recipe: Recipe) -> Augmentation | None:
    """What the recipe wants done to words, or None; ``vocabulary`` is only asked for where it is needed."""
    return Augmentation(vocabulary(), recipe) if recipe.word_dropout or recipe.word_swap else None


def exchange(plain: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> list[int]:
    """An order of words in which each chosen one has changed places with the next, where both are plain; no word
    moves twice."""
    order = list(range(len(plain)))
    index = 0
    while index + 1 < len(order):
        if chosen[index] and plain[index] and plain[index + 1]:
            order[index], order[index + 1] = index + 1, index
            index += 1
        index += 1
    return order


def is_plain(word: str) -> bool:
    """Whether a word may be left out or moved: letters only, no number and no negation, as far as its form tells."""
    text = word.strip().replace("İ", "i").replace("I", "ı").lower()
    return text.isalpha() and not (NUMBERS.match(text) or NEGATIONS.match(text) or NEGATED.search(text))
