"""A folder of ``.txt`` files, one sub-folder per label; files may lie deeper below their label's folder.

Nothing outside the folder is read: links that lead out of it, pipes and devices are left out and told of.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from duygu.data.dates import source_and_date
from duygu.data.encoding import Undecodable, decode
from duygu.data.sources import DOCUMENT_LIMIT, Document, Faults, some
from duygu.errors import DataError, printable

PARTS = {"train", "training", "dev", "val", "valid", "validation", "test", "eval", "unsup"}
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
UNLABELLED = "file(s) lie beside the label folders, so have no label,"
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # opening a pipe must not wait
AGAIN = "run again when nothing writes to the folder"
REPAIR = "convert it to UTF-8, repair or remove it, or name its encoding with --encoding"


def read_folder(root: Path, encoding: str | None, notes: list[str]) -> Iterator[Document]:
    """Every document below ``root``; what is passed over is told in ``notes``.

    Raises `DataError` for files that cannot be read, all at once, and where there are none.
    """
    skipped: Counter[str] = Counter()
    labels: set[str] = set()
    faults = Faults(_readable(root))
    inside = root.resolve()
    for path in _walk(root, inside, skipped, faults):
        relative = path.relative_to(root)
        if len(relative.parts) == 1:
            skipped[UNLABELLED] += 1
            continue
        labels.add(relative.parts[0])
        document = _read(path, relative, encoding, faults)
        if document:
            yield document
    faults.check()
    _check_labels(root, labels, skipped)
    notes.extend(f"{count} {what} and were left out" for what, count in sorted(skipped.items()))
    empty = [name for name in _visible_folders(root) if name not in labels]
    if empty:
        notes.append(f"no .txt files lie below the folder(s) {printable(some(empty))}, so they make no label")


def _read(path: Path, relative: Path, encoding: str | None, faults: Faults) -> Document | None:
    name = _readable(relative)
    try:
        id = unicodedata.normalize("NFC", _utf8_name(relative))  # some file systems decompose what they store
        text, found = decode(_read_bytes(path), encoding)
    except Undecodable as error:
        faults.add(f"the file cannot be read as text: {error}", error.fix or REPAIR, name, error.line)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        faults.add(f"the file cannot be read: {reason}", "check its permissions, or remove it", name)
    else:
        source, date = source_and_date(id.rpartition("/")[2])
        return Document(id, id.partition("/")[0], text, found, date=date, source=source)
    return None


def _walk(root: Path, inside: Path, skipped: Counter[str], faults: Faults) -> Iterator[Path]:
    """Regular ``.txt`` files below ``root``, hidden names passed over; never follows a link out of it."""

    def unreadable(error: OSError) -> None:
        name = _readable(Path(os.path.relpath(error.filename, root))).removeprefix(".")
        reason = (error.strerror or str(error)).lower()
        faults.add(f"the folder cannot be read: {reason}", "check its permissions, or remove it", name)

    for folder, folders, files in os.walk(root, onerror=unreadable):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        if links:
            skipped["folder(s) are links"] += len(links)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in links)
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(folder, name)
            if not name.lower().endswith(".txt"):
                skipped["file(s) do not end in .txt"] += 1
            elif _is_inside(path, inside):
                yield path
            else:
                skipped["file(s) are links out of the folder, broken links, pipes or devices"] += 1


def _is_inside(path: Path, root: Path) -> bool:
    """Whether ``path`` is a regular file of ``root``, itself or through a link."""
    try:
        return stat.S_ISREG(path.stat().st_mode) and (not path.is_symlink() or path.resolve().is_relative_to(root))
    except FileNotFoundError:
        return not path.is_symlink()  # vanished since it was listed: reading it says so
    except OSError:
        return not path.is_symlink()  # a path too long, say: reading it says so


def _read_bytes(path: Path) -> bytes:
    with os.fdopen(os.open(path, READ), "rb") as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            raise Undecodable("it became a pipe or a device after it was listed", 0, AGAIN)
        if size > DOCUMENT_LIMIT:
            reason = f"it is larger than {DOCUMENT_LIMIT // 2**20} MB, so hardly one document"
            raise Undecodable(reason, 0, "cut it into a file per document, or remove it")
        data = file.read(size + 1)  # a read reserves all that it asks for
    if len(data) > size:
        raise Undecodable("it grew while it was read", 0, AGAIN)
    return data


def _utf8_name(relative: Path) -> str:
    name = relative.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Undecodable("its name is not UTF-8", 0, "rename it") from error
    return name


def _readable(path: Path) -> str:
    """A name for messages, whatever bytes it has."""
    return os.fsencode(path.as_posix()).decode(errors="replace")


def _visible_folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        found = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    return [name for name in found if not name.startswith(".")]


def _check_labels(root: Path, labels: set[str], skipped: Counter[str]) -> None:
    """Raise `DataError` where no file has a label, or where the folders are not labels."""
    if not labels:
        raise DataError(*_nothing_found(root, skipped))
    if len(labels) > 1 and {label.lower() for label in labels} <= PARTS:
        where = _readable(root)
        fix = f"give one of them, such as {where}/{min(labels)}, with one sub-folder per label in it"
        raise DataError(f"the folders {', '.join(sorted(labels))} are parts of a corpus, not labels", where, fix)


def _nothing_found(root: Path, skipped: Counter[str]) -> tuple[str, str, str]:
    where = _readable(root)
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLES)
    if tables:
        return "the folder holds a table, not label folders", where, f"give the table itself: {_readable(tables[0])}"
    fix = "make one sub-folder per label and put .txt files into it"
    if skipped[UNLABELLED]:
        return f"{skipped[UNLABELLED]} .txt file(s) lie in the folder itself, so have no label", where, fix
    return "no labelled texts were found", where, fix
