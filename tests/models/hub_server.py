"""A small Hugging Face hub on this machine: the part of its HTTP interface that downloading a model takes.

Commits, branches and pull requests of models; model info, commits, discussions; ``resolve`` with the hub's headers and
redirects to a second origin for large files, with ranges. `Fault` makes an answer fail as the network does.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".h5", ".onnx")  # kept in large-file storage
TOKEN = "hf_good"


@dataclass
class Fault:
    """What goes wrong with the answers whose path contains ``path``: the first ``times`` of them."""

    path: str
    status: int = 0  # answer with this status
    cut: int = -1  # send so many bytes of the body, then break the connection
    stall: float = 0  # seconds of silence before the body, or before the break
    flip: bool = False  # alter the first byte
    no_ranges: bool = False  # send the whole file, whatever was asked
    page: bytes = b""  # a body in place of the answer
    times: int = 10**9
    method: str = "GET"


@dataclass
class Commit:
    id: str
    parent: str | None
    files: Mapping[str, bytes]


@dataclass
class Repo:
    """A model: its commits, what its refs mean, and its pull requests as (number, author, title, status)."""

    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    pulls: list[tuple[int, str, str, str]] = field(default_factory=list)
    gated: bool = False
    accepted: bool = True  # its terms, by whom the token belongs to
    private: bool = False

    def commit(self, files: Mapping[str, bytes], ref: str = "main", parent: str | None = None) -> str:
        """Add a commit, on top of what ``ref`` means unless told, and let ``ref`` mean it; its id."""
        parent = parent or self.refs.get(ref)
        content = repr((parent, sorted((name, digest(name, data)) for name, data in files.items())))
        identity = hashlib.sha1(content.encode()).hexdigest()
        self.commits[identity] = Commit(identity, parent, dict(files))
        self.refs[ref] = identity
        return identity

    def find(self, revision: str) -> Commit | None:
        return self.commits.get(self.refs.get(revision, revision))

    def history(self, commit: Commit | None) -> Iterator[Commit]:
        while commit:
            yield commit
            commit = self.commits.get(commit.parent or "")


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    authorized: bool
    status: int = 0
    sent: int = 0  # bytes of the body


class Hub:
    """The server's state: what it holds, what goes wrong, what was asked."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.url = ""  # of the hub
        self.storage = ""  # of large files: another origin
        self.stopping = threading.Event()

    def add(self, name: str, folder: Path | Mapping[str, bytes]) -> Repo:
        """A model of one commit with the files of a folder."""
        self.repos[name] = repo = Repo()
        repo.commit(folder if isinstance(folder, Mapping) else read(folder))
        return repo

    def sent(self, name: str) -> int:
        """Bytes of bodies sent for files of this name."""
        names = {name, *(digest(name, c.files[name]) for r in self.repos.values() for c in r.commits.values()
                         if name in c.files)}  # fmt: skip
        return sum(one.sent for one in self.requests if one.path.rpartition("/")[2] in names)

    def asked(self, method: str = "GET") -> list[str]:
        """File names asked for, large ones by their page and not again by their storage."""
        return [
            one.path.rpartition("/")[2] for one in self.requests if one.method == method and "/resolve/" in one.path
        ]


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def is_large(name: str) -> bool:
    return name.endswith(LARGE)


def digest(name: str, content: bytes) -> str:
    """SHA-256 for large files, git's SHA-1 for others."""
    return hashlib.sha256(content).hexdigest() if is_large(name) else git_digest(content)


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path, _, _ = self.path.partition("?")
        authorization = self.headers.get("Authorization")
        self.request_ = Request(self.command, unquote(path), self.headers.get("Range"), authorization is not None)
        self.hub.requests.append(self.request_)
        self.fault = self._fault(unquote(path))
        if self.fault.status or self.fault.page:
            self._send(self.fault.status or 200, self.fault.page or b"{}", {"Content-Type": "text/html"})
        elif authorization not in (None, f"Bearer {TOKEN}"):
            self._send(401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif path.startswith("/api/models/"):
            self._api(unquote(path).removeprefix("/api/models/"), parse_qs(urlsplit(self.path).query))
        elif path.startswith("/storage/"):
            self._storage(path.rpartition("/")[2])
        else:
            self._resolve(path)

    def _fault(self, path: str) -> Fault:
        for fault in self.hub.faults:
            if fault.path in path and fault.method == self.command and fault.times > 0:
                fault.times -= 1
                return fault
        return Fault("")

    def _repo(self, name: str) -> Repo | None:
        """The model, if the asker may see it; else the answer that hides whether there is one."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.request_.authorized):
            status = 404 if self.request_.authorized else 401
            self._send(status, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return None
        return repo

    def _api(self, path: str, query: Mapping[str, list[str]]) -> None:
        owner, model, *rest = path.split("/")
        repo = self._repo(f"{owner}/{model}")
        if repo is None:
            return
        kind, revision = (rest[0], "/".join(rest[1:])) if rest else ("revision", "main")
        if kind == "discussions":
            self._send(200, _json(_discussions(repo, query)))
            return
        commit = repo.find(revision or "main")
        if commit is None:
            self._no_revision()
        elif kind == "commits":
            self._send(200, _json([_commit_entry(one) for one in repo.history(commit)]))
        else:
            self._send(200, _json(_info(f"{owner}/{model}", repo, commit)))

    def _resolve(self, path: str) -> None:
        owner, model, _, revision, *names = path.strip("/").split("/")
        repo, name = self._repo(f"{owner}/{model}"), unquote("/".join(names))
        if repo is None:
            return
        commit = repo.find(unquote(revision))
        if commit is None:
            self._no_revision()
        elif repo.gated and not (self.request_.authorized and repo.accepted):
            status = 403 if self.request_.authorized else 401
            self._send(status, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif name not in commit.files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit.id})
        else:
            content = commit.files[name]
            headers = {"X-Repo-Commit": commit.id, "ETag": f'"{git_digest(content)}"'}
            if is_large(name):
                linked = {"X-Linked-Etag": f'"{digest(name, content)}"', "X-Linked-Size": str(len(content))}
                location = {"Location": f"{self.hub.storage}/storage/{digest(name, content)}"}
                self._send(302, b"Found", headers | linked | location)
            else:
                self._content(content, headers)

    def _storage(self, wanted: str) -> None:
        for repo in self.hub.repos.values():
            for commit in repo.commits.values():
                for name, content in commit.files.items():
                    if is_large(name) and digest(name, content) == wanted:
                        self._content(content, {"ETag": f'"{wanted}"'})
                        return
        self._send(404, b"")

    def _content(self, content: bytes, headers: Mapping[str, str]) -> None:
        asked = self.headers.get("Range")
        if self.fault.flip:
            content = bytes([content[0] ^ 1]) + content[1:]
        if asked and not self.fault.no_ranges:
            begin = int(asked.removeprefix("bytes=").partition("-")[0])
            if begin >= len(content):
                self._send(416, b"")
                return
            span = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
            self._send(206, content[begin:], {**headers, **span})
        else:
            self._send(200, content, headers)

    def _no_revision(self) -> None:
        self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.request_.status = status
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault.cut < 0:
            self.hub.stopping.wait(self.fault.stall)
            self._write(body)
        else:
            self._write(body[: self.fault.cut])
            self.hub.stopping.wait(self.fault.stall)
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _write(self, body: bytes) -> None:
        self.request_.sent = len(body)
        with suppress(ConnectionError):  # the client may be gone
            self.wfile.write(body)
            self.wfile.flush()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _info(name: str, repo: Repo, commit: Commit) -> dict[str, Any]:
    files = [
        {
            "rfilename": file,
            "size": len(content),
            "blobId": git_digest(content),
            **({"lfs": {"sha256": digest(file, content), "size": len(content), "pointerSize": 134}}
               if is_large(file) else {}),
        }
        for file, content in commit.files.items()
    ]  # fmt: skip
    return {"id": name, "sha": commit.id, "private": repo.private, "gated": repo.gated, "siblings": files}


def _commit_entry(commit: Commit) -> dict[str, Any]:
    return {"id": commit.id, "title": "", "message": "", "authors": [{"user": "x"}], "date": "2024-01-01T00:00:00.000Z"}


def _discussions(repo: Repo, query: Mapping[str, list[str]]) -> dict[str, Any]:
    author = query.get("author", [None])[0]
    found = [
        {"num": number, "author": {"name": name}, "title": title, "status": status, "isPullRequest": True,
         "createdAt": "2024-01-01T00:00:00.000Z", "repo": {"name": "owner/model", "type": "model"}}
        for number, name, title, status in repo.pulls
        if author in (None, name)
    ]  # fmt: skip
    return {"count": len(found), "start": 0, "discussions": found}


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    port = server.server_address[1]
    hub.url, hub.storage = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until ``condition()`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
