"""What can be wrong with what `duygu audit` is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.mistakes.case import Mistake
from tests.mistakes.inputs import CSV, files, table

Make = Callable[[Path], list[str]]


def audited(make: Make, *words: str) -> Make:
    """``duygu audit`` of the same DATA with these words."""
    return lambda folder: ["audit", make(folder)[1], *words]


def beside(name: str, make: Make) -> Make:
    """The same with a file of this name that was there before."""

    def made(folder: Path) -> list[str]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}", encoding="utf-8")
        return make(folder)

    return made


GOOD, TABLE = files({}), table(CSV)
CASES = [
    ("DATA is not there", audited(lambda _: ["split", "gone"]), "there is no such folder or file", "gone"),
    ("a table without labels", audited(table("text\na\nb\n")), "there is no column 'label'", "news.csv"),
    ("a folder as unlabelled", audited(GOOD, "--unlabelled"), "the sub-folders of a folder are its labels", "texts"),
    (
        "labels of an unlabelled table",
        audited(TABLE, "--unlabelled", "--label-column", "label"),
        "an unlabelled table has no column of labels",
        "--label-column",
    ),
    (
        "a split of an unlabelled table",
        audited(TABLE, "--unlabelled", "--split", "split.json"),
        "a split cannot be checked without labels",
        "--split",
    ),
    ("a split that is not there", audited(GOOD, "--split", "gone.json"), "no such file", "gone.json"),
    ("a model that is not there", audited(GOOD, "--model", "gone"), "there is no model folder 'gone'", "gone"),
    ("a model without a tokenizer", audited(GOOD, "--model", "texts"), "no tokenizer that can be read", "texts"),
    ("OUT is a file", beside("out", audited(GOOD, "--out", "out")), "a file lies where a folder is wanted", "out"),
    (
        "OUT holds an audit",
        beside("out/audit.json", audited(GOOD, "--out", "out")),
        "holds an audit already",
        "out",
    ),
]  # fmt: skip
MISTAKES = [Mistake("Audits", *case) for case in CASES]
