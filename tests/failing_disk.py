"""A disk that refuses the n-th call which makes a file or a name: the real error, from where the system raises it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

WRITING = frozenset("wax+")


class Disk:
    """Counts what makes files and names durable below a folder, and refuses the ``fail_at``-th of it."""

    def __init__(self) -> None:
        self.root: Path | None = None
        self.calls: list[str] = []
        self.fail_at = 0
        sys.addaudithook(self._audit)  # the only way to see files being opened; it cannot be taken off again

    @contextmanager
    def failing(self, root: Path, fail_at: int) -> Iterator[None]:
        self.root, self.calls, self.fail_at = root, [], fail_at
        try:
            yield
        finally:
            self.root = None

    def watching(self, patch: pytest.MonkeyPatch) -> Disk:
        """Itself, seeing what Python's own calls do for as long as the patch lasts."""
        for name in ("fsync", "replace", "rename", "mkdir"):
            patch.setattr(os, name, self._watched(name, getattr(os, name)))
        return self

    def _watched(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def watched(target: int | str | Path, *rest: object, **options: object) -> object:
            if self.root:
                path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
                if name != "mkdir" or not path.exists():
                    self._count(name, path)
            return call(target, *rest, **options)

        return watched

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.root and event == "open" and WRITING & set(str(arguments[1] or "")):
            self._count("open", Path(str(arguments[0])))

    def _count(self, name: str, path: Path) -> None:
        if self.root and path.is_relative_to(self.root):
            self.calls.append(f"{name} {path.relative_to(self.root)}")
            if len(self.calls) == self.fail_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


DISK = Disk()
