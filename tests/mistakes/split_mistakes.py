"""What can be wrong with a split: one that is given, and one that `duygu split` is asked for."""

from __future__ import annotations

import json
from pathlib import Path

from tests.mistakes.case import Mistake
from tests.mistakes.inputs import GOOD, SPLIT, TRAIN, Make, files, table, then

NAMES = sorted(GOOD)
TRAINED, TESTED = NAMES[:4] + NAMES[6:10], NAMES[4:6] + NAMES[10:]
ROWS = [f"{word} {number},{'up' if number % 2 else 'down'}" for number, word in enumerate("abcdefghijkl")]


def given(content: str | bytes | None = None, **parts: object) -> Make:
    """``duygu train`` with a split of this content, else of these parts."""
    text = json.dumps(parts) if content is None else content

    def make(folder: Path) -> list[str]:
        files({})(folder)
        (folder / "given.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["train", "texts", *TRAIN, "--split", "given.json"]

    return make


def evaluated(make: Make) -> Make:
    """The same with ``duygu evaluate``."""
    return lambda folder: ["evaluate", "model", "texts", *make(folder)[-2:]]


def asked(*options: str) -> Make:
    """``duygu split`` of a sound folder."""
    return files({}, *options)


def with_column(name: str, values: list[str], *options: str) -> Make:
    """``duygu split`` of a table with a column of dates or sources, used in turn."""
    rows = [f"{row},{values[number % len(values)]}\n" for number, row in enumerate(ROWS)]
    return table(f"text,label,{name}\n{''.join(rows)}", f"--{name}-column", name, "--kind", *options)


READ = [
    ("the split is not there", lambda f: [*given("")(f)[:-1], "gone.json"], "no such file", "gone.json"),
    ("the split is a folder", lambda f: [*given("")(f)[:-1], "texts"], "not a regular file", "texts"),
    ("the split is empty", given(""), "not valid JSON", "given.json"),
    ("the split is a list", given("[]"), "not a JSON object", "given.json"),
    ("the split was cut", given('{"train": ["up/n0'), "not valid JSON", "given.json"),
    ("the split is not UTF-8", given(b'{"train": ["\xff"]}'), "not UTF-8", "given.json"),
    ("the split is of a later version", given(schema=99), "has schema 99", "given.json"),
    ("there is no test part", given(train=TRAINED), "no list of ids named 'test'", "given.json"),
    ("the training part is a text", given(train="all", test=TESTED), "no list of ids named 'train'", "given.json"),
    ("ids are numbers", given(train=[1, 2], test=TESTED), "no list of ids named 'train'", "given.json"),
    ("the test part is empty", given(train=TRAINED, test=[]), "the test part of the split is empty", "given.json"),
    (
        "the validation part is empty",
        given(train=TRAINED, validation=[], test=TESTED),
        "the validation part of the split is empty",
        "given.json",
    ),
    (
        "it names documents that are not there",
        given(train=TRAINED, test=[*TESTED, "up/n99.txt"]),
        "1 document(s) of the split are not in the corpus, such as up/n99.txt",
        "given.json",
    ),
    (
        "a document trains and tests",
        given(train=[*TRAINED, TESTED[0]], test=TESTED),
        "1 document(s) stand twice in the split",
        "given.json",
    ),
    (
        "a document stands twice in one part",
        given(train=[*TRAINED, TRAINED[0]], test=TESTED),
        "stand twice",
        "given.json",
    ),
    (
        "the test part has one label only",
        given(train=TRAINED, test=TESTED[:2]),
        "the test part has no document",
        "given",
    ),
    (
        "the training part has one label only",
        given(train=TRAINED[:4], test=TESTED),
        "has no document with the",
        "given",
    ),
    (
        "a name fits two documents",
        lambda f: given(train=TRAINED, test=["a.txt"])(files({"up/a.txt": "x", "down/a.txt": "y"})(f) and f),
        "1 name(s) of the split fit several documents",
        "given.json",
    ),
    (
        "one evaluates on a split of other texts",
        evaluated(given(train=["x"], test=["y"])),
        "not in the corpus",
        "given.json",
    ),
]

WRITTEN = [
    (
        "the file exists already",
        then(asked(), lambda f: (f / "split.json").write_text("mine")),
        "exists already",
        "split.json",
    ),
    (
        "one of several files exists already",
        then(asked("--kind", "kfold", "--folds", "2"), lambda f: (f / "split-fold2.json").write_text("mine")),
        "the file exists already",
        "split-fold2.json",
    ),
    (
        "the file's name is a folder's",
        then(asked(), lambda f: (f / "split.json").mkdir()),
        "a folder of this name",
        "split.json",
    ),
    ("the file's folder is not there", lambda f: [*asked()(f)[:-1], "gone/split.json"], "cannot be written", "gone"),
    (
        "the file's folder may not be written",
        then(lambda f: [*asked()(f)[:-1], "shut/split.json"], lambda f: (f / "shut").mkdir(mode=0o500)),
        "cannot be written",
        "shut/split.json",
    ),
    (
        "more folds than a label has texts",
        asked("--kind", "kfold", "--folds", "9"),
        "no document with the label",
        "texts",
    ),
    ("folds with shares", asked("--kind", "kfold", "--shares", "8,1,1"), "--kind kfold has no shares", "--shares"),
    ("two shares", asked("--shares", "80,20"), "three numbers above zero are needed", "--shares"),
    ("a share of nothing", asked("--shares", "80,0,20"), "three numbers above zero are needed", "--shares"),
    ("a share below nothing", asked("--shares", "80,-10,20"), "three numbers above zero are needed", "--shares"),
    ("a share that is no number", asked("--shares", "80,nan,20"), "three numbers above zero are needed", "--shares"),
    ("shares in words", asked("--shares", "most,some,rest"), "is not a list of numbers", "--shares"),
    ("a source left out by date", asked("--kind", "time", "--left-out", "x"), "leaves no source out", "--left-out"),
    ("by time without dates", asked("--kind", "time"), "no document has a date", "texts"),
    ("by time, all on one day", with_column("date", ["2024-01-01"], "time"), "only 1 different date(s)", "news.csv"),
    (
        "by time, all on two days",
        with_column("date", ["2024-01-01", "2024-01-02"], "time"),
        "only 2 different",
        "news.csv",
    ),
    (
        "by time, and the newest texts have one label",
        table(
            "text,label,date\n"
            + "".join(
                f"{word},{'up' if n < 10 and n % 2 else 'down'},2024-01-{n + 1:02}\n"
                for n, word in enumerate("abcdefghijkl")
            ),
            "--date-column",
            "date",
            "--kind",
            "time",
        ),
        "the test part has no document with the label",
        "news.csv",
    ),
    ("by source without sources", asked("--kind", "source"), "no document has a source", "texts"),
    (
        "by source, all of one",
        with_column("source", ["gazette"], "source"),
        "all documents are of one source",
        "news.csv",
    ),
    (
        "by source, each of one label",
        with_column("source", ["gazette", "herald"], "source"),
        "no source has documents of every label",
        "news.csv",
    ),
    (
        "a source left out that is not there",
        with_column("source", ["gazette", "gazette", "herald", "herald"], "source", "--left-out", "times"),
        "no document is of the source 'times'",
        "news.csv",
    ),
    (
        "a source left out that lacks a label",
        with_column("source", ["gazette", "gazette", "herald", "gazette"], "source", "--left-out", "herald"),
        "the test part has no document with the label",
        "news.csv",
    ),
    (
        "the one source left out beside texts of none",
        with_column("source", ["gazette", "gazette", "", ""], "source", "--left-out", "gazette"),
        "part has no document with the label",
        "news.csv",
    ),
    ("the corpus is not there", lambda f: ["split", "gone", *SPLIT], "no such folder or file", "gone"),
]

AREAS = {"A split that is given": READ, "duygu split": WRITTEN}
MISTAKES = [Mistake(area, *case) for area, cases in AREAS.items() for case in cases]
