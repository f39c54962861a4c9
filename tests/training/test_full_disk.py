"""A whole run on a disk that fails: at every durable call, at every size of file, and before the first byte.

Whatever fails, the user gets one message with the bytes, nothing half-written stays under a final name, and the same
command with --resume ends where an undisturbed run ends, to the bit.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from duygu.errors import FolderError, UserError
from duygu.files import file_digest, read_lines, verify
from duygu.recipe import Recipe
from duygu.training.loop import Job, train
from duygu.training.progress import Silent
from tests.failing_disk import DISK, Disk
from tests.models.small_models import write_model_folder

RECIPE = Recipe(epochs=1, batch=6, length=16, lr=1e-3, precision="fp32", checkpoint_steps=1)
EVERY = pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(3600)], id="every")
STRIDES = pytest.mark.parametrize("stride", [pytest.param(31, id="every 31st"), EVERY])


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return DISK.watching(monkeypatch)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run of well under a second: 20 texts, a model of 12 features."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("job")
    for label, word in (("düşüş", "düştü"), ("yükseliş", "yükseldi")):
        (folder / "texts" / label).mkdir(parents=True)
        for number in range(10):
            text = f"hisse {number * 7919 % 997} {word}"
            (folder / "texts" / label / f"{number}.txt").write_text(text, encoding="utf-8")
    model = write_model_folder(folder / "model")
    return Job(str(folder / "texts"), str(model), "torch", RECIPE, folder / "undisturbed", threads=1)


@pytest.fixture(scope="module")
def undisturbed(job: Job) -> Path:
    train(job, Silent())
    return job.out


def assert_equal_ends(one: Path, other: Path) -> None:
    for name in ("predictions.csv", "model/model.safetensors", "model/tokenizer.json", "recipe.toml"):
        assert file_digest(one / name) == file_digest(other / name), name
    histories = [[{**line, "seconds": 0} for line in read_lines(run / "history.jsonl")] for run in (one, other)]
    assert histories[0] == histories[1]


def assert_whole(run: Path) -> None:
    """What stands under a final name is whole, and nothing else stands there."""
    assert not [path for path in run.rglob("*") if path.name.startswith(".partial")]
    for checkpoint in (run / "checkpoints").glob("*-*"):
        verify(checkpoint)
    if (run / "metrics.json").exists():
        assert (run / "model" / "config.json").exists()
        assert (run / "predictions.csv").exists()


def refusal(disk: Disk, job: Job, n: int) -> UserError | None:
    """What the run ends in where the ``n``-th call fails."""
    try:
        with disk.failing(job.out, n):
            train(job, Silent())
    except UserError as error:
        return error
    return None


def campaign(disk: Disk, job: Job, undisturbed: Path, out: Path, stride: int, prepare: Callable[[Path], Job]) -> int:
    """Fail the n-th call, n growing by ``stride``, until a run has fewer; the number of calls of that run."""
    for n in range(1, 1000, stride):
        run = out / str(n)
        error = refusal(disk, prepare(run), n)
        if len(disk.calls) < n:
            assert error is None
            assert_equal_ends(undisturbed, run)
            return len(disk.calls)
        assert isinstance(error, FolderError), disk.calls[n - 1]
        assert "the disk is full: " in error.problem, disk.calls[n - 1]
        assert "bytes are needed" in error.problem
        assert error.where
        assert "--resume" in error.fix
        assert_whole(run)
        train(replace(job, out=run, resume=True), Silent())
        assert_equal_ends(undisturbed, run)
        shutil.rmtree(run)
    raise AssertionError("there is no end to the durable calls")


@STRIDES
def test_whichever_call_fails_the_run_goes_on_to_the_same_end(
    disk: Disk, job: Job, undisturbed: Path, tmp_path: Path, stride: int
) -> None:
    calls = campaign(disk, job, undisturbed, tmp_path, stride, lambda run: replace(job, out=run))
    assert calls > 50
    assert {call.partition(" ")[0] for call in disk.calls} == {"open", "fsync", "replace", "rename", "mkdir"}


@STRIDES
def test_whichever_call_fails_an_overwritten_run_is_replaced_in_the_end(
    disk: Disk, job: Job, undisturbed: Path, tmp_path: Path, stride: int
) -> None:
    """What is there before is a finished run; half deleted, it is never taken for one."""

    def prepare(run: Path) -> Job:
        shutil.copytree(undisturbed, run)
        return replace(job, out=run, overwrite=True)

    assert campaign(disk, job, undisturbed, tmp_path, stride, prepare) > 50


@pytest.mark.parametrize("share", [0.0, 0.5, 2.5])
def test_too_little_space_is_refused_before_anything_is_written(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Three checkpoints and the best weights have to fit; one of them takes three times the weights and more."""
    checkpoint = 3 * (Path(job.model) / "model.safetensors").stat().st_size
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(share * checkpoint)))
    with pytest.raises(FolderError, match=r"too little disk space: [\d,]+ bytes are needed, [\d,]+ are free"):
        train(replace(job, out=tmp_path / "run"), Silent())
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


@pytest.mark.slow
def test_the_real_limit_of_file_sizes_ends_in_the_same_message(job: Job, undisturbed: Path, tmp_path: Path) -> None:
    """The system itself refuses the write in the middle of a file, at sizes from nothing to the largest file."""
    sizes = sorted({path.stat().st_size for path in undisturbed.rglob("*") if path.is_file()})
    limits = sorted({0, 10, *(size - 1 for size in sizes if size)})
    code = f"""
        import resource, signal
        from pathlib import Path
        from duygu.errors import FolderError
        from duygu.recipe import Recipe
        from duygu.training.loop import Job, train
        from duygu.training.progress import Silent

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        recipe = Recipe(**{RECIPE.as_dict()!r})
        for limit in {limits!r}:
            out = Path({str(tmp_path)!r}, str(limit))
            job = Job({job.data!r}, {job.model!r}, "torch", recipe, out, threads=1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
            try:
                train(job, Silent())
            except FolderError as error:
                print(limit, error.problem.partition(",")[0])
            else:
                print(limit, "finished")
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    """
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert set(map(int, told)) == set(limits)
    assert all(text.startswith("the disk is full: ") for text in told.values()), told
    for limit in limits:
        run = tmp_path / str(limit)
        assert_whole(run)
        train(replace(job, out=run, resume=True), Silent())
        assert_equal_ends(undisturbed, run)
