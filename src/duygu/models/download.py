"""Files of the hub into the hub's own cache: resumed where they were cut, and checked against their digests.

The hub's library (since 1.18) starts a file anew when its process was stopped, and over plain HTTP it checks no more
than sizes. So the bytes are fetched here, into ``blobs/DIGEST.incomplete``, which becomes ``blobs/DIGEST`` when the
digest is right. The library then finds them in its cache and links them into the snapshot, as it would its own.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from huggingface_hub import (
    constants,
    get_session,
    hf_hub_download,  # pyright: ignore[reportUnknownVariableType]
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import (
    WeakFileLock,
    build_hf_headers,  # pyright: ignore[reportUnknownVariableType]
    hf_raise_for_status,
)

from duygu.errors import FolderError, ModelError
from duygu.files import require_space, write_text
from duygu.models.hub import (
    MORE_ROOM,
    HttpFault,
    Remote,
    RemoteFile,
    Unreachable,
    address,
    conversion_note,
    hub_errors,
    repo_cache,
    total_bytes,
)
from duygu.models.progress import Progress

CHUNK = 1 << 20  # bytes
MEGABYTE = 1_000_000
ATTEMPTS = 5  # in a row that bring no byte
PAUSE_S = 1.0  # before the second of them; doubled each time


def download(remote: Remote, names: Sequence[str], progress: Progress) -> Path:
    """Fetch what the cache lacks of these files of a commit; the snapshot folder. Raises `ModelError`."""
    files = [remote.files[name] for name in names]
    missing = [file for file in files if not _is_cached(remote, file)]
    needed = total_bytes(missing)
    with hub_errors(remote.pinned, needed):
        _require_room(remote, missing)
        if needed >= MEGABYTE:
            named = ", ".join(file.name for file in missing)
            progress.message(f"downloading {remote.pinned} from {address()}: {named}, {needed / MEGABYTE:,.1f} MB")
        for file in missing:
            _fetch_blob(remote, file, progress)
        for file in files:
            hf_hub_download(remote.repo, file.name, revision=remote.commit, library_name="duygu")
    return repo_cache(remote.repo) / "snapshots" / remote.commit


def remember(remote: Remote, revision: str, conversion: Remote) -> None:
    """Note what a branch or tag meant, and which commit had its weights converted, for when the hub cannot be asked."""
    if revision != remote.commit:
        _note(repo_cache(remote.repo) / "refs" / revision, remote.commit)
    if conversion is not remote:
        _note(conversion_note(remote.commit), conversion.commit)


def _note(path: Path, commit: str) -> None:
    with suppress(FolderError, OSError):  # a cache that can only be read serves as well
        if not path.exists() or path.read_text(encoding="utf-8") != commit:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, commit)


def _is_cached(remote: Remote, file: RemoteFile) -> bool:
    """Whether the cache has the file, whole; a link to nothing or to something shorter is removed."""
    found = try_to_load_from_cache(remote.repo, file.name, revision=remote.commit)
    if not isinstance(found, str):
        return False
    path = Path(found)
    if path.stat().st_size == file.size:
        return True
    with hub_errors(remote.pinned):
        path.resolve().unlink()
        path.unlink(missing_ok=True)
    return False


def _require_room(remote: Remote, files: Sequence[RemoteFile]) -> None:
    here = sum(_size(_partial(_blob(remote, file))) for file in files)
    require_space(Path(constants.HF_HUB_CACHE), total_bytes(files) - here, MORE_ROOM, ModelError)


def _fetch_blob(remote: Remote, file: RemoteFile, progress: Progress) -> None:
    """Complete one file among the cache's blobs, unless another process does."""
    blob = _blob(remote, file)
    lock = Path(constants.HF_HUB_CACHE) / ".locks" / repo_cache(remote.repo).name / f"{blob.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    blob.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if not blob.exists():
            _complete(remote, file, blob, progress)


def _complete(remote: Remote, file: RemoteFile, blob: Path, progress: Progress) -> None:
    partial = _partial(blob)
    for _ in range(2):  # what an earlier process left may be wrong; a copy from the first byte on may not
        _fetch(remote, file, partial, progress)
        if _digest(partial, file) == file.digest:
            partial.replace(blob)
            return
        partial.unlink()
    problem = f"{file.name} arrived with other content than the hub's list of files says"
    raise ModelError(problem, remote.pinned, "run the command again; if it stays so, something on the way alters files")


def _fetch(remote: Remote, file: RemoteFile, partial: Path, progress: Progress) -> None:
    """Append to ``partial`` until it is as long as the file; a broken connection is taken up where it broke."""
    progress.phase(f"downloading {file.name}, MB", total=-(-file.size // MEGABYTE))
    progress.advance(_size(partial) // MEGABYTE)
    partial.touch()
    failures = 0
    while (begin := _size(partial)) < file.size or begin > file.size:
        try:
            _stream(remote, file, partial, progress)
            cause = None
        except HttpFault as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
                raise
            cause = error
        failures = 0 if _size(partial) > begin else failures + 1
        if failures == ATTEMPTS:
            raise cause or _cut(remote, file, begin)
        if failures:
            time.sleep(PAUSE_S * 2 ** (failures - 1))


def _stream(remote: Remote, file: RemoteFile, partial: Path, progress: Progress) -> None:
    """One request for what is missing. A server that knows no ranges sends all, and ``partial`` begins anew."""
    begin = _size(partial) if _size(partial) <= file.size else 0
    headers = {**build_hf_headers(library_name="duygu"), "Accept-Encoding": "identity"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    url = hf_hub_url(remote.repo, file.name, revision=remote.commit)
    with (
        get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response,
        partial.open("r+b") as target,
    ):
        hf_raise_for_status(response)
        end = begin if response.status_code == 206 else 0
        target.seek(end)
        target.truncate()
        for chunk in response.iter_raw(CHUNK):
            target.write(chunk[: file.size - end])
            before, end = end, min(end + len(chunk), file.size)
            progress.advance(end // MEGABYTE - before // MEGABYTE)
            if end == file.size:
                break
        target.flush()
        os.fsync(target.fileno())


def _cut(remote: Remote, file: RemoteFile, end: int) -> Unreachable:
    problem = f"the hub sends {file.name} only up to byte {end:,} of {file.size:,}"
    return Unreachable(problem, remote.pinned, "run the command again in a while; what has arrived is kept")


def _digest(path: Path, file: RemoteFile) -> str:
    """What the cache would call the content: SHA-256, or git's SHA-1 of a small file."""
    if len(file.digest) == 64:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _blob(remote: Remote, file: RemoteFile) -> Path:
    return repo_cache(remote.repo) / "blobs" / file.digest


def _partial(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
