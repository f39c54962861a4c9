"""Token ids: against transformers on the original folder and on the saved one, truncation, training, broken files."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duygu.data.corpus import clean, read_corpus
from duygu.data.demo import demo_corpus
from duygu.data.tokens import CHUNK, Encoded, TextTokenizer
from duygu.errors import ModelError

UNLIMITED = 1_000_000
ODD = (
    "",
    "   ",
    "\x00\x01",
    "a\u200bb \u00adc\r\n\td \u00a0 e",
    "kâr İŞIK ı I ağ\u0306 ka\u0302r",
    "[CLS] x [SE\u200bP] [SEP]y [MASK][PAD]",
    "日本語 text ﬁ ½",
    "😀👨\u200d👩\u200d👧 ok\ufeff",
    "\ue000x\U000e0001y\u0378",
    "a" * 300,
    "%5,4'lük artış; 1.250.000 TL (₺) — “tırnak” ‘tek’",
)
CASED = {"do_lower_case": False, "max_len": 512}


@pytest.fixture(scope="module")
def texts() -> tuple[str, ...]:
    return (*ODD, *read_corpus(demo_corpus()).texts)


@pytest.fixture(scope="module")
def tiny(texts: tuple[str, ...]) -> TextTokenizer:
    return TextTokenizer.train(texts, 1000)


@pytest.fixture(scope="module", params=["minilm", "minilm-vocab", "turkish-vocab", "tiny"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's tokenizer files, each kind that users have."""
    root = tmp_path_factory.mktemp(request.param)
    (root / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    if request.param == "turkish-vocab":
        data: Path = request.getfixturevalue("shared_data")
        shutil.copy(data.parent / "tokenizers/tr_wordpiece_32k_cased/vocab.txt", root)
        (root / "tokenizer_config.json").write_text(json.dumps(CASED), encoding="utf-8")
    elif request.param == "tiny":
        trained: TextTokenizer = request.getfixturevalue("tiny")
        trained.save(root, 512)
    else:
        names = ["vocab.txt", "tokenizer_config.json"]
        names += ["tokenizer.json", "special_tokens_map.json"] if request.param == "minilm" else []
        for name in names:
            shutil.copy(request.getfixturevalue("minilm") / name, root)
    return root


def rows(encoded: Encoded) -> list[list[int]]:
    return [row.tolist() for row in encoded.take(np.arange(len(encoded.whole), dtype=np.int32))]


def by_transformers(folder: Path, texts: Sequence[str], **settings: Any) -> list[list[int]]:
    """The oracle."""
    tokenizer = importlib.import_module("transformers").AutoTokenizer.from_pretrained(folder)
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer(list(texts), **settings)["input_ids"]


def test_ids_match_transformers_on_the_original_folder(folder: Path, texts: tuple[str, ...]) -> None:
    composed = [text for text in texts if unicodedata.is_normalized("NFC", text)]  # transformers leaves others as such
    encoded = TextTokenizer.from_folder(folder).encode(composed, UNLIMITED, 0.75)
    assert rows(encoded) == by_transformers(folder, composed)
    np.testing.assert_array_equal(encoded.whole, encoded.lengths)


def test_saved_folder_gives_the_same_ids_in_transformers_and_here(
    folder: Path, texts: tuple[str, ...], tmp_path: Path
) -> None:
    tokenizer = TextTokenizer.from_folder(folder)
    expected = rows(tokenizer.encode(texts, UNLIMITED, 0.75))
    tokenizer.save(tmp_path, 32)
    shutil.copy(folder / "config.json", tmp_path)
    assert by_transformers(tmp_path, texts) == expected
    assert max(map(len, by_transformers(tmp_path, texts, truncation=True))) == 32
    again = TextTokenizer.from_folder(tmp_path)
    assert rows(again.encode(texts, UNLIMITED, 0.75)) == expected
    assert (again.vocabulary, again.pad_id, again.roles) == (tokenizer.vocabulary, tokenizer.pad_id, tokenizer.roles)
    again.save(tmp_path / "twice", 32)
    assert (tmp_path / "twice/tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=30), max_size=5))
@settings(max_examples=150, deadline=None)
def test_saved_normaliser_cleans_as_clean_does(tiny: TextTokenizer, texts: list[str]) -> None:
    cleaning = json.loads(tiny._cleaning.to_str())["normalizer"]["normalizers"]
    assert [step["type"] for step in cleaning] == ["Replace", "Replace", "NFC", "BertNormalizer"]
    only = type(tiny._cleaning).from_str(tiny._cleaning.to_str())
    only.normalizer = importlib.import_module("tokenizers").normalizers.Sequence(
        [only.normalizer[0], only.normalizer[1], only.normalizer[2]]
    )
    for text in texts:
        assert only.normalizer.normalize_str(text) == clean(text)
    raw, cleaned = tiny.encode(texts, UNLIMITED, 1.0), tiny.encode([clean(text) for text in texts], UNLIMITED, 1.0)
    assert rows(raw) == rows(cleaned)


def test_saved_normaliser_cleans_every_character_as_clean_does(tiny: TextTokenizer) -> None:
    every = [chr(number) for number in range(0x110000) if not 0xD800 <= number < 0xE000]
    steps = tiny._cleaning.normalizer
    for start in range(0, len(every), 65536):
        joined = "|".join(every[start : start + 65536])
        normal = steps[2].normalize_str(steps[1].normalize_str(steps[0].normalize_str(joined)))
        assert normal == clean(joined)


@pytest.mark.parametrize("head_share", [0.0, 0.25, 0.75, 1.0])
@pytest.mark.parametrize("length", [3, 8, 33, 64])
def test_long_documents_keep_head_and_tail_of_their_own_ids(
    tiny: TextTokenizer, texts: tuple[str, ...], length: int, head_share: float
) -> None:
    whole, cut = rows(tiny.encode(texts, UNLIMITED, 1.0)), tiny.encode(texts, length, head_share)
    room = length - 2
    head = round(room * head_share)
    for full, row, stated in zip(whole, rows(cut), cut.whole, strict=True):
        inner = full[1:-1]
        expected = inner if len(inner) <= room else inner[:head] + inner[len(inner) - (room - head) :]
        assert row == [full[0], *expected, full[-1]]
        assert stated == len(full)
    assert cut.lengths.max() == length


def test_many_chunks_are_one_array(tiny: TextTokenizer) -> None:
    texts = [f"kâr {number}\u200b" if number % 3 else f"zarar {number}" for number in range(2 * CHUNK + 5)]
    encoded = tiny.encode(texts, 16, 0.75)
    assert (encoded.ids.dtype, encoded.offsets.dtype, encoded.whole.dtype) == (np.int32, np.int64, np.int32)
    assert encoded.offsets[0] == 0
    assert encoded.offsets[-1] == len(encoded.ids)
    for number in (0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 4):
        assert rows(encoded)[number] == rows(tiny.encode([texts[number]], 16, 0.75))[0]


def test_no_text_gives_empty_arrays(tiny: TextTokenizer) -> None:
    encoded = tiny.encode([], 16, 0.75)
    assert encoded.ids.tolist() == []
    assert encoded.offsets.tolist() == [0]
    assert encoded.lengths.tolist() == []


def test_lone_surrogates_are_encoded_as_the_replacement_character(tiny: TextTokenizer) -> None:
    encoded = tiny.encode(["kâr \ud800 arttı", "kâr \ufffd arttı"], 16, 0.75)
    assert rows(encoded)[0] == rows(encoded)[1]
    assert TextTokenizer.train(["kâr \ud800 arttı"] * 3, 60).vocabulary > 5


def test_limit_without_room_is_refused(tiny: TextTokenizer) -> None:
    with pytest.raises(ModelError, match="leaves no room"):
        tiny.encode(["x"], 2, 0.75)


def test_training_gives_the_same_tokenizer_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from duygu.data.corpus import read_corpus;"
        "from duygu.data.demo import demo_corpus; from duygu.data.tokens import TextTokenizer;"
        "TextTokenizer.train(read_corpus(demo_corpus()).texts, 700).save(Path(sys.argv[1]), 128)"
    )
    contents = []
    for name in ("first", "second", "third"):
        subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], check=True, timeout=60)
        contents.append((tmp_path / name / "tokenizer.json").read_bytes())
    assert contents[0] == contents[1] == contents[2]


def test_trained_tokenizer_is_cased_keeps_accents_and_its_size(tiny: TextTokenizer, tmp_path: Path) -> None:
    assert tiny.vocabulary <= 1000
    assert tiny.pad_id == 0
    assert (
        rows(tiny.encode(["kâr"], 16, 1.0))
        != rows(tiny.encode(["kar"], 16, 1.0))
        != rows(tiny.encode(["Kar"], 16, 1.0))
    )
    tiny.save(tmp_path, 64)
    entries = (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert entries[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(entries) == tiny.vocabulary
    encoded = tiny.encode(read_corpus(demo_corpus()).texts, UNLIMITED, 1.0)
    assert np.mean(encoded.ids == 1) < 0.001


def test_small_vocabulary_holds_whatever_the_texts_bring() -> None:
    texts = [chr(number) * 3 for number in range(0x4E00, 0x5200)]
    assert TextTokenizer.train(texts, 120).vocabulary <= 120


@pytest.mark.parametrize(("tokens", "lower"), [(("Kâr", "kâr"), False), (("kâr", "zarar"), True)])
def test_bare_vocabulary_tells_its_case(tmp_path: Path, tokens: tuple[str, ...], lower: bool) -> None:
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tokens]
    (tmp_path / "vocab.txt").write_text("\r\n".join(entries), encoding="utf-8", newline="")
    tokenizer = TextTokenizer.from_folder(tmp_path)
    assert len(tokenizer.warnings) == 1
    assert json.loads(tokenizer._plain.to_str())["normalizer"]["normalizers"][0]["lowercase"] is lower
    assert tokenizer.vocabulary == 7


def test_switches_of_a_bert_tokenizer_hold_over_tokenizer_json(minilm: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        shutil.copy(minilm / name, tmp_path)
    config = {**json.loads((minilm / "tokenizer_config.json").read_text(encoding="utf-8")), "do_lower_case": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    tokenizer = TextTokenizer.from_folder(tmp_path)
    assert "do_lower_case" in tokenizer.warnings[0]
    texts = ["Profit ROSE in café", "profit rose"]
    assert rows(tokenizer.encode(texts, UNLIMITED, 1.0)) == by_transformers(tmp_path, texts)


def test_tokenizer_without_frame_gets_the_one_bert_expects(minilm: Path, tmp_path: Path) -> None:
    content = json.loads((minilm / "tokenizer.json").read_text(encoding="utf-8"))
    content["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer = TextTokenizer.from_folder(tmp_path)
    assert "[CLS]" in tokenizer.warnings[0]
    expected = TextTokenizer.from_folder(minilm).encode(["profit rose"], 16, 1.0)
    assert rows(tokenizer.encode(["profit rose"], 16, 1.0)) == rows(expected)


SOUND: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {"[UNK]": 0, "a": 1},
    },
}


@pytest.mark.parametrize(
    "broken",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "////f2FiY2Q="}},  # the library panics
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////9hYmM="}},
        {"normalizer": "text"},
        {"normalizer": {"type": "Sequence"}},
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "B", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        },
        {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}},
        {"model": {"type": "Unigram", "unk_id": 5, "vocab": [["a", -1.0]]}},
        {"model": {"type": "Unknown"}},
        {"model": None},
        {"added_tokens": 3},
    ],
)
def test_broken_tokenizer_is_a_model_error_even_where_the_library_panics(
    tmp_path: Path, broken: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(SOUND), encoding="utf-8")
    assert rows(TextTokenizer.from_folder(tmp_path).encode(["a"], 4, 1.0)) == [[1]]
    (tmp_path / "tokenizer.json").write_text(json.dumps({**SOUND, **broken}), encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        TextTokenizer.from_folder(tmp_path)
    assert caught.value.where == str(tmp_path / "tokenizer.json")
    assert capfd.readouterr().err == ""  # no trace of the library's own


def test_tokenizer_that_breaks_only_on_some_text_is_a_model_error(tmp_path: Path) -> None:
    model = {"type": "Unigram", "unk_id": None, "vocab": [["a", -1.0]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps({**SOUND, "model": model}), encoding="utf-8")
    with pytest.raises(ModelError):
        TextTokenizer.from_folder(tmp_path).encode(["b"], 4, 1.0)


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', "\ufffd", "{}", "[" * 100_000])
def test_file_that_is_no_tokenizer_is_a_model_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError):
        TextTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"a\nb\n", b"[UNK]\n[CLS]\n", b"\xff\xfe"])
def test_vocabulary_without_special_tokens_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ModelError):
        TextTokenizer.from_folder(tmp_path)


def test_folder_without_tokenizer_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer"):
        TextTokenizer.from_folder(tmp_path)


@pytest.fixture(scope="module")
def articles(shared_data: Path) -> Iterator[list[str]]:
    import gzip
    import itertools

    with gzip.open(shared_data / "news_tr.jsonl.gz", "rt", encoding="utf-8") as file:
        yield [json.loads(line)["text"] for line in itertools.islice(file, 1500)]


def test_encoding_keeps_nine_tenths_of_the_speed_of_the_library(minilm: Path, articles: list[str]) -> None:
    tokenizer = TextTokenizer.from_folder(minilm)
    library = tokenizer._plain
    ratios = []
    for _ in range(4):
        started = time.perf_counter()
        library.encode_batch(articles)
        between = time.perf_counter()
        tokenizer.encode(articles, 256, 0.75)
        ratios.append((between - started) / (time.perf_counter() - between))
    assert max(ratios) >= 0.9


PIECES = st.sampled_from(
    ["[SEP]", "[SE", "P]", "[CLS]", "\u200b", "\u0338", "\u0301", " ", "\n", "kâr", "a", "]", "\ud800"]
)


@given(st.lists(PIECES, max_size=12).map("".join))
@settings(max_examples=300, deadline=None)
def test_special_tokens_spelt_out_are_found_as_the_saved_tokenizer_finds_them(tiny: TextTokenizer, text: str) -> None:
    saved = tiny._cleaning.encode(text.replace("\ud800", "\ufffd"))
    assert rows(tiny.encode([text], UNLIMITED, 1.0)) == [saved.ids]
