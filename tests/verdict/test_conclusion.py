"""What several engines and seeds show together: numbers, words, folds, copies, ensembles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from duygu.errors import FolderError, UserError
from duygu.verdict.compare import Conclude, comparison
from duygu.verdict.conclusion import NO_GROUPS, rounded
from duygu.verdict.page import comparison_page
from duygu.verdict.pooling import pool
from duygu.verdict.runs import Run, check_twins, read_run
from duygu.verdict.tables import signed
from tests.verdict.folders import Written, write_run


def runs_of(folder: Path, *written: Written) -> list[Run]:
    return [read_run(write_run(folder / str(number), run)) for number, run in enumerate(written)]


def both(*seeds: int, **fields: object) -> list[Written]:
    """Two engines on these seeds; the second engine's fields begin with ``jax_``."""
    own = {name: value for name, value in fields.items() if not name.startswith("jax_")}
    jax = {name.removeprefix("jax_"): value for name, value in fields.items() if name.startswith("jax_")}
    torch = [replace(Written("torch", seed), **own) for seed in seeds]
    return [*torch, *(replace(run, engine="jax", **{"noise": 1, **jax}) for run in torch)]


def concluded(folder: Path, written: list[Written], **how: object) -> dict[str, object]:
    return comparison("tiny", runs_of(folder, *written), how=Conclude(**how))


def test_the_form_is_the_one_that_is_documented(tmp_path: Path) -> None:
    found = json.loads(json.dumps(concluded(tmp_path, both(1, 2, 3), ensemble=True)))
    (pair,) = found["engine_pairs"]
    assert list(pair) == [
        "a", "b", "seeds", "documents", "scores", "equivalence", "needed", "verdict", "sentence",
    ]  # fmt: skip
    assert (pair["a"], pair["b"], pair["seeds"], pair["documents"]) == ("torch", "jax", 3, 120)
    assert set(pair["scores"]) == {"accuracy", "macro_f1", "mcc"}
    for score in pair["scores"].values():
        assert list(score) == ["difference", "interval", "p", "p_holm", "minimum_detectable"]
        assert score["interval"][0] < score["difference"] < score["interval"][1]
        assert score["p_holm"] == score["p"]  # one pair needs no correction
    assert list(pair["equivalence"]) == ["margin", "p", "interval90", "equivalent"]
    assert list(pair["needed"]) == ["documents", "seeds"]
    for engine in found["engines"].values():
        for score in ("accuracy", "macro_f1", "mcc"):
            assert engine[f"{score}_interval"][0] < engine[f"{score}_mean"] < engine[f"{score}_interval"][1]
        assert engine["restarts"] == 0
        assert engine["ensemble"]["documents"] == 120
    assert (found["schema"], found["protocols"], found["notes"]) == (2, None, [])


def test_engines_that_agree_on_everything_are_equivalent_where_documents_suffice(tmp_path: Path) -> None:
    many = concluded(tmp_path / "many", both(1, 2, 3, documents=341, jax_noise=0))
    assert many["engine_pairs"][0]["verdict"] == "equivalent"
    assert many["engine_pairs"][0]["scores"]["mcc"]["p"] == 1.0
    assert many["verdict"].startswith(
        "PyTorch and JAX: equivalent within 1.5 points. The difference in accuracy is 0.0 points (90 % interval -0.7 "
        "to +0.7, p"
    )
    few = concluded(tmp_path / "few", both(1, 2, 3, jax_noise=0))
    assert few["engine_pairs"][0]["verdict"] == "not distinguishable"
    needed = few["engine_pairs"][0]["needed"]["documents"]
    assert 120 < needed < 341
    assert f"about {rounded(needed)} documents" in few["verdict"]


def test_a_large_difference_on_five_seeds_is_different_and_names_the_better(tmp_path: Path) -> None:
    found = concluded(tmp_path, both(1, 2, 3, 4, 5, documents=341, jax_skill=0.6))
    (pair,) = found["engine_pairs"]
    difference = pair["scores"]["accuracy"]["difference"] * 100
    assert pair["verdict"] == "different"
    assert f"PyTorch and JAX: different. PyTorch is {difference:.1f} points more accurate than JAX" in found["verdict"]
    assert found["verdict"].endswith("over 341 documents and 5 seeds.")
    assert pair["needed"] == {"documents": None, "seeds": None}


def test_one_seed_says_that_it_compares_two_models_and_is_no_surer_than_mcnemar(tmp_path: Path) -> None:
    found = concluded(tmp_path, both(1))
    (pair,), (single,) = found["engine_pairs"], found["pairs"]
    assert found["verdict"].endswith("this compares two trained models, not two frameworks.")
    assert pair["scores"]["accuracy"]["p"] >= single["mcnemar_p"]
    assert pair["scores"]["accuracy"]["minimum_detectable"] >= single["minimum_detectable"]
    assert pair["needed"]["seeds"] is None


def test_seeds_that_disagree_widen_the_interval(tmp_path: Path) -> None:
    """The same mean difference over the same documents, of seeds that agree and of seeds that do not."""
    alike = both(1, 2, documents=341, jax_skill=1.2)
    skills = (0.5, 2.2)
    unlike = [replace(run, skill=skills[run.seed - 1]) if run.engine == "jax" else run for run in alike]
    widths = [
        np.ptp(concluded(tmp_path / name, written)["engine_pairs"][0]["scores"]["accuracy"]["interval"])
        for name, written in (("alike", alike), ("unlike", unlike))
    ]
    assert widths[1] > 2 * widths[0]


def test_copies_widen_the_interval_and_runs_that_do_not_say_are_named(tmp_path: Path) -> None:
    copies = tuple((number, number + 1, number + 2) for number in range(0, 120, 3))
    widths = []
    for name, groups in (("alone", ()), ("copies", copies), ("older", None)):
        found = concluded(tmp_path / name, both(1, 2, 3, copies=groups))
        widths.append(np.ptp(found["engine_pairs"][0]["scores"]["accuracy"]["interval"]))
        assert (NO_GROUPS in found["notes"]) == (groups is None)
    assert widths[0] == widths[2]
    assert widths[1] != widths[0]


def test_three_engines_are_corrected_for_their_three_pairs(tmp_path: Path) -> None:
    third = [Written("other", seed, noise=2, skill=1.0) for seed in (1, 2, 3)]
    found = concluded(tmp_path, [*both(1, 2, 3), *third])
    scores = [pair["scores"]["accuracy"] for pair in found["engine_pairs"]]
    smallest = min(scores, key=lambda score: score["p"])
    assert len(scores) == 3
    assert smallest["p_holm"] == pytest.approx(min(1.0, 3 * smallest["p"]))


def test_only_seeds_that_both_engines_have_are_compared(tmp_path: Path) -> None:
    written = both(1, 2, 3)[:-1]
    assert concluded(tmp_path / "some", written)["engine_pairs"][0]["seeds"] == 2
    none = concluded(tmp_path / "none", [Written("torch", 1), Written("jax", 2, start_digest="b" * 64)])
    assert none["engine_pairs"] == []
    assert none["verdict"] == "The engines have no seed in common: there is nothing to compare."


def folded(*seeds: int) -> list[Written]:
    """Three folds of 50 documents."""
    return [
        replace(run, fold=fold, documents=50, first_id=50 * fold, split_digest=str(fold) * 64, noise=10 * fold)
        for run in both(*seeds)
        for fold in (1, 2, 3)
    ]


def test_folds_become_one_answer_for_every_document(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, *folded(1, 2))
    check_twins(runs)
    pooled = pool(runs)
    assert [(one.engine, one.seed) for one in pooled] == [("torch", 1), ("torch", 2), ("jax", 1), ("jax", 2)]
    assert all(len(set(one.answers.ids)) == one.test.documents == 150 for one in pooled)
    rights = sum(round(run.test.accuracy * 50) for run in runs[:3])
    assert pooled[0].test.accuracy == pytest.approx(rights / 150)
    answers = pooled[0].answers
    assert pooled[0].test.mcc == pytest.approx(matthews_corrcoef(answers.labels, answers.predicted))

    found = comparison("tiny", runs)
    assert found["engine_pairs"][0]["documents"] == 150
    assert found["engine_pairs"][0]["seeds"] == 2
    assert [one["seed"] for one in found["engines"]["torch"]["pooled"]] == [1, 2]
    assert found["engines"]["torch"]["runs"] == 6
    assert [pair["fold"] for pair in found["pairs"]] == [1, 2, 3, 1, 2, 3]
    assert "150" in comparison_page(found, {})


def test_a_missing_fold_and_a_document_in_two_are_refused(tmp_path: Path) -> None:
    written = folded(1)
    with pytest.raises(FolderError, match=r"jax with seed 1 has folds \[1, 2\], where others have \[1, 2, 3\]"):
        pool(runs_of(tmp_path / "missing", *written[:-1]))
    twice = [replace(run, first_id=0) for run in written]
    with pytest.raises(FolderError, match="100 documents are tested in two folds of torch-1"):
        pool(runs_of(tmp_path / "twice", *twice))


def test_other_test_documents_within_a_fold_are_refused(tmp_path: Path) -> None:
    *most, last = folded(1)
    with pytest.raises(FolderError, match="split"):
        check_twins(runs_of(tmp_path / "split", *most, replace(last, split_digest="9" * 64)))
    with pytest.raises(FolderError, match="test documents"):
        check_twins(runs_of(tmp_path / "documents", *most, replace(last, first_id=7)))


def test_an_ensemble_is_scored_by_the_mean_of_its_probabilities(tmp_path: Path) -> None:
    written = [Written("torch", seed) for seed in (1, 2, 3)]
    runs = runs_of(tmp_path, *written)
    found = comparison("tiny", runs, how=Conclude(ensemble=True))["engines"]["torch"]["ensemble"]
    mean = np.mean([run.answers.probabilities for run in runs], axis=0)
    names = np.array(runs[0].test.labels)[np.argmax(mean, axis=1)]
    assert found["accuracy"] == accuracy_score(runs[0].answers.labels, names)
    assert found["macro_f1"] == pytest.approx(f1_score(runs[0].answers.labels, names, average="macro"))
    assert comparison("tiny", runs)["engines"]["torch"]["ensemble"] is None


@pytest.mark.parametrize("skill", [-60.0, 60.0])
def test_runs_that_are_always_right_or_always_wrong_have_intervals(tmp_path: Path, skill: float) -> None:
    found = concluded(tmp_path, both(1, 2, skill=skill, documents=341))
    low, high = found["engines"]["torch"]["accuracy_interval"]
    assert 0 <= low < high <= 1
    assert found["engine_pairs"][0]["verdict"] == "equivalent"


@pytest.mark.parametrize("margin", [0.0, -1.0, 0.6, float("nan")])
def test_a_margin_that_decides_nothing_is_refused(margin: float) -> None:
    with pytest.raises(UserError, match="the margin must be above 0"):
        Conclude(margin)


def test_numbers_are_said_as_precisely_as_they_are_known() -> None:
    assert [rounded(number) for number in (7, 42, 341, 2056, 12_345)] == ["7", "42", "350", "2,100", "13,000"]
    assert [signed(value) for value in (0.0, -0.0001, 0.0123, -0.0123)] == ["0.0", "0.0", "+1.2", "-1.2"]
