"""What can be wrong with a folder of texts, with its labels, and with how its files are encoded."""

from __future__ import annotations

import os
from pathlib import Path

from tests.mistakes.case import Mistake
from tests.mistakes.inputs import BIG, GOOD, SPLIT, TRAIN, Make, files, table, then

SECOND = {f"down/n{number}.txt": "" for number in range(1, 12, 2)}
TURKISH = "Şirketin kârı yükseldi, düşüş beklenmiyor."
UPS = {name: text for name, text in GOOD.items() if name.startswith("up/")}


def words(*given: str) -> Make:
    """A command on what is not there."""
    return lambda folder: list(given)


def huge(folder: Path) -> None:
    with (folder / "texts/up/huge.txt").open("wb") as file:
        file.truncate(BIG)


def unnamed(folder: Path) -> None:
    with open(os.fsencode(folder / "texts/up") + b"/\xff.txt", "wb") as file:  # noqa: PTH123  the name is bytes
        file.write(b"text")


def linked(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real/a.txt").write_text("text", encoding="utf-8")
    (folder / "texts").mkdir()
    for label in ("up", "down"):
        (folder / "texts" / label).symlink_to("../real")


def looped(folder: Path) -> None:
    (folder / "texts").symlink_to("again")
    (folder / "again").symlink_to("texts")


FOLDERS = [
    ("the folder is not there", words("split", "texts", *SPLIT), "there is no such folder or file", "texts"),
    ("the folder is not there, and one wants to train", words("train", "texts", *TRAIN), "no such folder", "texts"),
    (
        "the folder is not there, and one wants to compare",
        words("compare", "texts", "--model", "tiny", "--out", "run"),
        "no such folder",
        "texts",
    ),
    (
        "the folder is not there, and one wants to evaluate",
        words("evaluate", "run", "texts"),
        "no such folder",
        "texts",
    ),
    ("no path was given, as from an empty variable", words("split", "", *SPLIT), "no path was given", "DATA"),
    ("the path is absurdly long", words("split", "a" * 5000, *SPLIT), "the path cannot be used", "aaaa"),
    (
        "the folder is empty",
        then(words("split", "texts", *SPLIT), lambda f: (f / "texts").mkdir()),
        "no labelled",
        "texts",
    ),
    (
        "there are label folders and nothing in them",
        then(
            words("split", "texts", *SPLIT), lambda f: [(f / "texts" / x).mkdir(parents=True) for x in ("up", "down")]
        ),
        "no labelled texts",
        "texts",
    ),
    (
        "the texts lie in the folder itself",
        files({"a.txt": "rose", "b.txt": "fell"}, good=False),
        "2 .txt file(s) lie in the folder itself",
        "texts",
    ),
    ("the texts are Word files", files({"up/a.docx": "x", "down/b.docx": "x"}, good=False), "no labelled", "texts"),
    ("the folder holds a table", files({"news.csv": "text,label\n"}, good=False), "the folder holds a table", "texts"),
    (
        "the folder holds train and test",
        files({"train/up/a.txt": "rose", "test/down/b.txt": "fell"}, good=False),
        "are parts of a corpus, not labels",
        "texts",
    ),
    ("all files are hidden", files({".up/a.txt": "x", "down/.b.txt": "x"}, good=False), "no labelled texts", "texts"),
    ("the label folders are links", then(words("split", "texts", *SPLIT), linked), "no labelled texts", "texts"),
    (
        "the folder is a link to itself",
        then(words("split", "texts", *SPLIT), looped),
        "the path cannot be used",
        "texts",
    ),
    (
        "the folder is a link to nothing",
        then(words("split", "texts", *SPLIT), lambda f: (f / "texts").symlink_to("gone")),
        "no such folder",
        "texts",
    ),
    (
        "the folder is a pipe",
        then(words("split", "texts", *SPLIT), lambda f: os.mkfifo(f / "texts")),
        "neither a folder nor a file",
        "texts",
    ),
    ("the folder is a device", words("split", "/dev/null", *SPLIT), "neither a folder nor a file", "/dev/null"),
    (
        "the folder may not be read",
        then(files({}), lambda f: (f / "texts").chmod(0)),
        "the folder cannot be read: permission denied",
        "texts",
    ),
    (
        "a label's folder may not be read",
        then(files({}), lambda f: (f / "texts/up").chmod(0)),
        "the folder cannot be read: permission denied",
        "texts/up",
    ),
    (
        "a file may not be read",
        then(files({}), lambda f: (f / "texts/up/n0.txt").chmod(0)),
        "the file cannot be read: permission denied",
        "texts/up/n0.txt",
    ),
    ("a file has 100 MB", then(files({}), huge), "larger than 4 MB", "texts/up/huge.txt"),
    ("a file's name is not UTF-8", then(files({}), unnamed), "its name is not UTF-8", "texts/up"),
    (
        "two names differ only in how an accent is stored",
        files({"up/k\u00e2r.txt": "one", "up/ka\u0302r.txt": "two"}),
        "stand more than once",
        "texts/up/kâr.txt",
    ),
    (
        "a folder is given columns",
        files({}, "--text-column", "body"),
        "a folder of files has no columns",
        "--text-column",
    ),
]

LABELLED = [
    ("there is one label only", files(UPS, good=False), "all texts have the one label 'up'", "texts"),
    ("labels differ in case only", files({"Up/a.txt": "rose"}), "['Up', 'up'] differ only in case or spaces", "texts"),
    ("labels differ in spaces only", files({"up /a.txt": "rose"}), "['up', 'up '] differ only in case", "texts"),
    (
        "labels differ in an invisible character only",
        files({"u\u200bp/a.txt": "rose"}),
        "differ only in case or spaces",
        "texts",
    ),
    (
        "labels differ in the dot of a Turkish I only",
        files({"İYİ/a.txt": "x", "i\u0307yi\u0307/b.txt": "y"}),
        "differ only in case or spaces",
        "texts",
    ),
    ("a label has one text", files({"flat/a.txt": "same"}), "no document with the label of flat/a.txt", "texts"),
    ("a label has two texts", files({"flat/a.txt": "a", "flat/b.txt": "b"}), "no document with the label", "texts"),
    (
        "a label's texts are copies of one",
        files({f"flat/{name}.txt": "The rates stay as they are, said the bank." for name in "abcdef"}),
        "which has 6",
        "texts",
    ),
    (
        "a label is too small to train on",
        lambda folder: ["train", files({"flat/a.txt": "a"})(folder)[1], *TRAIN],
        "no document with the label of flat/a.txt",
        "texts",
    ),
    (
        "a tenth of the files is empty",
        files({"up/n0.txt": "", "up/n2.txt": " \n"}),
        "2 of 12 documents are empty",
        "up/n0",
    ),
    ("every file is empty", files(dict.fromkeys(GOOD, ""), good=False), "12 of 12 documents are empty", "texts/down"),
    ("every file of one label is empty", files(SECOND), "6 of 12 documents are empty", "texts/down/n1.txt"),
    ("files hold nothing that shows", files(dict.fromkeys(GOOD, "\u200b\ufeff"), good=False), "12 of 12", "texts/down"),
]

ENCODED = [
    (
        "a file is a picture",
        files({"up/a.txt": b"\x89PNG\r\n\x1a\n\x00\x00\xff\xd8"}),
        "binary data",
        "texts/up/a.txt:1",
    ),
    ("a file holds a zero byte", files({"up/a.txt": "one\ntwo\0\n"}), "it holds a zero character", "texts/up/a.txt:2"),
    (
        "one letter of a UTF-8 file is cp1254",
        files({"up/a.txt": f"{TURKISH}\n{TURKISH}".encode() + b"\xe7"}),
        "so it mixes encodings",
        "texts/up/a.txt:2",
    ),
    (
        "a byte that no Turkish code page has",
        files({"up/a.txt": b"ab\x81cd\xe7"}),
        "not valid UTF-8 or cp1254",
        "a.txt:1",
    ),
    ("half a character in UTF-8", files({"up/a.txt": b"rose \xed\xa0\x80"}), "half a character", "texts/up/a.txt:1"),
    ("an overlong form in UTF-8", files({"up/a.txt": b"rose \xc0\xaf"}), "overlong form", "texts/up/a.txt:1"),
    ("half a character in UTF-16", files({"up/a.txt": b"\xff\xfea\x00\x00\xd8b\x00"}), "not valid UTF-16", "a.txt:1"),
    ("a UTF-16 file that ends in mid-character", files({"up/a.txt": b"\xff\xfea\x00b"}), "not valid UTF-16", "a.txt:1"),
    (
        "a UTF-8 mark before other bytes",
        files({"up/a.txt": b"\xef\xbb\xbfk\xe2r"}),
        "not valid UTF-8 with BOM",
        "a.txt:1",
    ),
    (
        "a UTF-32 file that is damaged",
        files({"up/a.txt": b"\xff\xfe\0\0\xff\xff\xff\xff"}),
        "not valid UTF-32",
        "a.txt:1",
    ),
    (
        "many files cannot be read",
        files(dict.fromkeys(GOOD, b"\0\x81\xff")),
        "(11 other faults: ",
        "texts/down/n1.txt:1",
    ),
    ("an encoding that does not exist", files({}, "--encoding", "utf-9"), "no text encoding 'utf-9'", "--encoding"),
    ("an encoding that is none of text", files({}, "--encoding", "hex"), "no text encoding 'hex'", "--encoding"),
    ("an encoding of host names", files({}, "--encoding", "idna"), "no text encoding 'idna'", "--encoding"),
    ("an empty encoding", files({}, "--encoding", ""), "no text encoding ''", "--encoding"),
    (
        "the encoding given is not the file's",
        files({"up/a.txt": "kâr".encode("cp1254")}, "--encoding", "utf-8"),
        "not valid utf-8 (as given) at byte 0xe2",
        "texts/up/a.txt:1",
    ),
    (
        "the encoding given contradicts the file's own mark",
        files({"up/a.txt": TURKISH.encode("utf-16")}, "--encoding", "cp1254"),
        "it begins with the byte-order mark of UTF-16",
        "texts/up/a.txt:1",
    ),
    ("ASCII given, Turkish found", files({"up/a.txt": TURKISH}, "--encoding", "ascii"), "not valid ascii", "a.txt:1"),
]

NOT_TABLES = [
    ("a single text", table("rose", name="news.txt"), "its name ends in '.txt'", "news.txt"),
    ("a file without an ending", table("rose", name="news"), "its name has no ending", "news"),
    ("a JSON document", table("[]", name="news.json"), "its name ends in '.json'", "news.json"),
    ("a spreadsheet", table("PK", name="news.xlsx"), "its name ends in '.xlsx'", "news.xlsx"),
    ("a zip archive", table("PK", name="news.zip"), "its name ends in '.zip'", "news.zip"),
    ("a compressed table", table(b"\x1f\x8b", name="news.csv.gz"), "its name ends in '.gz'", "news.csv.gz"),
    ("a gzip file that is called CSV", table(b"\x1f\x8b\x08"), "it is compressed with gzip", "news.csv"),
    ("a spreadsheet that is called CSV", table(b"PK\x03\x04"), "it is a zip archive or a spreadsheet", "news.csv"),
    ("an old spreadsheet that is called CSV", table(b"\xd0\xcf\x11\xe0"), "it is an old spreadsheet", "news.csv"),
    ("a PDF that is called CSV", table(b"%PDF-1.7"), "it is a PDF", "news.csv"),
    ("a Parquet file that is called CSV", table(b"PAR1"), "it is Parquet", "news.csv"),
]

AREAS = {
    "Folders": FOLDERS,
    "Labels and empty texts": LABELLED,
    "Encodings": ENCODED,
    "Files of another kind": NOT_TABLES,
}
MISTAKES = [Mistake(area, *case) for area, cases in AREAS.items() for case in cases]
