"""Turkish letters in a tokenizer that lower-cases: I and ı are one letter, İ and i another, and accents are letters.

No file of a model says its language, so the vocabulary does: of the entries of a Turkish one about 18 in 100 hold an ı,
of an English one none, of one for a hundred languages about 1. The rules are steps of ``tokenizer.json``, so that every
tool that loads a saved result follows them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Step = dict[str, Any]  # one step of a normaliser, as the tokenizers library writes it

SHARE = 0.03  # of the entries that are words or their parts; a vocabulary of bare letters has 1 in 29
ACCENTED = "çğöşü"
LETTERS: list[Step] = [
    {"type": "Replace", "pattern": {"String": "İ"}, "content": "i"},
    {"type": "Replace", "pattern": {"Regex": "i\u0307+"}, "content": "i"},  # what str.lower() makes of İ
    {"type": "Replace", "pattern": {"String": "I"}, "content": "ı"},
]
_COMPOSED = {"NFD": "NFC", "NFKD": "NFKC"}


def is_turkish(entries: Iterable[str]) -> bool:
    """Whether a vocabulary is that of a language which tells ı from i."""
    words = [entry for entry in (entry.removeprefix("##") for entry in entries) if entry.isalpha()]
    return sum("ı" in word for word in words) > SHARE * len(words)


def with_turkish_letters(steps: Sequence[Step], entries: Sequence[str]) -> tuple[list[Step], list[str]]:
    """The steps of a normaliser as the vocabulary's language wants them, and what the user should know of that.

    They stay as they are where the vocabulary is not Turkish, and where they neither lower-case nor strip accents.
    """
    lowers, strips = any(map(_lowers, steps)), any(map(_strips, steps))
    if not (lowers or strips) or not is_turkish(entries):
        return list(steps), []
    ready = list(steps[: len(LETTERS)]) == LETTERS
    changed = [*([] if ready or not lowers else LETTERS), *map(_accented, _without_stripping(steps))]
    said: list[str] = []
    if lowers and not ready:
        said.append("an uncased Turkish model, as its normaliser and its vocabulary tell: I becomes ı and İ becomes i")
    if strips:
        said.append("an uncased Turkish model: accents stay, though its files strip them (kâr is profit, kar is snow)")
    if changed != list(steps) and not any(letter in entry for entry in entries for letter in ACCENTED):
        said.append(f"the vocabulary has none of {', '.join(ACCENTED)}: words with them are unknown to this model")
    return changed, said


def _lowers(step: Step) -> bool:
    return step.get("type") == "Lowercase" or (step.get("type") == "BertNormalizer" and bool(step.get("lowercase")))


def _strips(step: Step) -> bool:
    """A BERT normaliser that is not told whether to strip accents strips them where it lower-cases."""
    own = step.get("strip_accents")
    return step.get("type") == "StripAccents" or (
        step.get("type") == "BertNormalizer" and bool(_lowers(step) if own is None else own)
    )


def _without_stripping(steps: Sequence[Step]) -> list[Step]:
    """Without the steps that strip accents, and without taking letters apart for them."""
    kept = [step for step in steps if step.get("type") != "StripAccents"]
    if len(kept) == len(steps):
        return kept
    return [{**step, "type": _COMPOSED.get(str(step.get("type")), step.get("type"))} for step in kept]


def _accented(step: Step) -> Step:
    return {**step, "strip_accents": False} if step.get("type") == "BertNormalizer" else step
