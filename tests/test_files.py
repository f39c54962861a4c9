"""Durable files under failing disks, damage, and two writers."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duygu.errors import DataError, FolderError
from duygu.files import (
    LineLog,
    delete_folder,
    locked,
    new_folder,
    read_bytes,
    read_json,
    read_lines,
    require_space,
    sweep,
    verify,
    write_json,
)


class Disk:
    """Every durable call by name and file; the ``fail_at``-th one raises ``code``."""

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int = 0, code: int = errno.ENOSPC) -> None:
        self.calls: list[str] = []
        self.fail_at, self.code = fail_at, code
        for name in ("fsync", "replace", "rename", "mkdir"):
            patch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def watched(target: int | Path, *rest: object) -> object:
            path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
            self.calls.append(f"{name} {path.name}")
            if len(self.calls) == self.fail_at:
                raise OSError(self.code, os.strerror(self.code))
            return call(target, *rest)

        return watched


def fill(target: Path) -> None:
    with new_folder(target, needed=1234) as folder:
        (folder / "a").write_bytes(b"first")
        (folder / "b").write_bytes(b"second")


def test_commit_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    fill(tmp_path / "step-1")
    partial = ".partial-step-1"
    assert disk.calls == [
        f"mkdir {partial}",
        "fsync a",
        "fsync b",
        "fsync manifest.json",
        f"fsync {partial}",
        f"rename {partial}",
        f"fsync {tmp_path.name}",
    ]


def test_replacing_a_file_syncs_it_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    write_json(tmp_path / "a.json", {"x": 1})
    assert disk.calls == ["fsync .partial-a.json", "replace .partial-a.json", f"fsync {tmp_path.name}"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES])
def test_every_failing_call_leaves_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    write_json(tmp_path / "a.json", {"x": "old"})
    for n in range(1, 100):
        with monkeypatch.context() as patch:
            disk = Disk(patch, n, code)
            with suppress(FolderError):
                write_json(tmp_path / "a.json", {"x": f"new {n}"})
                fill(tmp_path / f"step-{n}")
        found = [path.name for path in tmp_path.iterdir()]
        assert not [name for name in found if name.startswith(".")], disk.calls
        assert read_json(tmp_path / "a.json")["x"] in ("old", *(f"new {k}" for k in range(n + 1)))
        for name in found:
            if name.startswith("step"):
                verify(tmp_path / name)
        if len(disk.calls) < n:
            return
    raise AssertionError("there is no end to the durable calls")


def test_full_disk_names_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, 2)
    with pytest.raises(FolderError, match=r"disk is full: 1,234 bytes are needed, [\d,]+ are free"):
        fill(tmp_path / "step-1")


def test_file_size_limit_of_the_system(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": "old"})
    code = f"""
        import resource, signal
        from pathlib import Path
        from duygu.errors import FolderError
        from duygu.files import write_json
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            write_json(Path({str(tmp_path / "a.json")!r}), {{"x": "y" * 20_000}})
        except FolderError as error:
            print(error.problem)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("the disk is full: 20,0")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read_json(tmp_path / "a.json")["x"] == "old"


def test_an_exception_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def stopped() -> None:
        with new_folder(tmp_path / "x") as folder:
            (folder / "a").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not list(tmp_path.iterdir())


def test_leftovers_are_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".partial-step-3").mkdir()
    (tmp_path / ".partial-step-3" / "a").write_bytes(b"half")
    (tmp_path / ".deleted-step-1").mkdir()
    (tmp_path / ".partial-metrics.json").write_bytes(b"{")
    (tmp_path / "step-2").mkdir()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-2"]
    delete_folder(tmp_path / "step-2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(40))
def test_any_damage_is_found(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    folder = tmp_path / "step-1"
    with new_folder(folder) as partial:
        for name in "abc":
            (partial / name).write_bytes(dice.randbytes(dice.randint(1, 300)))
    verify(folder)
    victim = folder / dice.choice(["a", "b", "c", "manifest.json"])
    content = victim.read_bytes()
    place = dice.randrange(len(content))
    match seed % 6:
        case 0:
            victim.write_bytes(content[:place])
        case 1:
            victim.write_bytes(
                content[:place] + bytes([content[place] ^ 1 << dice.randrange(8)]) + content[place + 1 :]
            )
        case 2:
            victim.write_bytes(content + b"\n")
        case 3:
            victim.unlink()
        case 4:
            (folder / "a").replace(folder / "x")
        case _:
            (folder / "extra").write_bytes(b"")
    with pytest.raises(FolderError):
        verify(folder)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_modes_follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_json(tmp_path / "a.json", {})
        fill(tmp_path / "step")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "step").stat().st_mode) == 0o777 & ~mask


def test_a_second_holder_is_refused_and_a_killed_one_forgotten(tmp_path: Path) -> None:
    code = f"""
        import time
        from pathlib import Path
        from duygu.files import locked
        with locked(Path({str(tmp_path)!r})):
            print("held", flush=True)
            time.sleep(60)
    """
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FolderError, match=f"process {holder.pid}"), locked(tmp_path):
            pass
        holder.kill()
    with locked(tmp_path):
        pass


def test_reads_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 101)
    with pytest.raises(FolderError, match="larger than 100 bytes"):
        read_bytes(tmp_path / "big", 100)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        read_bytes(tmp_path / "pipe", error=DataError)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"a": NaN}', b"{", b'{"a": "\xff"}', b'{"schema": 99}', b"[" * 100_000], ids=repr
)
def test_bad_json_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(FolderError):
        read_json(tmp_path / "a.json")


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


@given(
    st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False))
)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, value: dict[str, object]) -> None:
    if any("\ud800" <= character <= "\udfff" for text in map(str, [*value, *value.values()]) for character in text):
        return
    value.pop("schema", None)
    path = tmp_path_factory.getbasetemp() / "round.json"
    write_json(path, value)
    assert read_json(path) == {"schema": 1, **value}


def test_a_line_log_is_cut_to_what_is_good(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    log = LineLog(path)
    log.append({"step": 1})
    good = log.sync()
    log.append({"step": 2})
    log.close()
    with path.open("ab") as file:
        file.write(b'{"step": 3')
    assert read_lines(path) == [{"step": 1}, {"step": 2}]
    log = LineLog(path, good)
    log.append({"step": "ı"})
    log.close()
    assert read_lines(path) == [{"step": 1}, {"step": "ı"}]
    with pytest.raises(FolderError, match="shorter"):
        LineLog(path, 10_000)


def test_too_little_space_is_told_before(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "there", 1)
    with pytest.raises(FolderError, match="bytes are needed"):
        require_space(tmp_path / "not" / "there", 1 << 60)
