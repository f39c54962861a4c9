"""What can be wrong with texts, labels and the files they come in."""

from __future__ import annotations

from pathlib import Path

from tests.mistakes.case import Mistake

READ = ["--engine", "torch", "--model", "tiny", "--out", "run"]


def missing(folder: Path) -> list[str]:
    return ["train", "texts", *READ]


def empty(folder: Path) -> list[str]:
    (folder / "texts").mkdir()
    return ["train", "texts", *READ]


MISTAKES = [
    Mistake("Folders", "the folder is not there", missing, "there is no such folder", "texts"),
    Mistake("Folders", "the folder is empty", empty, "no labelled texts", "texts"),
]
