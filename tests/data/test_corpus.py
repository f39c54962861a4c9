"""Reading a folder: encodings, cleaning, order, and every fault that a user's folder can have."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duygu.data.corpus import Corpus, clean, is_clean, read_corpus
from duygu.data.encoding import Undecodable, decode
from duygu.data.sources import DOCUMENT_LIMIT
from duygu.errors import DataError

TURKISH = "Şirketin kârı ‘beklenenden’ yüksek, iğne ucu kadar düşüş yok; çöküş değil büyüme."
PLAIN_TURKISH = TURKISH.replace("‘", "'").replace("’", "'")  # without bytes that only cp1254 has
any_text = st.text(st.characters(exclude_categories=()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labels of three documents."""
    for label in ("down", "up"):
        for name in ("a", "b", "c"):
            write(tmp_path, f"{label}/{name}.txt", f"{label} text {name}")
    return tmp_path


def write(root: Path, name: str, content: str | bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def refused(root: Path | str) -> DataError:
    with pytest.raises(DataError) as caught:
        read_corpus(root)
    assert caught.value.problem
    assert caught.value.where
    assert caught.value.fix
    return caught.value


def test_folder_gives_texts_labels_and_ids_in_sorted_order(folder: Path) -> None:
    write(folder, "up/2023/deep/z.txt", "  deep\r\n\ttext ")
    corpus = read_corpus(folder)
    assert corpus.ids == tuple(sorted(corpus.ids))
    assert corpus.ids[-1] == "up/c.txt"
    assert corpus.names == ("down", "up")
    np.testing.assert_array_equal(corpus.labels, [0, 0, 0, 1, 1, 1, 1])
    assert corpus.texts[corpus.ids.index("up/2023/deep/z.txt")] == "deep text"
    assert corpus.warnings == ()
    assert corpus.encodings == (("UTF-8", 7),)


def test_digest_is_that_of_ids_labels_and_cleaned_texts(folder: Path) -> None:
    corpus = read_corpus(folder)
    entries = [[id, id.split("/")[0], text] for id, text in zip(corpus.ids, corpus.texts, strict=True)]
    assert corpus.digest == hashlib.sha256(json.dumps(entries).encode()).hexdigest()
    moved = folder.parent / "moved"
    shutil.copytree(folder, moved)
    write(moved, "up/a.txt", "\ufeffup  text\u200b a\n")
    assert read_corpus(moved).digest == corpus.digest
    write(moved, "up/a.txt", "up text A")
    assert read_corpus(moved).digest != corpus.digest


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (TURKISH.encode(), "UTF-8"),
        (b"plain", "UTF-8"),
        (TURKISH.encode("utf-8-sig"), "UTF-8 with BOM"),
        (TURKISH.encode("utf-16"), "UTF-16"),
        (b"\xfe\xff" + TURKISH.encode("utf-16-be"), "UTF-16"),
        (TURKISH.encode("utf-16-le"), "UTF-16"),
        (TURKISH.encode("utf-16-be"), "UTF-16"),
        (TURKISH.encode("utf-32"), "UTF-32"),
        (TURKISH.encode("cp1254"), "cp1254"),
        (PLAIN_TURKISH.encode("iso8859-9"), "ISO-8859-9"),
    ],
)
def test_decoding_finds_the_codec_that_wrote_the_bytes(data: bytes, name: str) -> None:
    text, found = decode(data)
    assert found == name
    assert text in (TURKISH, PLAIN_TURKISH, "plain")


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x00\x01\xff\xfe\x00\x80",
        TURKISH.encode() + b"\xe7",  # one byte of cp1254 in UTF-8
        b"ab\x81cd\xe7",  # a byte that cp1254 leaves undefined
        b"\xff\xfea\x00\x00\xd8b\x00",  # a lone surrogate in UTF-16
        b"\xef\xbb\xbf\xff",
    ],
)
def test_bytes_that_are_not_text_are_refused(data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(data)


@given(st.binary(max_size=200))
def test_decoding_any_bytes_ends_in_text_or_refusal(data: bytes) -> None:
    try:
        text, _ = decode(data)
    except Undecodable:
        return
    assert text.encode().decode() == text


def test_encodings_are_counted_and_unsure_files_side_with_cp1254(folder: Path) -> None:
    write(folder, "up/latin.txt", PLAIN_TURKISH.encode("iso8859-9"))
    assert read_corpus(folder).encodings == (("UTF-8", 6), ("ISO-8859-9", 1))
    write(folder, "up/windows.txt", TURKISH.encode("cp1254"))
    corpus = read_corpus(folder)
    assert corpus.encodings == (("UTF-8", 6), ("cp1254", 2))
    assert corpus.texts[corpus.ids.index("up/windows.txt")] == TURKISH


def test_cyrillic_code_page_is_read_with_a_warning(folder: Path) -> None:
    write(folder, "up/x.txt", "Прибыль компании выросла".encode("cp1251"))
    (warning,) = read_corpus(folder).warnings
    assert "up/x.txt" in warning
    assert "UTF-8" in warning


@given(any_text)
def test_clean_is_idempotent_normalised_and_encodable(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert "  " not in cleaned
    cleaned.encode()
    controls = [character for character in cleaned if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")]
    assert not controls
    assert not is_clean(text) or cleaned == text


@given(st.text(st.characters(categories=("L", "N", "P", "Sc", "Sm"))))
def test_clean_changes_letters_digits_and_signs_no_more_than_nfc(text: str) -> None:
    assert clean(text) == unicodedata.normalize("NFC", text)


def test_clean_on_known_cases() -> None:
    assert clean("ka\u0302r\u00a0%5\u00ad\u200b\r\n\tarttı\x00") == "kâr %5 arttı"
    assert clean("a\ud800b") == "a\ufffdb"
    assert clean("yüksek") == "yüksek"


def test_order_does_not_depend_on_the_disk(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    for path in sorted(folder.rglob("*.txt"), reverse=True):
        write(other, str(path.relative_to(folder)), path.read_bytes())
    assert read_corpus(other).digest == read_corpus(folder).digest


def test_decomposed_file_names_give_composed_ids(folder: Path) -> None:
    write(folder, "up/" + unicodedata.normalize("NFD", "kârlı.txt"), "text")
    assert "up/kârlı.txt" in read_corpus(folder).ids


def test_empty_files_are_skipped_with_a_warning_until_they_are_many(folder: Path) -> None:
    for number in range(30):
        write(folder, f"up/more{number}.txt", f"text {number}")
    write(folder, "up/empty.txt", " \n\u200b")
    corpus = read_corpus(folder)
    assert "up/empty.txt" not in corpus.ids
    assert "1 of 37 documents are empty (up/empty.txt)" in corpus.warnings[0]
    write(folder, "up/empty2.txt", "")
    assert "2 of 38" in refused(folder).problem


def test_links_out_pipes_and_other_files_are_left_out_with_warnings(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    write(outside, "secret.txt", "outside")
    before = read_corpus(folder)
    (folder / "up/out.txt").symlink_to(outside / "secret.txt")
    (folder / "up/gone.txt").symlink_to("nowhere")
    (folder / "up/outer").symlink_to(outside)
    (folder / "up/loop").symlink_to(folder)
    os.mkfifo(folder / "up/pipe.txt")
    write(folder, "up/notes.pdf", "x")
    write(folder, "readme.txt", "no label")
    write(folder, ".hidden/a.txt", "hidden")
    (folder / "nothing").mkdir()
    after = read_corpus(folder)
    assert after.digest == before.digest
    told = " ".join(after.warnings)
    assert "3 file(s) are links out of the folder, broken links, pipes or devices" in told
    assert "2 folder(s) are links" in told
    assert "1 file(s) do not end in .txt" in told
    assert "1 file(s) lie beside the label folders" in told


def test_links_within_the_folder_are_followed(folder: Path) -> None:
    (folder / "up/again.txt").symlink_to("a.txt")
    assert "up/again.txt" in read_corpus(folder).ids


def test_missing_file_and_empty_folders_are_refused(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "absent").problem
    assert "no labelled texts" in refused(tmp_path).problem
    write(tmp_path, "file.txt", "text")
    assert "neither a folder nor a table" in refused(tmp_path / "file.txt").problem
    assert "1 .txt file(s) lie in the folder itself" in refused(tmp_path).problem


def test_one_label_is_refused_and_a_small_one_left_to_the_split(folder: Path) -> None:
    (folder / "up/a.txt").unlink()
    assert (read_corpus(folder).labels == 1).sum() == 2
    shutil.rmtree(folder / "up")
    assert "one label 'down'" in refused(folder).problem


def test_labels_that_differ_in_case_or_spaces_only_are_refused(folder: Path) -> None:
    for name in "abc":
        write(folder, f"Up /{name}.txt", "text")
    assert "['Up ', 'up']" in refused(folder).problem


def test_undecodable_files_are_refused_by_name(folder: Path) -> None:
    write(folder, "up/bad.txt", b"\x00\x81\xff")
    write(folder, "up/worse.txt", b"ab\x81")
    error = refused(folder)
    assert error.problem.startswith("the file cannot be read as text: binary data")
    assert error.where == f"{folder}/up/bad.txt:1"
    assert "(1 other fault: up/worse.txt:1)" in error.problem


def test_file_above_the_limit_is_refused_with_the_reason(folder: Path) -> None:
    with (folder / "up/huge.txt").open("wb") as file:
        file.truncate(DOCUMENT_LIMIT + 1)
    assert "larger than 4 MB" in refused(folder).problem


@pytest.mark.skipif(os.name != "posix", reason="only POSIX file names are bytes")
def test_file_name_that_is_not_utf8_is_refused(folder: Path) -> None:
    path = os.fsencode(folder / "up") + b"/\xff.txt"
    with open(path, "wb") as file:  # noqa: PTH123  the name is bytes
        file.write(b"text")
    assert "its name is not UTF-8" in refused(folder).problem


def test_unreadable_file_is_refused(folder: Path) -> None:
    (folder / "up/a.txt").chmod(0)
    if os.access(folder / "up/a.txt", os.R_OK):
        pytest.skip("this user reads every file")
    assert "up/a.txt" in refused(folder).where


def test_bist_is_read_as_cp1254(bist: Path) -> None:
    corpus: Corpus = read_corpus(bist)
    assert len(corpus.ids) == 1706
    np.testing.assert_array_equal(np.bincount(corpus.labels), [764, 942])
    assert corpus.encodings == (("cp1254", 1697), ("UTF-8", 9))
    assert corpus.warnings == ()
