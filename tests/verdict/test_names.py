"""Short names of models: told apart, fit for a folder, the same for the same model."""

from __future__ import annotations

from pathlib import Path

import pytest

from duygu.verdict.names import LONGEST, identity, short_names


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["tiny", "berturk"], ["tiny", "berturk"]),
        (["dbmdz/bert-base-turkish-cased", "boun-tabilab/TabiBERT@main"], ["bert-base-turkish-cased", "TabiBERT"]),
        (["/a/one/model", "/b/two/model"], ["one-model", "two-model"]),
        (["/a/one/model", "/b/one/model", "tiny"], ["a-one-model", "b-one-model", "tiny"]),
        (["owner/bert", "other/BERT"], ["owner-bert", "other-BERT"]),  # alike where a disk knows no case
        (["owner/bert@v1", "owner/bert@v2"], ["v1-bert", "v2-bert"]),
        (["/out/start", "tiny"], ["out", "tiny"]),
        (["/out/start/electra", "/out/start/bert"], ["electra", "bert"]),
        (["/m/a b/çay: 1", "/m/../x"], ["ay-1", "x"]),
    ],
)
def test_names_are_short_and_told_apart(models: list[str], names: list[str]) -> None:
    assert short_names(models) == names


def test_names_that_nothing_tells_apart_are_numbered_and_no_name_is_too_long() -> None:
    assert short_names(["/ç", "/ğ"]) == ["model-1", "model-2"]
    (long, other) = short_names(["/m/" + "x" * 300, "/m/y"])
    assert (len(long), other) == (LONGEST, "y")


def test_a_model_is_the_same_under_another_way_to_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to("model")
    monkeypatch.chdir(tmp_path)
    assert identity("model") == identity("./model/") == identity(str(tmp_path / "link"))
    assert identity("berturk") == identity("dbmdz/bert-base-turkish-cased")
    assert identity("tiny") == "tiny"
