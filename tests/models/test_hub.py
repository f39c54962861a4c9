"""Models of the hub: resolved, fetched, resumed, kept and refused, against a local server of the hub's interface."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import TOKEN, Fault, Hub, read, wait_until
from safetensors.numpy import load_file, save_file
from small_models import LABELS

from duygu.errors import ModelError
from duygu.models.folder import Model, open_model, weights_digest
from duygu.models.hub import address, conversion_branch, look_up, repo_cache
from duygu.models.source import ORIGIN, copy_model, find_model, hub_name, pinned
from tests.failing_disk import DISK

NAME = "owner/model"
WEIGHTS = "model.safetensors"
STRANGERS = ("README.md", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "modeling.py", "adapter.safetensors")


class Heard:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.phases: list[tuple[str, int | None]] = []

    def phase(self, name: str, total: int | None = None) -> None:
        self.phases.append((name, total))

    def advance(self, amount: int = 1, note: str = "") -> None:
        assert amount >= 0

    def message(self, text: str) -> None:
        self.messages.append(text)


def opened(name: str | Path = NAME, heard: Heard | None = None) -> Model:
    return open_model(name, LABELS, 1, list, heard or Heard())


def numbers(name: str | Path = NAME) -> str:
    return weights_digest(opened(name).tensors.items())


def refused(name: str = NAME) -> ModelError:
    with pytest.raises(ModelError) as caught:
        opened(name)
    assert caught.value.problem
    assert caught.value.where
    assert caught.value.fix
    return caught.value


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def changed(folder: Path, factor: float = 2) -> dict[str, bytes]:
    """The folder's files with other weights."""
    from safetensors.numpy import save

    tensors = {name: tensor * factor for name, tensor in load_file(folder / WEIGHTS).items()}
    return {**read(folder), WEIGHTS: save(tensors)}


def grown(folder: Path) -> Path:
    """The folder with weights of some megabytes, for what happens in the middle of a file."""
    import numpy as np

    tensors = load_file(folder / WEIGHTS)
    save_file({**tensors, "cls.filler": np.random.default_rng(0).random(2**19, np.float32)}, folder / WEIGHTS)
    return folder


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("dbmdz/bert-base-turkish-cased", ("dbmdz/bert-base-turkish-cased", "main")),
        ("a/b@v1.0", ("a/b", "v1.0")),
        ("a/b@refs/pr/3", ("a/b", "refs/pr/3")),
        (f"a/b@{'0' * 40}", ("a/b", "0" * 40)),
        ("tiny", None),
        ("./a/b", None),
        ("/a/b", None),
        ("a/b/c", None),
        ("a/..", None),
        ("a/b@../../c", None),
        ("a/b@/c", None),
        ("a/b@", None),
        ("a--b/c", None),
        ("a/b.git", None),
        ("ı/b", None),
        ("a/b\n", None),
    ],
)
def test_names_of_the_hub_are_told_from_paths(name, meant):
    assert hub_name(name) == meant


def test_a_model_of_the_hub_is_the_folder_that_was_uploaded(hub, handmade):
    repo = hub.add(NAME, {**read(grown(handmade)), **dict.fromkeys(STRANGERS, b"never fetched")})
    heard = Heard()
    model = opened(heard=heard)
    assert weights_digest(model.tensors.items()) == numbers(handmade)
    assert model.name == NAME
    assert model.revision == f"{NAME}@{repo.refs['main']}"
    assert sorted(hub.asked()) == ["config.json", WEIGHTS, "tokenizer_config.json", "vocab.txt"]
    assert heard.messages == [f"downloading {model.revision} from {hub.url}: {WEIGHTS}, 2.1 MB"]
    assert (f"downloading {WEIGHTS}, MB", 3) in heard.phases
    assert not any(path for path in hub.requests if path.authorized)


def test_what_is_in_the_cache_is_not_fetched_again(hub, handmade):
    hub.add(NAME, handmade)
    opened()
    count = len(hub.asked())
    heard = Heard()
    opened(heard=heard)
    assert len(hub.asked()) == count
    assert heard.messages == []


def test_the_cache_is_the_hubs_own(hub, handmade):
    """Its library finds there what duygu fetched, and duygu takes what its library fetched."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    hub.add(NAME, handmade)
    for name in ("config.json", WEIGHTS):
        hf_hub_download(NAME, name)
    before = hub.sent(WEIGHTS)
    opened()
    assert hub.sent(WEIGHTS) == before
    for name in ("config.json", WEIGHTS, "vocab.txt"):
        path = try_to_load_from_cache(NAME, name)
        assert isinstance(path, str)
        assert Path(path).read_bytes() == (handmade / name).read_bytes()


def test_a_branch_that_moves_moves_no_pinned_revision(hub, handmade):
    repo = hub.add(NAME, handmade)
    first = opened().revision
    before = numbers()
    repo.commit(changed(handmade))
    assert numbers() != before
    assert opened().revision != first
    assert numbers(first) == before
    assert opened(first).revision == first
    asked = len(hub.requests)
    assert numbers(first) == before
    assert len(hub.requests) == asked  # a commit in the cache needs no hub


def test_tags_and_references_are_revisions(hub, handmade):
    repo = hub.add(NAME, handmade)
    commit = repo.commit(changed(handmade), "refs/pr/7")
    assert opened(f"{NAME}@refs/pr/7").revision == f"{NAME}@{commit}"
    assert opened(f"{NAME}@{commit}").revision == f"{NAME}@{commit}"


@pytest.mark.parametrize(
    ("name", "kept", "meant"),
    [
        ("a/b", "a/b@c0ffee", "a/b@c0ffee"),
        ("a/b@main", "a/b@c0ffee", "a/b@main"),
        ("a/c", "a/b@c0ffee", "a/c"),
        ("a/b", None, "a/b"),
    ],
)
def test_a_run_that_goes_on_takes_its_own_commit(name, kept, meant):
    assert pinned(name, kept) == meant


def test_a_broken_connection_is_taken_up_where_it_broke(hub, handmade):
    hub.add(NAME, grown(handmade))
    hub.faults.append(Fault("/storage/", cut=1_200_000, times=1))
    assert numbers() == numbers(handmade)
    size = (handmade / WEIGHTS).stat().st_size
    assert hub.sent(WEIGHTS) - size < 300_000  # what was on its way when the connection broke
    ranges = [one.range for one in hub.requests if "/storage/" in one.path]
    assert ranges[0] is None
    assert 900_000 < int(ranges[1].removeprefix("bytes=").rstrip("-")) <= 1_200_000


def test_a_killed_download_goes_on_in_the_next_process(hub, handmade, tmp_path):
    hub.add(NAME, grown(handmade))
    hub.faults.append(Fault("/storage/", cut=1_200_000, stall=60, times=1))
    program = f'from duygu.models.folder import open_model; open_model({NAME!r}, ("a", "b"), 1, list)'
    places = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache" / "hub"), "HF_HUB_DOWNLOAD_TIMEOUT": "60"}
    blobs = repo_cache(NAME) / "blobs"
    with subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **places}) as child:
        wait_until(lambda: any(path.stat().st_size > 1_000_000 for path in blobs.glob("*.incomplete")))
        child.kill()
    assert numbers() == numbers(handmade)
    (first, second) = [one for one in hub.requests if "/storage/" in one.path]
    assert first.range is None
    assert second.range == f"bytes={2**20}-"
    assert second.sent == (handmade / WEIGHTS).stat().st_size - 2**20


def test_a_hub_that_stays_away_leaves_what_has_arrived(hub, handmade):
    hub.add(NAME, grown(handmade))
    hub.faults.append(Fault("/storage/", cut=1_200_000, times=1))
    hub.faults.append(Fault("/storage/", status=503))
    error = refused()
    assert "503" in error.problem
    fetched = hub.sent(WEIGHTS)
    hub.faults.clear()
    assert numbers() == numbers(handmade)
    assert hub.sent(WEIGHTS) - fetched < (handmade / WEIGHTS).stat().st_size - 900_000


def test_a_server_without_ranges_sends_all_again(hub, handmade):
    hub.add(NAME, grown(handmade))
    hub.faults.append(Fault("/storage/", cut=1_200_000, times=1))
    hub.faults.append(Fault("/storage/", no_ranges=True))
    assert numbers() == numbers(handmade)


def test_a_wrong_start_of_a_file_is_thrown_away(hub, handmade, tmp_path):
    hub.add(NAME, grown(handmade))
    hub.faults.append(Fault("/storage/", cut=1_200_000, times=1))
    hub.faults.append(Fault("/storage/", status=503))
    refused()
    hub.faults.clear()
    (partial,) = (repo_cache(NAME) / "blobs").glob("*.incomplete")
    partial.write_bytes(b"x" * partial.stat().st_size)
    assert numbers() == numbers(handmade)
    assert not partial.exists()
    partial.write_bytes(b"x" * 10_000_000)  # longer than the file itself
    for path in (repo_cache(NAME) / "snapshots").rglob(WEIGHTS):
        path.resolve().unlink()
    assert numbers() == numbers(handmade)


def test_bytes_that_are_not_what_the_hub_lists_are_never_used(hub, handmade):
    hub.add(NAME, handmade)
    hub.faults.append(Fault("/storage/", flip=True))
    error = refused()
    assert "model.safetensors arrived with other content" in error.problem
    hub.faults.clear()
    hub.faults.append(Fault("resolve/", flip=True))
    hub.add("owner/other", {**read(handmade), "config.json": b'{"model_type": "bert"}  '})
    assert "config.json arrived with other content" in refused("owner/other").problem


def test_a_file_that_was_cut_in_the_cache_is_fetched_again(hub, handmade):
    hub.add(NAME, handmade)
    opened()
    (path,) = (repo_cache(NAME) / "snapshots").rglob(WEIGHTS)
    os.truncate(path.resolve(), 100)
    assert numbers() == numbers(handmade)


def test_offline_the_cache_answers(hub, handmade, monkeypatch):
    hub.add(NAME, handmade)
    first = opened()
    offline(monkeypatch)
    heard = Heard()
    again = opened(heard=heard)
    assert again.revision == first.revision
    assert heard.messages == []
    assert dict(again.tensors).keys() == dict(first.tensors).keys()


def test_offline_what_the_cache_lacks_is_said(hub, handmade, monkeypatch):
    hub.add(NAME, handmade)
    hub.faults.append(Fault("/storage/", status=403))
    refused()
    offline(monkeypatch)
    error = refused()
    assert error.problem == f"the hub is switched off by HF_HUB_OFFLINE, and {NAME} is not in the cache"
    assert "unset HF_HUB_OFFLINE" in error.fix
    hub.faults.clear()


def test_offline_a_model_without_its_weights_is_said(hub, handmade, monkeypatch):
    from huggingface_hub import hf_hub_download

    hub.add(NAME, handmade)
    hf_hub_download(NAME, "config.json")
    offline(monkeypatch)
    assert refused().problem.endswith(f"{NAME} is in the cache without its weights")


def test_a_hub_that_is_away_leaves_the_cache(handmade, hub, monkeypatch):
    from huggingface_hub import constants

    hub.add(NAME, handmade)
    first = opened()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    heard = Heard()
    assert opened(heard=heard).revision == first.revision
    assert heard.messages == [text for text in heard.messages if "using the copy in the cache" in text] != []
    error = refused("owner/other")
    assert "cannot be reached at http://127.0.0.1:9" in error.problem
    assert "owner/other is not in the cache" in error.problem
    assert "HTTPS_PROXY" in error.fix


def conversion(hub: Hub, folder: Path, author: str = "SFconvertbot", **changes: str) -> dict[str, str]:
    """A model of pickles only whose safetensors are in pull request 2; the commits by name."""
    old = {name: content for name, content in read(folder).items() if name != WEIGHTS}
    repo = hub.add(NAME, {**old, "pytorch_model.bin": b"never fetched"})
    commit = repo.commit({**repo.commits[repo.refs["main"]].files, WEIGHTS: (folder / WEIGHTS).read_bytes()},
                         "refs/pr/2", parent=repo.refs["main"])  # fmt: skip
    title = changes.get("title", "Adding `safetensors` variant of this model")
    repo.pulls = [(1, "someone", title, "open"), (2, author, title, changes.get("status", "open"))]
    return {"main": repo.refs["main"], "conversion": commit}


def test_the_hubs_own_conversion_is_preferred_to_a_pickle(hub, handmade, monkeypatch):
    commits = conversion(hub, handmade)
    heard = Heard()
    model = opened(heard=heard)
    assert weights_digest(model.tensors.items()) == numbers(handmade)
    assert model.revision == f"{NAME}@{commits['conversion']}"
    assert any("the hub's own conversion" in text for text in heard.messages)
    assert "pytorch_model.bin" not in hub.asked()
    offline(monkeypatch)
    assert opened().revision == model.revision
    assert opened(model.revision).revision == model.revision


@pytest.mark.parametrize(
    "changes", [{"author": "stranger"}, {"title": "Add safetensors"}, {"status": "closed"}, {"status": "merged"}]
)
def test_a_conversion_by_anyone_else_is_not_taken(hub, handmade, changes):
    conversion(hub, handmade, **changes)
    assert conversion_branch(look_up(NAME, "main")) is None


def test_a_conversion_of_an_older_commit_is_not_taken(hub, handmade):
    commits = conversion(hub, handmade)
    repo = hub.repos[NAME]
    repo.commit({**repo.commits[commits["main"]].files, "pytorch_model.bin": b"better"})
    assert conversion_branch(look_up(NAME, "main")) is None
    assert conversion_branch(look_up(NAME, commits["main"])) is not None


def test_closed_discussions_mean_no_conversion(hub, handmade):
    conversion(hub, handmade)
    hub.faults.append(Fault("/discussions", status=403))
    assert conversion_branch(look_up(NAME, "main")) is None


def test_shards_are_fetched_by_their_index(hub, handmade):
    tensors = load_file(handmade / WEIGHTS)
    (handmade / WEIGHTS).unlink()
    names = list(tensors)
    places: dict[str, str] = {}
    for shard, part in (("one.safetensors", names[::2]), ("two.safetensors", names[1::2])):
        save_file({name: tensors[name] for name in part}, handmade / shard)
        places |= dict.fromkeys(part, shard)
    (handmade / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": places}))
    repo = hub.add(NAME, {**read(handmade), "three.safetensors": b""})
    assert numbers() == numbers(handmade)
    assert "three.safetensors" not in hub.asked()
    files = dict(repo.commits[repo.refs["main"]].files)
    del files["two.safetensors"]
    repo.commit(files)
    assert "shards that are not there: two.safetensors" in refused().problem


@pytest.mark.parametrize(
    ("name", "fault", "problem", "fix"),
    [
        ("owner/missing", None, "no such model on the hub", "hf auth login"),
        (f"{NAME}@v9", None, "the model has no revision 'v9'", f"{NAME}@main"),
        (NAME, Fault("/api/", status=500), "the hub fails with status 500", "in a while"),
        (NAME, Fault("/api/", status=429), "too many requests", "wait"),
        (NAME, Fault("/api/", status=403), "refuses with status 403", "browser"),
        (NAME, Fault("/api/", page=b"<html>log in</html>"), "is not the hub", "HF_ENDPOINT"),
        (NAME, Fault("/api/", page=b"[]"), "is not the hub", "HF_ENDPOINT"),
        (NAME, Fault("/api/", page=b'{"id": "owner/model", "sha": "../..", "siblings": []}'), "not the hub", "proxy"),
        (NAME, Fault("/api/", cut=40), "cannot be reached", "connection"),
        (NAME, Fault("/storage/", stall=30), "cannot be reached", "run the command again"),
        (NAME, Fault("/storage/", cut=0), "cannot be reached", "run the command again"),
        (NAME, Fault("/storage/", status=404), "refuses with status 404", "browser"),
    ],
)
def test_refusals_and_failures_are_a_model_error(hub, handmade, monkeypatch, name, fault, problem, fix):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.add(NAME, handmade)
    hub.faults += [fault] if fault else []
    error = refused(name)
    assert problem in error.problem
    assert fix in error.fix


def test_a_gated_model_says_whom_to_ask(hub, handmade, monkeypatch):
    hub.add(NAME, handmade).gated = True
    error = refused()
    assert "gated" in error.problem
    assert error.where == f"{hub.url}/{NAME}"
    assert error.fix.startswith("accept its terms on that page")
    assert all(words in error.fix for words in ("hf auth login", "HF_TOKEN", "folder"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert numbers() == numbers(handmade)
    assert not any(one.authorized for one in hub.requests if "/storage/" in one.path)  # no other origin gets the token


def test_a_gated_model_whose_terms_were_not_accepted_says_so_and_quotes_no_token(hub, handmade, monkeypatch):
    """403 and ``X-Error-Code: GatedRepo``, as the hub answers who is logged in and has not accepted."""
    hub.add(NAME, handmade).gated = True
    hub.repos[NAME].accepted = False
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    error = refused()
    assert "gated" in error.problem
    assert error.where == f"{hub.url}/{NAME}"
    assert error.fix.startswith("accept its terms on that page")
    assert TOKEN not in str(error) + error.problem + error.where + error.fix
    assert WEIGHTS not in hub.asked()
    hub.repos[NAME].accepted = True
    assert numbers() == numbers(handmade)


def test_an_address_is_shown_without_its_password(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "https://user:secret@mirror.example/hub")
    assert address("owner/model@main") == "https://mirror.example/hub/owner/model"


def test_a_private_model_needs_the_right_token(hub, handmade, monkeypatch):
    hub.add(NAME, handmade).private = True
    assert "hf auth login" in refused().fix
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    assert "does not accept the token" in refused().problem
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert opened().revision


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"config.json": b'{"model_type": "no-such-family"}'}, "'no-such-family' is not a known family"),
        ({"config.json": b'{"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}'}, "auto_map"),
        ({"config.json": b'{"model_type": "bert", "hidden_size": 1000000000}'}, "hidden_size"),
        ({"config.json": b"{"}, "not valid JSON"),
        ({}, "the model has no config.json"),
    ],
)
def test_a_config_that_is_refused_costs_no_weights(hub, handmade, files, problem):
    content = {name: data for name, data in read(handmade).items() if name != "config.json"}
    hub.add(NAME, {**content, **files})
    assert problem in refused().problem
    assert WEIGHTS not in hub.asked()


def test_other_formats_are_named(hub, handmade):
    content = {name: data for name, data in read(handmade).items() if name != WEIGHTS}
    hub.add(NAME, {**content, "tf_model.h5": b"never fetched"})
    error = refused()
    assert "neither model.safetensors nor pytorch_model.bin" in error.problem
    assert "tf_model.h5" in error.problem
    assert "tf_model.h5" not in hub.asked()


def test_adapters_of_the_hub_are_named(hub, handmade):
    content = {name: data for name, data in read(handmade).items() if name != WEIGHTS}
    hub.add(NAME, {**content, "adapter_config.json": b"{}", "adapter_model.safetensors": b"never fetched"})
    error = refused()
    assert error.problem == "the repository holds adapters, not a model"
    assert f"hf download {NAME}" in error.fix
    assert "adapter_model.safetensors" not in hub.asked()


def test_too_small_a_disk_is_refused_before_the_first_byte(hub, handmade, monkeypatch):
    hub.add(NAME, handmade)
    usage = shutil.disk_usage(handmade)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3))
    error = refused()
    assert "bytes are needed, 3 are free" in error.problem
    assert "HF_HOME" in error.fix
    assert hub.asked() == []


def test_a_disk_that_fills_up_keeps_what_has_arrived(hub, handmade):
    """The limit of file sizes stands for the disk: the real error, from the real system call."""
    hub.add(NAME, grown(handmade))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, limits[1]))
    try:
        error = refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "the disk is full" in error.problem
    assert f"takes {(handmade / WEIGHTS).stat().st_size:,} bytes" in error.problem
    fetched = hub.sent(WEIGHTS)
    assert numbers() == numbers(handmade)
    assert hub.sent(WEIGHTS) - fetched < (handmade / WEIGHTS).stat().st_size - 900_000


def test_whichever_call_fails_the_next_download_is_whole(hub, handmade, tmp_path, monkeypatch):
    hub.add(NAME, handmade)
    expected, cache = numbers(handmade), tmp_path / "cache"
    disk = DISK.watching(monkeypatch)
    refusals: list[ModelError] = []
    for n in range(1, 200):
        try:
            with disk.failing(cache, n):
                opened()
        except ModelError as error:
            refusals.append(error)
        assert numbers() == expected, disk.calls[n - 1 :][:1]
        shutil.rmtree(cache)
        if len(disk.calls) < n:
            break
    assert len(refusals) > 10
    assert all("the disk is full" in error.problem and "HF_HOME" in error.fix for error in refusals)


def test_a_copy_knows_where_it_came_from(hub, handmade, tmp_path):
    repo = hub.add(NAME, handmade)
    source = find_model(NAME, Heard())
    copy, again = tmp_path / "copy", tmp_path / "again"
    for folder, origin in ((copy, source), (again, None)):
        folder.mkdir()
        copy_model(origin or find_model(copy, Heard()), folder)
        assert opened(folder).revision == f"{NAME}@{repo.refs['main']}"
        assert numbers(folder) == numbers(handmade)
    (copy / ORIGIN).write_text('{"revision": "../x"}')
    with pytest.raises(ModelError, match="names no model of the hub"):
        opened(copy)


def test_a_comparison_fetches_once_and_every_run_knows_the_commit(
    hub: Hub, handmade: Path, texts: Path, tmp_path: Path, duygu: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    repo = hub.add(NAME, grown(handmade))
    out, home = tmp_path / "out", {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
    words = ["compare", texts, "--model", NAME, "--engines", "torch", "--seeds", "1", "--out", out, "--threads", "1"]
    words += ["--set", "epochs=1", "--set", "length=16", "--set", "precision=fp32", "--json"]
    done = duygu(*words, **home)
    assert done.returncode in (0, 3), done.stderr
    assert hub.asked().count(WEIGHTS) == 1
    assert "downloading" in done.stderr
    assert not any(mark in done.stderr for mark in ("━", "%|", "it/s", "\r"))  # no bars where nobody watches
    run = json.loads((out / "runs" / "torch-1" / "environment.json").read_text())
    assert run["model_revision"] == f"{NAME}@{repo.refs['main']}"
    assert json.loads(done.stdout)["model"] == NAME

    asked = len(hub.requests)
    repo.commit(changed(handmade))
    repeated = duygu(*words, "--resume", **home)
    assert repeated.returncode == done.returncode, repeated.stderr
    assert len(hub.requests) == asked


def test_offline_the_command_says_so_in_three_lines(
    texts: Path, tmp_path: Path, duygu: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    words = ["train", texts, "--model", "owner/model", "--engine", "torch", "--out", tmp_path / "run"]
    done = duygu(*words, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert (done.returncode, done.stdout) == (2, "")
    problem, where, fix = done.stderr.splitlines()
    assert problem == "the hub is switched off by HF_HUB_OFFLINE, and owner/model is not in the cache"
    assert where == f"  where: {tmp_path}/home/hub/models--owner--model"
    assert fix.startswith("  fix:   unset HF_HUB_OFFLINE")


def test_a_run_goes_on_with_its_commit_though_the_branch_moved(hub, handmade, texts, tmp_path):
    from duygu.recipe import Recipe
    from duygu.training.loop import Job, train
    from duygu.training.progress import Silent

    repo = hub.add(NAME, handmade)
    first = repo.refs["main"]
    recipe = Recipe(epochs=1, length=16, lr=1e-3, precision="fp32")
    job = Job(str(texts), NAME, "torch", recipe, tmp_path / "run", threads=1)
    metrics = train(job, Silent())
    repo.commit(changed(handmade))
    (job.out / "metrics.json").unlink()
    again = train(Job(str(texts), NAME, "torch", recipe, job.out, threads=1, resume=True), Silent())
    environment = json.loads((job.out / "environment.json").read_text())
    assert environment["model_revision"] == f"{NAME}@{first}"
    assert again["test"] == metrics["test"]
    assert again["model"] == metrics["model"] == NAME


def test_opening_a_local_folder_does_not_load_the_hubs_library(handmade):
    program = f"""
import sys
import duygu.models.folder as wing
dict(wing.open_model({str(handmade)!r}, ("a", "b"), 1, list).tensors)
print("huggingface_hub" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
