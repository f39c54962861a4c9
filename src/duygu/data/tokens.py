"""From texts to token ids, once per run, into one flat array.

A tokenizer is the ``tokenizers`` library's own, read from ``tokenizer.json`` or from a bare ``vocab.txt``. Cleaning
(`duygu.data.corpus.clean`) stands at the head of its normaliser and is saved with it, so that ``AutoTokenizer`` on the
saved folder gives the same ids. A document longer than the limit keeps its head and its tail, the special tokens around
them; one within the limit is never touched. Where documents are read in windows, the limit is what these hold.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from tokenizers.trainers import WordPieceTrainer

from duygu.data.corpus import clean, replace_surrogates
from duygu.data.tokenizer_files import Json, bert_content, open_content, read_content, without_panic_talk
from duygu.data.windows import Windows
from duygu.errors import ModelError
from duygu.files import make_folder, write_text

IntArray = NDArray[np.int32]
LongArray = NDArray[np.int64]

CHUNK = 1024  # texts handed to the library at once
CASED: Json = {"do_lower_case": False, "strip_accents": False}


@dataclass(frozen=True, slots=True)
class Encoded:
    """N documents as token ids, special tokens included, none longer than the limit."""

    ids: IntArray  # (total,) one document after the other
    offsets: LongArray  # (N + 1,) where each begins, and the end
    whole: IntArray  # (N,) length before truncation
    windows: Windows | None = None  # how a model reads a document that is longer than it takes at once

    @property
    def lengths(self) -> IntArray:
        """(N,) tokens of each document."""
        return np.diff(self.offsets).astype(np.int32)

    @property
    def computed(self) -> IntArray:
        """(N,) tokens that a model computes for each document: with windows, what these repeat counts again."""
        return self.lengths if self.windows is None else self.windows.computed(self.lengths)

    def take(self, documents: IntArray) -> list[IntArray]:
        """The ids of the given documents, each a view."""
        return [self.ids[self.offsets[document] : self.offsets[document + 1]] for document in documents]


class TextTokenizer:
    """The tokenizer of one model: cleans, encodes, and is saved as Hugging Face tools read it."""

    def __init__(self, content: Json, roles: Mapping[str, str], warnings: Sequence[str], where: str) -> None:
        """``content`` is that of a ``tokenizer.json``, ``roles`` maps "cls_token" to its token, and so on."""
        self.warnings = tuple(warnings)
        self.roles = dict(roles)
        self._where = where
        with _library_errors(where), without_panic_talk():
            self._cleaning = open_content(content, cleaning=True)
            self._plain = open_content(content, cleaning=False)
            self._prefix, self._suffix = _special_ids(self._plain)
        added = [token.content for token in self._plain.get_added_tokens_decoder().values()]
        self._added = re.compile("|".join(map(re.escape, added))) if added else None

    @classmethod
    def from_folder(cls, folder: Path) -> TextTokenizer:
        """Read ``tokenizer.json``, or ``vocab.txt`` with ``tokenizer_config.json`` as BERT's are.

        Raises `ModelError` where there is neither, or where a file is broken.
        """
        content, roles, warnings, where = read_content(folder)
        return cls(content, roles, warnings, where)

    @classmethod
    def train(cls, texts: Sequence[str], vocabulary: int) -> TextTokenizer:
        """A cased WordPiece tokenizer of at most ``vocabulary`` entries; the same texts give the same one.

        Schuster and Nakajima (2012), "Japanese and Korean voice search", as the tokenizers library trains it.
        """
        content, roles, _ = bert_content([], CASED)
        scratch = open_content(content, cleaning=True)
        texts = [replace_surrogates(text) for text in texts]
        alphabet = _alphabet(scratch, texts, vocabulary // 4)
        # The trainer numbers these as it meets them in a hash map, in another order each time, unless they are named.
        within_words = [f"##{character}" for character in alphabet if _continues(scratch, character)]
        trainer = WordPieceTrainer(
            vocab_size=vocabulary,
            special_tokens=[*roles.values(), *within_words],
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        scratch.train_from_iterator(texts, trainer)
        return cls(*bert_content(_by_id(scratch), CASED), where="the training texts")

    @property
    def vocabulary(self) -> int:
        """Rows that a word embedding needs: the highest id + 1."""
        return max(self._plain.get_vocab().values(), default=-1) + 1

    @property
    def pad_id(self) -> int:
        """Id of the padding token, 0 where there is none."""
        return self._plain.token_to_id(self.roles.get("pad_token", "[PAD]")) or 0

    @property
    def special_ids(self) -> dict[str, int]:
        """Special tokens that no text gets, by their ids: not those that stand around every text."""
        added = self._plain.get_added_tokens_decoder()
        frame = {*self._prefix, *self._suffix}
        return {token.content: number for number, token in added.items() if token.special and number not in frame}

    def token(self, number: int) -> str:
        """The entry of an id, empty where there is none."""
        return (self._plain.id_to_token(number) or "") if number >= 0 else ""

    def padded_with(self, token: str) -> TextTokenizer:
        """The same tokenizer, saved so that other tools pad with ``token``, an entry that it has."""
        padded = copy(self)
        padded.roles = {**self.roles, "pad_token": token}
        return padded

    @property
    def blank_id(self) -> int | None:
        """Id of the mask token, else of the unknown token: what stands for a word that is not told."""
        names = [self.roles[role] for role in ("mask_token", "unk_token") if role in self.roles]
        return next((number for name in names if (number := self._plain.token_to_id(name)) is not None), None)

    def beginnings(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether each id begins a word, and whether it stands for no text; both (vocabulary,).

        WordPiece marks what goes on (##), SentencePiece (▁) and byte-level BPE (Ġ) what begins.
        """
        goes_on = getattr(self._plain.model, "continuing_subword_prefix", None)
        begins, special = np.zeros(self.vocabulary, bool), np.zeros(self.vocabulary, bool)
        for token, number in self._plain.get_vocab().items():
            begins[number] = not token.startswith(goes_on) if goes_on else token.startswith(("▁", "Ġ"))
        special[[number for number, token in self._plain.get_added_tokens_decoder().items() if token.special]] = True
        return begins, special

    def spell(self, ids: Sequence[int]) -> str:
        """The text of some ids, special tokens left out."""
        return self._plain.decode(list(ids))

    @property
    def unknown_id(self) -> int | None:
        """Id of the token for what the vocabulary has not; None where it has everything, as bytes."""
        return self._plain.token_to_id(self.roles.get("unk_token", "[UNK]"))

    def encode(
        self, texts: Sequence[str], length: int, head_share: float, windows: int = 1, overlap: float = 0.0
    ) -> Encoded:
        """Encode N texts to at most ``length`` tokens each, special ones included, or to what ``windows`` of them hold.

        Of a longer document ``head_share`` of the room is its head, the rest its tail. `Windows` has what ``overlap``
        is. No document is without a token, since one must answer for it. Raises `ModelError` where ``length`` leaves no
        room, or where the library fails by the tokenizer's rules.
        """
        special = len(self._prefix) + len(self._suffix)
        room = length - special
        if room < 1:
            problem = f"a limit of {length} tokens leaves no room beside {special} special tokens"
            raise ModelError(problem, "recipe field length", f"give a length of at least {special + 1}")
        ends = len(self._prefix), len(self._suffix)
        divided = Windows.overlapping(length, overlap, windows, *ends) if windows > 1 else None
        limit = length if divided is None else divided.limit
        room = limit - special
        head = round(room * head_share)
        nothing = self._nothing()
        whole: list[int] = []
        flat = array("i")  # takes Python's numbers faster than numpy does
        for start in range(0, len(texts), CHUNK):
            for encoding in self._encode_chunk(texts[start : start + CHUNK]):
                row = encoding.ids or nothing
                whole.append(len(row) + special)
                flat.fromlist(self._prefix)
                flat.fromlist(row if len(row) <= room else row[:head] + row[len(row) - room + head :])
                flat.fromlist(self._suffix)
        wholes = np.array(whole, np.int32)
        offsets = np.concatenate([[0], np.cumsum(np.minimum(wholes, limit), dtype=np.int64)])
        return Encoded(np.array(flat, np.int32), offsets.astype(np.int64), wholes, divided)

    def save(self, folder: Path, length: int) -> None:
        """Write the files from which ``AutoTokenizer.from_pretrained(folder)`` gives the ids that `encode` gives.

        The class written is the general one, because transformers rebuilds a ``BertTokenizer`` from its vocabulary
        and drops the cleaning, as it does with every tokenizer beside a Qwen2; ``length`` becomes ``model_max_length``.
        """
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": length,
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
            **self.roles,
        }
        make_folder(folder)
        write_text(folder / "tokenizer.json", self._cleaning.to_str(pretty=True) + "\n")
        write_text(folder / "tokenizer_config.json", _json(config))
        write_text(folder / "special_tokens_map.json", _json(self.roles))
        entries = _by_id(self._plain)
        if type(self._plain.model).__name__ == "WordPiece" and len(entries) == self.vocabulary:
            write_text(folder / "vocab.txt", "\n".join([*entries, ""]))

    def _nothing(self) -> list[int]:
        """What stands for a text without tokens: nothing where a frame is left of it, else what is for the unknown."""
        if self._prefix or self._suffix:
            return []
        return [self.pad_id if self.blank_id is None else self.blank_id]

    def _encode_chunk(self, texts: Sequence[str]) -> list[Encoding]:
        """Encodings without special tokens.

        Cleaning costs the library a fourth of its speed and Python little. Cleaning first gives the same ids, unless a
        special token is spelt out in the text: the library looks for those before it cleans.
        """
        cleaned = [clean(text) for text in texts]
        apart = [
            number
            for number, (text, ready) in enumerate(zip(texts, cleaned, strict=True))
            if text is not ready and (self._spelt_out(text) or self._spelt_out(ready))
        ]
        with _library_errors(self._where):
            encodings = self._plain.encode_batch_fast(cleaned, add_special_tokens=False)
            for number in apart:
                encodings[number] = self._cleaning.encode(replace_surrogates(texts[number]), add_special_tokens=False)
        return encodings

    def _spelt_out(self, text: str) -> bool:
        return self._added is not None and self._added.search(text) is not None


@contextmanager
def _library_errors(where: str) -> Generator[None]:
    """Turn whatever the library raises into a `ModelError`; a panic of its Rust code is no Exception in Python."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, ModelError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        problem = f"the tokenizer is broken: {str(error)[:200]}"
        raise ModelError(problem, where, "take the tokenizer's files afresh from the model's source") from error


def _special_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Ids that the post-processor puts before and after a text, found by asking it."""
    probe = tokenizer.encode("a")
    count = len(tuple(takewhile(bool, probe.special_tokens_mask)))
    rest = len(tuple(takewhile(bool, reversed(probe.special_tokens_mask[count:]))))
    return probe.ids[:count], probe.ids[len(probe.ids) - rest :]


def _alphabet(tokenizer: Tokenizer, texts: Sequence[str], limit: int) -> list[str]:
    """The most frequent characters of the normalised texts, white space left out."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenizer.normalizer.normalize_str(text))
    characters = (character for character in counts if not character.isspace())
    return sorted(characters, key=lambda character: (-counts[character], character))[:limit]


def _continues(tokenizer: Tokenizer, character: str) -> bool:
    """Whether a character can stand within a word; punctuation is a word of its own."""
    return len(tokenizer.pre_tokenizer.pre_tokenize_str(f"a{character}")) == 1


def _by_id(tokenizer: Tokenizer) -> list[str]:
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
