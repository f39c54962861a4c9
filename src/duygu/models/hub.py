"""The Hugging Face hub: which commit a name means, which files it holds, and what its refusals mean.

A name is resolved to a commit first, and everything after speaks of that commit, so that a branch that moves changes no
run. Where the hub cannot be asked, what its cache knows of the name is used. Nothing is fetched here; `download` does.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from duygu.errors import ModelError, without_login

COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
MAIN = "main"
TIMEOUT_S = 30.0  # of one question to the hub
BOT = "SFconvertbot"  # the hub's own converter, and the title of the pull requests that it opens
BOT_TITLE = "Adding `safetensors` variant of this model"
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
MORE_ROOM = "free some space, or set HF_HOME to a folder on a larger disk"
HttpFault: type[Exception] = HTTPError  # what the library's HTTP client raises, whichever client that is
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Unreachable(ModelError):
    """The hub could not be asked, which says nothing about the model."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a commit."""

    name: str
    size: int  # bytes
    digest: str  # SHA-256, or the SHA-1 that git gives a small file; the cache's name for the content


@dataclass(frozen=True, slots=True)
class Remote:
    """A commit of a model on the hub."""

    repo: str  # "owner/name"
    commit: str
    files: Mapping[str, RemoteFile]

    @property
    def pinned(self) -> str:
        """The name that means this commit for ever."""
        return f"{self.repo}@{self.commit}"


def look_up(repo: str, revision: str) -> Remote:
    """What ``revision`` (a branch, tag, ref or commit) is now. Raises `Unreachable` or another `ModelError`."""
    name = repo if revision == MAIN else f"{repo}@{revision}"
    with hub_errors(name), _understood(name):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
        files = [
            RemoteFile(file.rfilename, file.size, (file.lfs.sha256 if file.lfs else file.blob_id) or "")
            for file in info.siblings or ()
            if file.size is not None
        ]
        if not COMMIT.fullmatch(info.sha or "") or not all(DIGEST.fullmatch(file.digest) for file in files):
            raise ValueError("a commit or a digest is none")
        return Remote(repo, str(info.sha), {file.name: file for file in files})


def conversion_branch(remote: Remote) -> Remote | None:
    """The same commit with safetensors that the hub's own converter added, where its pull request is open.

    Found as transformers finds it (``safetensors_conversion.py``): by title and author, one commit after ours. Unlike
    there, none is asked for: that would have a third party's service change the model's page.
    """
    api = HfApi()
    try:
        with hub_errors(remote.repo), _understood(remote.repo):
            found = api.get_repo_discussions(remote.repo, author=BOT, discussion_type="pull_request")
            requests = [one for one in found if (one.author, one.title, one.status) == (BOT, BOT_TITLE, "open")]
            for request in (one for one in requests if one.is_pull_request):
                reference = f"refs/pr/{request.num}"
                commits = [commit.commit_id for commit in api.list_repo_commits(remote.repo, revision=reference)[:2]]
                if commits[1:] == [remote.commit]:
                    return look_up(remote.repo, commits[0])
    except ModelError:  # pages that are closed to pull requests, or to us: there is no such branch, then
        return None
    return None


def cached_folder(repo: str, revision: str) -> Path | None:
    """The cache's snapshot of a revision, as far as it is there; asks nobody."""
    found = try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def cached_conversion(repo: str, revision: str) -> Path | None:
    """The snapshot that holds the converted weights of a revision, where one was fetched before."""
    asked = cached_folder(repo, revision)
    if asked is None or not conversion_note(asked.name).exists():
        return None
    return cached_folder(repo, conversion_note(asked.name).read_text(encoding="utf-8"))


def conversion_note(commit: str) -> Path:
    """The file that says which commit has the converted weights of ``commit``."""
    return Path(constants.HF_ASSETS_CACHE) / "duygu" / "conversions" / commit


def repo_cache(repo: str) -> Path:
    """The folder of one model in the hub's cache: blobs, refs, snapshots."""
    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def is_offline() -> bool:
    """Whether the user has switched the hub off (``HF_HUB_OFFLINE``)."""
    return constants.HF_HUB_OFFLINE


def address(name: str = "") -> str:
    """Where the hub is (``HF_ENDPOINT``), or a model's page there."""
    return f"{without_login(constants.ENDPOINT)}/{name.partition('@')[0]}".rstrip("/")


def total_bytes(files: Iterable[RemoteFile]) -> int:
    """Their sizes together."""
    return sum(file.size for file in files)


@contextmanager
def hub_errors(name: str, needed: int = 0) -> Generator[None]:
    """Turn whatever the hub, its library, the network or the disk raises within into a `ModelError` for ``name``."""
    try:
        yield
    except GatedRepoError as error:
        problem = f"{name} is gated: its owner decides who may download it"
        fix = f"accept its terms on that page, or ask for access there, then {LOGIN}; or give a folder that holds it"
        raise ModelError(problem, address(name), fix) from error
    except RepositoryNotFoundError as error:
        problem = f"there is no folder {name!r} here, and no such model on the hub that you may see"
        fix = f"check the spelling; for a private model {LOGIN}; duygu models lists the presets"
        raise ModelError(problem, address(name), fix) from error
    except RevisionNotFoundError as error:
        repo, _, revision = name.partition("@")
        problem = f"the model has no revision {revision or MAIN!r}"
        raise ModelError(problem, address(name), f"give a branch, tag or commit, as in {repo}@{MAIN}") from error
    except LocalEntryNotFoundError as error:  # the library's word for: neither there nor here
        raise _unreachable(name, error.__cause__ or error) from error
    except HfHubHTTPError as error:
        raise _refused(name, error) from error
    except (HttpFault, OfflineModeIsEnabled) as error:
        raise _unreachable(name, error) from error
    except OSError as error:
        raise _disk(name, error, needed) from error


@contextmanager
def _understood(name: str) -> Generator[None]:
    """A `ModelError` for an answer that the library cannot read: a login page, a server that is no hub."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"what answers at {address()} is not the hub: {error}"
        raise ModelError(problem, name, "check HF_ENDPOINT, and whether a proxy wants a login") from error


def _unreachable(name: str, error: BaseException) -> Unreachable:
    if isinstance(error, OfflineModeIsEnabled) or is_offline():
        return Unreachable("the hub is switched off by HF_HUB_OFFLINE", name, "unset HF_HUB_OFFLINE")
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    fix = "check the connection, HTTPS_PROXY and HF_ENDPOINT, then run the command again"
    return Unreachable(f"the hub cannot be reached at {address()}: {reason}", name, fix)


def _refused(name: str, error: HfHubHTTPError) -> ModelError:
    status = error.response.status_code
    if status == 401:
        return ModelError("the hub does not accept the token that was sent", address(name), LOGIN)
    if status == 429:
        return Unreachable("the hub answers too many requests from here (429)", name, f"wait a while, or {LOGIN}")
    if status >= 500:
        return Unreachable(f"the hub fails with status {status}", name, "run the command again in a while")
    problem = f"the hub refuses with status {status}: {error.server_message or 'no reason given'}"
    return ModelError(problem, address(name), f"open that page in a browser to see why; if you may see it, {LOGIN}")


def _disk(name: str, error: OSError, needed: int) -> ModelError:
    where = constants.HF_HUB_CACHE
    if error.errno in _FULL:
        fix = f"{MORE_ROOM}; what has arrived is kept"
        return ModelError(f"the disk is full: {name} takes {needed:,} bytes", where, fix)
    return ModelError(f"{name} cannot be kept: {error}", where, "make that folder writable, or set HF_HOME to another")
