"""All durable input and output: what is under its final name is whole, whatever was killed and whenever.

A file is written under a temporary name in the same folder, flushed, fsynced, renamed, and its folder fsynced. A folder
is committed the same way, with a ``manifest.json`` of sizes and SHA-256 digests; it is deleted by renaming it away
first. What a killed process leaves behind starts with ``.partial-`` or ``.deleted-`` and is swept at the next start.
Modes follow the umask. Disk errors become `FolderError` with the bytes that were needed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from duygu.errors import FolderError, UserError

SCHEMA = 1  # of every JSON file that duygu writes, but for comparison.json
NEWEST = 2  # that it reads
MANIFEST = "manifest.json"
READ_LIMIT = 64 << 20  # bytes that a text or JSON file may have
PARTIAL = ".partial-"
DELETED = ".deleted-"
LOCK = ".lock"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CANNOT_LOCK = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}


def read_bytes(path: Path, limit: int = READ_LIMIT, error: type[UserError] = FolderError) -> bytes:
    """The whole of a regular file of at most ``limit`` bytes; anything else raises ``error``."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise error("not a regular file", str(path), "give a plain file")
        with path.open("rb") as file:
            content = file.read(min(limit, status.st_size) + 1)  # a read reserves all that it asks for
    except OSError as cause:
        raise error(f"cannot be read: {_reason(cause)}", str(path), "check the path and its permissions") from cause
    if len(content) > limit:
        raise error(f"larger than {limit:,} bytes, which no such file should be", str(path), "give the right file")
    return content


def read_text(path: Path, limit: int = READ_LIMIT, error: type[UserError] = FolderError) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark."""
    try:
        return read_bytes(path, limit, error).decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"not UTF-8 at byte {cause.start}", str(path), "save it as UTF-8") from cause


def read_json(path: Path, limit: int = READ_LIMIT, error: type[UserError] = FolderError) -> dict[str, Any]:
    """The object in a JSON file; a ``schema`` newer than this version's is an error."""
    try:
        value = json.loads(read_text(path, limit, error), parse_constant=_refuse)
    except RecursionError as cause:
        raise error("not valid JSON: nested too deeply", str(path), "restore or regenerate the file") from cause
    except ValueError as cause:
        raise error(f"not valid JSON: {cause}", str(path), "restore or regenerate the file") from cause
    if not isinstance(value, dict):
        raise error("not a JSON object", str(path), "restore or regenerate the file")
    found = cast(dict[str, Any], value)
    schema = found.get("schema", SCHEMA)
    if not isinstance(schema, int) or schema > NEWEST:
        raise error(f"has schema {schema!r}; this version reads up to {NEWEST}", str(path), "upgrade duygu")
    return found


def encode_json(value: Mapping[str, object]) -> bytes:
    """Indented UTF-8 JSON with ``schema`` first; NaN and infinity raise ValueError."""
    text = json.dumps({"schema": SCHEMA, **value}, ensure_ascii=False, indent=2, allow_nan=False)
    return (text + "\n").encode()


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Replace ``path`` atomically; ``schema`` is added."""
    write_bytes(path, encode_json(value))


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` atomically with UTF-8 text, line ends as given."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` atomically: at any moment it holds the old or the new content, whole."""
    partial = path.with_name(f"{PARTIAL}{path.name}")
    with on_disk(path, len(content)):
        try:
            with partial.open("wb") as file:
                file.write(content)
                _sync(file)
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create a folder and its parents where missing."""
    with on_disk(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def new_folder(target: Path, needed: int = 0, manifest: bool = True) -> Generator[Path]:
    """Fill the folder that is yielded; at the end it appears as ``target``, whole, or not at all.

    ``target`` must not exist; it has no folders inside; ``needed`` is about the bytes it takes, for errors. With
    ``manifest``, `verify` can tell any later damage.
    """
    partial = target.with_name(f"{PARTIAL}{target.name}")
    with on_disk(target, needed):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            _commit(partial, target, manifest)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def delete_folder(path: Path) -> None:
    """Remove a folder; one that is half removed is never seen under its name."""
    gone = path.with_name(f"{DELETED}{path.name}")
    with on_disk(path):
        shutil.rmtree(gone, ignore_errors=True)
        path.replace(gone)
        sync_folder(path.parent)
        shutil.rmtree(gone)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in ``folder``, if it exists; only for who holds its lock."""
    if not folder.is_dir():
        return
    with on_disk(folder):
        for path in [entry for entry in folder.iterdir() if entry.name.startswith((PARTIAL, DELETED))]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def verify(folder: Path) -> None:
    """Raise `FolderError` unless every file in a committed folder is as its manifest says, to the bit."""
    stated = read_json(folder / MANIFEST)
    with on_disk(folder):
        actual = _manifest(folder)
    if stated.get("files") != actual["files"] or read_bytes(folder / MANIFEST) != encode_json(actual):
        raise FolderError("damaged: its files are not what its manifest says", str(folder), "restore it or delete it")


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold ``folder`` for this process alone; a second holder gets a `FolderError` that names the first.

    The kernel drops the lock with its holder, so none is ever stale, after a crash or a reboot. The process id in the
    file only serves the message. On file systems that cannot lock, nothing is locked.
    """
    with on_disk(folder / LOCK):
        file = (folder / LOCK).open("a+b", buffering=0)
    with file:
        _take_lock(file, folder)
        with suppress(OSError):  # a full disk locks all the same
            file.truncate(0)
            file.write(f"{os.getpid()}\n".encode())
        yield


def require_space(
    folder: Path,
    needed: int,
    fix: str = "free some space or choose another --out",
    error: type[UserError] = FolderError,
) -> None:
    """Raise ``error`` when the disk beneath ``folder`` has fewer than ``needed`` bytes free."""
    free = _free(folder)
    if free is not None and free < needed:
        raise error(f"too little disk space: {needed:,} bytes are needed, {free:,} are free", str(folder), fix)


class LineLog:
    """A file of JSON lines that only grows; opened again, it is first cut to the bytes known to be good."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Open ``path`` and cut it to its first ``keep`` bytes; shorter than that is a `FolderError`."""
        self.path = path
        with on_disk(path):
            self._file = path.open("ab")
            if self._file.tell() < keep:
                self._file.close()
                raise FolderError(
                    f"shorter than the {keep:,} bytes it had", str(path), "restore it, or use --overwrite"
                )
            self._file.truncate(keep)

    def append(self, value: Mapping[str, object]) -> None:
        """Write one object as one line and hand it to the system."""
        line = json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with on_disk(self.path, len(line)):
            self._file.write(line)
            self._file.flush()

    def sync(self) -> int:
        """Make every line durable; the file's size in bytes."""
        with on_disk(self.path):
            _sync(self._file)
            return self._file.tell()

    def close(self) -> None:
        """Close the file; nothing may be appended after."""
        with on_disk(self.path):
            self._file.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every object of a file of JSON lines; a last line without its end was never finished and is left out."""
    lines = read_bytes(path).decode().split("\n")[:-1]
    try:
        return [cast(dict[str, Any], json.loads(line)) for line in lines]
    except ValueError as cause:
        raise FolderError(f"not valid JSON lines: {cause}", str(path), "restore or delete the file") from cause


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with on_disk(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    if os.name != "posix":  # elsewhere folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def on_disk(path: Path, needed: int = 0) -> Generator[None]:
    """Turn the system's errors within into a `FolderError` for ``path``; ``needed`` bytes were to be written."""
    try:
        yield
    except OSError as error:
        raise _folder_error(error, path, needed) from error


def _folder_error(error: OSError, path: Path, needed: int) -> FolderError:
    if error.errno in _FULL:
        free = _free(path.parent)
        room = f"{needed:,} bytes are needed" + ("" if free is None else f", {free:,} are free")
        return FolderError(f"the disk is full: {room}", str(path), "free some space, then run again with --resume")
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return FolderError("a file lies where a folder is wanted", str(path), "choose another folder")
    what = f"cannot be written ({needed:,} bytes)" if needed else "cannot be used"
    return FolderError(f"{what}: {_reason(error)}", str(path), "check the folder's permissions and its disk")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _free(folder: Path) -> int | None:
    """Free bytes of the disk beneath ``folder``, which need not exist yet; None where the system will not say."""
    for place in (folder, *folder.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return None


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _commit(partial: Path, target: Path, manifest: bool) -> None:
    """Make every file durable, then the manifest that vouches for them, then the folder, and only then its name."""
    for path in sorted(partial.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if manifest:
        with (partial / MANIFEST).open("wb") as file:
            file.write(encode_json(_manifest(partial)))
            _sync(file)
    sync_folder(partial)
    partial.rename(target)
    sync_folder(target.parent)


def _manifest(folder: Path) -> dict[str, object]:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    return {"files": files}


def _take_lock(file: IO[bytes], folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(32).decode(errors="replace").strip() or "unknown"
        fix = "wait for it, stop it, or choose another --out"
        raise FolderError(f"another run (process {holder}) is writing here", str(folder), fix) from error
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise _folder_error(error, folder, 0) from error
