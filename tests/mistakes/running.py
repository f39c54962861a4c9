"""Makes mistakes, keeps what came of them, and writes them up as a table.

Every module of this folder whose name ends in ``_mistakes`` holds a list ``MISTAKES``. Each is made in a fresh folder,
which is also the current one, by the command line in this process, without the rights of a superuser.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import io
import os
import pkgutil
import re
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tests.mistakes
from duygu import cli
from tests.mistakes.case import Mistake

DOCUMENT = Path(__file__).parents[2] / "docs" / "mistakes.md"
_library = re.compile(
    r"(not (?:valid JSON(?: at column \d+)?|usable JSON|a sound Parquet file|valid CSV)): .+?(?= \(\d+ other|$)"
)
SHOWN = 200  # characters of a cell
INTRODUCTION = """# What duygu says to mistakes

Each row was made, by the test suite, in a fresh folder: duygu ended with exit code 2, a message of three lines (what
happened, where, how to fix it), no traceback, and every file that was there before unchanged. Paths are relative to
that folder. Dots stand for a library's own words, which differ by its version. `python -m tests.mistakes` in the root
of the repository writes this page again; a test compares it.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a mistake ended in."""

    code: int
    printed: str  # on standard output
    told: str  # on standard error, the folder's own name taken out
    changed: tuple[str, ...]  # what stood there before and is not the same any more

    @property
    def message(self) -> tuple[str, str, str]:
        """Problem, place and fix; AssertionError where the message has no three parts."""
        problem, found, rest = self.told.rpartition("\n  where: ")
        where, also_found, fix = rest.partition("\n  fix:   ")
        assert found, self.told
        assert also_found, self.told
        return problem.rpartition("\n")[2], where, fix.rstrip("\n")


def all_mistakes() -> list[Mistake]:
    """Of every module, in the order of their names."""
    names = sorted(module.name for module in pkgutil.iter_modules(tests.mistakes.__path__))
    modules = [name for name in names if name.endswith("_mistakes") and not name.startswith("test_")]
    return [one for name in modules for one in importlib.import_module(f"tests.mistakes.{name}").MISTAKES]


@cache
def outcome(mistake: Mistake) -> Outcome:
    """Make it, once."""
    with tempfile.TemporaryDirectory(prefix="mistake-") as name:
        folder = Path(name).resolve()
        words = mistake.make(folder)
        before = _tree(folder)
        out, err = io.StringIO(), io.StringIO()
        with (
            _plain_rights(), contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
        ):  # fmt: skip
            code = cli.main(words)
        after = _tree(folder)
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
    changed = tuple(path for path, state in before.items() if after.get(path) != state)
    told = err.getvalue().replace(f"{folder}/", "").replace(str(folder), ".")
    return Outcome(code, out.getvalue(), told, changed)


def table(mistakes: Sequence[Mistake]) -> str:
    """The page as Markdown."""
    lines = [INTRODUCTION]
    for area in dict.fromkeys(mistake.area for mistake in mistakes):
        lines.append(f"## {area}\n")
        lines.append("| the mistake | what duygu says | where | the fix |\n|---|---|---|---|")
        for mistake in mistakes:
            if mistake.area == area:
                cells = (mistake.what, *outcome(mistake).message)
                lines.append(f"| {' | '.join(map(_cell, cells))} |")
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    text = _library.sub(r"\1: ...", text)
    short = text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
    for sign, written in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("*", "\\*"), ("_", "\\_"), ("`", "\\`")):
        short = short.replace(sign, written)
    return short.replace("\n", " ")


def _tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a folder by its path: kind and mode, and what it holds."""
    found: dict[str, tuple[object, ...]] = {}
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(place, name)
            status = path.lstat()
            content: object = None
            if path.is_symlink():
                content = path.readlink()
            elif stat.S_ISREG(status.st_mode):
                content = (status.st_size, status.st_mtime_ns, _digest(path))
            found[str(path.relative_to(folder))] = (status.st_mode, content)
    return found


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError:
        return "unreadable"


@contextlib.contextmanager
def _plain_rights() -> Iterator[None]:
    """Without a superuser's right to read and write what its mode forbids; nothing else changes."""
    if sys.platform != "linux" or os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the call, this thread
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    assert libc.capget(head, rights) == 0
    effective = rights[0]
    rights[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(head, rights) == 0
    try:
        yield
    finally:
        rights[0] = effective
        assert libc.capset(head, rights) == 0
