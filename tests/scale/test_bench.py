"""The whole verb on a tiny model: duygu, a rival that this environment has, one that is missing, one that breaks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duygu.scale.environments import ENVIRONMENTS, RECORD
from duygu.scale.report import markdown, tables

Duygu = Callable[..., subprocess.CompletedProcess[str]]
NAMES = "duygu-torch,duygu-jax,pipeline-best,flax,kerashub-torch,duygu,tokenizers-fast"


@pytest.fixture(scope="module")
def bench(texts: Path, tmp_path_factory: pytest.TempPathFactory, duygu: Duygu) -> Callable[..., Any]:
    """``duygu bench`` on the small corpus and the tiny model, with a cache of its own."""
    cache = tmp_path_factory.mktemp("cache")
    broken = cache / "duygu" / "bench" / "kerashub"
    (broken / "bin").mkdir(parents=True)
    (broken / RECORD).write_text(ENVIRONMENTS["kerashub"].record, encoding="utf-8")
    (broken / "bin" / "python").write_text("#!/bin/sh\necho no such luck\nexit 7\n", encoding="utf-8")
    (broken / "bin" / "python").chmod(0o755)
    (cache / "texts.txt").write_text("\n".join(f"Profit of firm {n} grew." for n in range(80)), encoding="utf-8")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        sources = ("--data", texts, "--texts", cache / "texts.txt", "--model", "tiny")
        return duygu("bench", "--quick", *sources, *arguments, XDG_CACHE_HOME=str(cache))

    return run


@pytest.fixture(scope="module")
def finished(bench: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The file that a bench wrote, what it printed as JSON, and what it said."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    done = bench("--workloads", "W1,W2,W4", "--contenders", NAMES, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout), done.stderr


def part(result: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    (found,) = [part for part in result["parts"] if part["name"] == name]
    return {one["name"]: one for one in found["contenders"]}


def test_result_is_written_as_printed(finished: tuple[Path, dict[str, Any], str]) -> None:
    out, printed, _ = finished
    assert json.loads(out.read_text(encoding="utf-8")) == printed
    assert printed["schema"] == 1
    assert {"command", "machine", "threads", "low_precision", "rounds", "parts", "bars"} <= printed.keys()
    assert printed["machine"]["processor"]
    assert out.with_suffix(".md").read_text(encoding="utf-8") == markdown(printed)


def test_a_part_in_which_nobody_took_part_has_no_table(finished: tuple[Path, dict[str, Any], str]) -> None:
    # as with --workloads W1,W4 --contenders tokenizers
    result = finished[1]
    empty = [{**part, "contenders": []} if part["name"] == "W1" else part for part in result["parts"]]
    assert len(tables({**result, "parts": empty})) == len(tables(result)) - 1


def test_training_is_measured_step_by_step(finished: tuple[Path, dict[str, Any], str]) -> None:
    found = part(finished[1], "W1")
    assert list(found) == ["duygu-torch", "duygu-jax"]
    for name, one in found.items():
        (answer,) = one["rounds"]
        assert len(answer["seconds"]) == 2
        assert answer["documents"] == [16, 16]
        assert min(answer["seconds"]) > 0
        assert 0.3 < answer["losses"][0] < 3
        assert answer["peak_bytes"] > 2**27
        assert one["versions"].keys() >= {"python", "duygu", name.removeprefix("duygu-")}
    assert found["duygu-torch"]["summary"]["real_share"] == 1.0
    assert found["duygu-jax"]["summary"]["compile_cold_s"] > 0.2
    a, b = (one["rounds"][0]["tokens"] for one in found.values())
    assert a == b


def test_both_engines_train_alike(finished: tuple[Path, dict[str, Any], str]) -> None:
    """The same weights, documents and dropout: the first loss is the same up to the precision."""
    one, other = (one["rounds"][0]["losses"][0] for one in part(finished[1], "W1").values())
    assert one == pytest.approx(other, abs=0.25)


def test_scoring_shows_how_far_answers_are_apart(finished: tuple[Path, dict[str, Any], str]) -> None:
    found = part(finished[1], "W2")
    assert {"duygu-torch", "duygu-jax"} <= found.keys()
    for one in found.values():
        summary = one["summary"]
        assert one["rounds"][0]["documents"] == [64]
        assert len(one["rounds"][0]["singles"]) == 16
        assert "probabilities" not in one["rounds"][0]
        assert 0 < summary["p50_s"] <= summary["p99_s"]
        assert summary["largest_difference"] < 0.02
        assert summary["same_label"] > 0.9
    assert found["duygu-jax"]["summary"]["largest_difference"] == 0.0  # the reference here


def test_pipeline_gives_duygus_answers_in_fp32_or_bf16(finished: tuple[Path, dict[str, Any], str]) -> None:
    found = part(finished[1], "W2")
    if "pipeline-best" not in found:
        pytest.skip("no pinned transformers here: pip install -c constraints.txt '.[test]'")
    assert found["pipeline-best"]["summary"]["leads"].keys() == {"duygu-torch", "duygu-jax"}


def test_what_is_missing_or_breaks_is_said_and_the_rest_goes_on(finished: tuple[Path, dict[str, Any], str]) -> None:
    _, result, said = finished
    why = {one["contender"]: one["why"] for one in result["not_measured"] if not one["ours"]}
    assert "does not exist" in why["flax"]
    assert why["kerashub-torch"] == "exit code 7: no such luck"
    assert "KerasHub on torch: not measured" in said
    assert not [one for one in result["not_measured"] if one["ours"]]
    bars = {bar["title"]: bar["met"] for bar in result["bars"]}
    assert bars["JAX memory / Flax"] is None
    assert bars["torch real / computed tokens"] is True


def test_tables_fit_a_terminal_of_80_columns(
    finished: tuple[Path, dict[str, Any], str], bench: Callable[..., Any]
) -> None:
    """Resuming a finished bench measures nothing and prints the same result as text."""
    out, result, _ = finished
    done = bench("--workloads", "W1,W2,W4", "--contenders", NAMES, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    for heading in ("W1: training", "W2: scoring", "W4: tokenizing", "Bars"):
        assert heading in done.stdout
    rate = part(result, "W1")["duygu-torch"]["summary"]["documents_per_s"]["median"]
    assert (f"{rate:.2f}" if rate < 100 else f"{rate:,.0f}") in done.stdout


def test_an_interrupted_bench_goes_on_from_its_log(
    finished: tuple[Path, dict[str, Any], str], bench: Callable[..., Any], tmp_path: Path
) -> None:
    """The log without its last answer and with a line cut short: one measurement is missing, one is made."""
    lines = finished[0].with_suffix(".jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    log = tmp_path / "bench.jsonl"
    log.write_text("".join(lines[:-1]) + lines[-1][:40], encoding="utf-8")
    names = NAMES.replace(",flax,kerashub-torch", "")
    done = bench("--workloads", "W1,W2,W4", "--contenders", names, "--out", tmp_path / "bench.json", "--resume")
    assert done.returncode == 0, done.stderr
    assert "1 measurement(s)" in done.stderr
    again = log.read_text(encoding="utf-8").splitlines(keepends=True)
    assert again[:-1] == lines[:-1]
    assert json.loads(again[-1]).keys() == json.loads(lines[-1]).keys()


def test_nothing_is_overwritten_unasked_nor_mixed(
    finished: tuple[Path, dict[str, Any], str], bench: Callable[..., Any]
) -> None:
    out = finished[0]
    done = bench("--workloads", "W4", "--out", out)
    assert done.returncode == 2
    assert "--resume" in done.stderr
    done = bench("--workloads", "W4", "--out", out, "--resume", "--threads", "1")
    assert done.returncode == 2
    assert "other inputs or threads" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--contenders", "keras"), "no contender 'keras'"),
        (("--workloads", "W7"), "no workload 'W7'"),
        (("--out", "bench.txt"), "does not end in .json"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, ...], says: str, bench: Callable[..., Any], tmp_path: Path) -> None:
    out = () if "--out" in arguments else ("--out", tmp_path / "bench.json")
    done = bench(*arguments, *out)
    assert done.returncode == 2
    assert says in done.stderr
