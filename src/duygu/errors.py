"""Every failure that a user can cause, and the exit code that it ends in.

DuyguError                 1   the program could not do what was asked
  UserError                2   problem, where, fix: three short lines on stderr
    DataError                  the texts, the labels, the split
    ModelError                 the model folder
    RecipeError                a recipe field or a --set
    FolderError                an output folder, a file, the disk
    OutOfMemory                what was wanted does not fit into the memory that there is
  GateError                3   a quality gate failed: collapsed, out of tolerance
  Interrupted        130/143   a signal arrived; everything was saved first
"""

from __future__ import annotations

import re
import signal


class DuyguError(Exception):
    """The root of the tree; ``exit_code`` is what the command line returns."""

    exit_code: int = 1


class UserError(DuyguError):
    """What happened, where, and how to fix it.

    ``problem`` is a sentence, ``where`` a path, ``path:line``, field or option, ``fix`` the next thing to do.
    """

    exit_code = 2

    def __init__(self, problem: str, where: str = "", fix: str = "") -> None:
        super().__init__(problem, where, fix)
        self.problem = problem
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.problem]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


class DataError(UserError):
    """The texts, their labels or their split."""


class ModelError(UserError):
    """A model folder that cannot be read, trusted or understood."""


class RecipeError(UserError):
    """A knob that does not exist or whose value makes no sense."""


class FolderError(UserError):
    """An output folder, a file in it, or the disk beneath it."""


class OutOfMemory(UserError):
    """What was wanted does not fit into the memory that there is."""


class GateError(DuyguError):
    """A quality gate failed; the message says which, by how much, and against what."""

    exit_code = 3


class Interrupted(DuyguError):
    """A signal asked the run to stop; its state is safe on disk."""

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(signum, message or f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum

    def __str__(self) -> str:
        return str(self.args[1])

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """128 + signal, as shells count: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum


def printable(text: str, keep: str = "") -> str:
    """``text`` with control and other unprintable characters escaped, but for those of ``keep``.

    Labels, ids and messages may come from anyone, and a terminal obeys what it is sent.
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def without_login(address: str) -> str:
    """An address as it may be shown: without the name and password that stand before its host."""
    return re.sub(r"(?<=//)[^/]*@", "", address)
