"""Turkish letters of uncased models: against Python's own lower-casing, against transformers, and by their rules."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duygu.data.corpus import clean
from duygu.data.tokens import TextTokenizer
from duygu.data.turkish import LETTERS, is_turkish, with_turkish_letters
from duygu.errors import ModelError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LOWER, UPPER = "abcçdefgğhıijklmnoöprsştuüvyzâîû", "ABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZÂÎÛ"
TO_UPPER = str.maketrans(LOWER, UPPER)
WORDS = st.text(st.sampled_from(LOWER), min_size=1, max_size=12)
LETTER_BY_LETTER = [*SPECIAL, *LOWER, *(f"##{letter}" for letter in LOWER)]


def write(folder: Path, entries: Sequence[str], content: dict[str, Any] | None = None, **config: object) -> Path:
    """A model folder's tokenizer: ``vocab.txt``, or ``tokenizer.json`` where ``content`` changes the usual one."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if content is None:
        (folder / "vocab.txt").write_text("\n".join([*entries, ""]), encoding="utf-8")
        return folder
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    usual = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {**model, "max_input_chars_per_word": 100, "vocab": vocabulary},
    }
    (folder / "tokenizer.json").write_text(json.dumps({**usual, **content}), encoding="utf-8")
    return folder


def ids(tokenizer: TextTokenizer, *texts: str) -> list[list[int]]:
    encoded = tokenizer.encode(texts, 1_000_000, 1.0)
    return [row.tolist() for row in encoded.take(np.arange(len(texts), dtype=np.int32))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("uncased"), LETTER_BY_LETTER, do_lower_case=True)


@pytest.fixture(scope="module")
def uncased(folder: Path) -> TextTokenizer:
    return TextTokenizer.from_folder(folder)


@pytest.fixture(scope="module")
def saved(uncased: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The written folder as transformers opens it."""
    out = tmp_path_factory.mktemp("saved")
    uncased.save(out, 512)
    (out / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    tokenizer = importlib.import_module("transformers").AutoTokenizer.from_pretrained(out)
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


@given(WORDS)
@settings(max_examples=300, deadline=None)
def test_capitals_are_read_as_their_turkish_small_letters(uncased: TextTokenizer, word: str) -> None:
    small, capital, title = ids(uncased, word, word.translate(TO_UPPER), word[0].translate(TO_UPPER) + word[1:])
    assert small == capital == title
    assert small[1:-1] == [
        LETTER_BY_LETTER.index(letter if place == 0 else f"##{letter}") for place, letter in enumerate(word)
    ]


@given(WORDS, WORDS)
@settings(max_examples=300, deadline=None)
def test_words_of_different_letters_stay_different(uncased: TextTokenizer, one: str, other: str) -> None:
    """No accent is stripped and no two letters are taken for one, for the vocabulary tells all of them."""
    first, second = ids(uncased, one.translate(TO_UPPER), other.translate(TO_UPPER))
    assert (first == second) == (one == other)


@given(st.text(st.sampled_from("cCgGsSoOuUaA") | st.sampled_from("çÇğĞşŞöÖüÜâÂ"), max_size=8))
@settings(max_examples=200, deadline=None)
def test_a_word_and_the_same_word_without_accents_differ(uncased: TextTokenizer, word: str) -> None:
    bare = word.translate(str.maketrans("çÇğĞşŞöÖüÜâÂ", "cCgGsSoOuUaA"))
    first, second = ids(uncased, word, bare)
    assert (first == second) == (word == bare)


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=30) | st.text(st.sampled_from("İIıi\u0307 aÇ")))
@settings(max_examples=400, deadline=None)
def test_the_steps_are_pythons_own_replacing(uncased: TextTokenizer, text: str) -> None:
    """Of any text: the three replacements, then what the library does to what Python made of it."""
    replaced = re.sub("i\u0307+", "i", clean(text).replace("İ", "i")).replace("I", "ı")
    assert ids(uncased, text) == ids(uncased, replaced)


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=30) | st.text(st.sampled_from("İIıi\u0307 kâR")))
@settings(max_examples=400, deadline=None)
def test_transformers_gives_the_saved_tokenizer_the_same_ids(uncased: TextTokenizer, saved: Any, text: str) -> None:
    assert ids(uncased, text) == [saved(text)["input_ids"]]


def test_the_words_that_matter(uncased: TextTokenizer) -> None:
    snow, profit, lost = ids(uncased, "kar", "kâr", "KÂR")
    assert snow != profit == lost
    assert len({tuple(row) for row in ids(uncased, "FAİZ", "fai\u0307z", "FAI\u0307Z", "Faiz", "faiz")}) == 1
    light, ill = ids(uncased, "IŞIK", "İŞİK")
    assert light != ill
    assert ids(uncased, "ışık") == [light]


def test_what_was_decided_is_said_once(uncased: TextTokenizer, folder: Path, tmp_path: Path) -> None:
    assert len(uncased.warnings) == 2
    assert "I becomes ı and İ becomes i" in uncased.warnings[0]
    assert "kâr is profit, kar is snow" in uncased.warnings[1]
    uncased.save(tmp_path / "saved", 64)
    again = TextTokenizer.from_folder(tmp_path / "saved")
    assert again.warnings == ()
    again.save(tmp_path / "twice", 64)
    assert (tmp_path / "twice/tokenizer.json").read_bytes() == (tmp_path / "saved/tokenizer.json").read_bytes()
    steps = json.loads((tmp_path / "saved/tokenizer.json").read_text(encoding="utf-8"))["normalizer"]["normalizers"]
    assert steps[3:6] == LETTERS
    assert steps[6]["strip_accents"] is False


BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
UNCASED: dict[str, dict[str, Any]] = {
    "bert": {**BERT, "lowercase": True, "strip_accents": None},
    "bert that strips": {**BERT, "lowercase": True, "strip_accents": True},
    "bert that keeps": {**BERT, "lowercase": True, "strip_accents": False},
    "lower": {"type": "Lowercase"},
    "nfd, strip, lower": {
        "type": "Sequence",
        "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}],
    },
    "nested": {
        "type": "Sequence",
        "normalizers": [{"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}]},
                        {"type": "Lowercase"}],
    },
}  # fmt: skip


@pytest.mark.parametrize("normalizer", UNCASED.values(), ids=UNCASED)
def test_every_way_to_lower_case_is_recognised(tmp_path: Path, normalizer: dict[str, Any]) -> None:
    tokenizer = TextTokenizer.from_folder(write(tmp_path, LETTER_BY_LETTER, {"normalizer": normalizer}))
    assert "I becomes ı" in " ".join(tokenizer.warnings)
    for word in ("ışık", "kâr", "şanlıurfa", "ığdır", "istanbul", "öğün", "çocuk"):
        small, capital = ids(tokenizer, word, word.translate(TO_UPPER))
        assert small == capital
        assert [LETTER_BY_LETTER[number].removeprefix("##") for number in small if number > 4] == list(word)


@pytest.mark.parametrize("normalizer", [None, {**BERT, "lowercase": False, "strip_accents": None}, {"type": "NFC"}])
def test_a_cased_tokenizer_stays_as_it_is(tmp_path: Path, normalizer: dict[str, Any] | None) -> None:
    entries = [*LETTER_BY_LETTER, *UPPER, *(f"##{letter}" for letter in UPPER)]
    tokenizer = TextTokenizer.from_folder(write(tmp_path, entries, {"normalizer": normalizer}))
    assert not [text for text in tokenizer.warnings if "Turkish" in text]
    small, capital = ids(tokenizer, "ışık", "IŞIK")
    assert small != capital


def test_switches_of_tokenizer_config_decide_what_is_uncased(tmp_path: Path) -> None:
    normalizer = {"normalizer": {**BERT, "lowercase": False, "strip_accents": None}}
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    tokenizer = TextTokenizer.from_folder(write(tmp_path, LETTER_BY_LETTER, normalizer, **config))
    assert ids(tokenizer, "IŞIK") == ids(tokenizer, "ışık")


def test_the_vocabulary_tells_the_language(shared_data: Path, minilm: Path) -> None:
    def entries(path: Path) -> list[str]:
        return path.read_text(encoding="utf-8").splitlines()

    turkish = entries(shared_data.parent / "tokenizers/tr_wordpiece_32k_cased/vocab.txt")
    english = entries(minilm / "vocab.txt")
    assert is_turkish(turkish)
    assert is_turkish([entry.replace("İ", "i").replace("I", "ı").lower() for entry in turkish])
    assert not is_turkish(english)
    assert not is_turkish([*english, *turkish[:2500]])  # one language of many
    assert not is_turkish([])


def test_an_english_uncased_model_is_left_alone(minilm: Path) -> None:
    tokenizer = TextTokenizer.from_folder(minilm)
    assert tokenizer.warnings == ()
    assert ids(tokenizer, "PROFIT ROSE") == ids(tokenizer, "profit rose")


def test_a_vocabulary_without_accents_is_warned_of(tmp_path: Path) -> None:
    letters = "abcdefghıijklmnoprstuvyz"
    tokenizer = TextTokenizer.from_folder(write(tmp_path, [*SPECIAL, *letters, *(f"##{a}" for a in letters)]))
    assert any("none of ç, ğ, ö, ş, ü" in text for text in tokenizer.warnings)


def test_unigram_vocabularies_are_read_too(tmp_path: Path) -> None:
    vocabulary = [["[UNK]", 0.0], *([letter, -1.0] for letter in LOWER)]
    model = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary}
    content = {"normalizer": {"type": "Lowercase"}, "model": model}
    tokenizer = TextTokenizer.from_folder(write(tmp_path, [], content))
    assert ids(tokenizer, "IŞIK İL") == ids(tokenizer, "ışık il")


def test_steps_that_do_not_fold_case_are_returned_as_they_were() -> None:
    steps = [{"type": "NFKC"}, {"type": "Strip", "strip_left": True, "strip_right": True}]
    assert with_turkish_letters(steps, LETTER_BY_LETTER) == (steps, [])
    assert with_turkish_letters([{"type": "Lowercase"}], ["the", "of"]) == ([{"type": "Lowercase"}], [])


@pytest.mark.parametrize("normalizer", ["text", 3, [], [3], {"type": "Sequence"}, {"normalizers": 3}])
def test_a_normaliser_that_is_none_is_the_librarys_to_refuse(tmp_path: Path, normalizer: object) -> None:
    write(tmp_path, LETTER_BY_LETTER, {"normalizer": normalizer})
    with pytest.raises(ModelError, match="the tokenizer is broken"):
        TextTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("floors", [50, 900])
def test_a_normaliser_of_many_floors_is_no_crash(tmp_path: Path, floors: int) -> None:
    write(tmp_path, LETTER_BY_LETTER, {"normalizer": "FLOORS"})
    path = tmp_path / "tokenizer.json"
    tower = '{"type": "Sequence", "normalizers": [' * floors + '{"type": "Lowercase"}' + "]}" * floors
    path.write_text(path.read_text(encoding="utf-8").replace('"FLOORS"', tower), encoding="utf-8")
    if floors < 500:
        tokenizer = TextTokenizer.from_folder(tmp_path)
        assert ids(tokenizer, "IŞIK") == ids(tokenizer, "ışık")
    else:  # more than Python's own reader of JSON climbs
        with pytest.raises(ModelError) as caught:
            TextTokenizer.from_folder(tmp_path)
        assert caught.value.where == str(path)
