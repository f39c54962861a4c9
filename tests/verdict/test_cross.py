"""Several models in several engines: who is compared with whom, by which numbers, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duygu.errors import FolderError, UserError
from duygu.recipe import Recipe
from duygu.verdict.baselines import Baseline
from duygu.verdict.between import listed
from duygu.verdict.compare import Background, CompareRequest, Conclude, compare_runs, comparison
from duygu.verdict.crossed import of_model, shown_tables
from duygu.verdict.documents import documents
from duygu.verdict.pooling import pool
from duygu.verdict.report import markdown
from duygu.verdict.request import keep_recipes, recorded, write_recipe
from duygu.verdict.runs import Run, by_model, check_twins, compare_pair, name_models, read_run
from duygu.verdict.stats import Components
from tests.verdict.folders import RECIPE, Written, change_json, write_run

Json = dict[str, Any]
SKILLS = {"alpha": 1.5, "beta": 1.3, "gamma": 0.4}


def written(
    seeds: Sequence[int] = (1, 2, 3), engines: Sequence[str] = ("torch", "jax"), **fields: Any
) -> list[Written]:
    """Three models with tokens, start and skill of their own; their engines are no twins to the bit."""
    return [
        replace(
            Written(engine, seed, skill=skill, noise=10 * number + place, model=f"/models/{model}"),
            start_digest=f"{number}" * 64, tokens=f"{number}" * 64, **fields,
        )
        for number, (model, skill) in enumerate(SKILLS.items())
        for seed in seeds
        for place, engine in enumerate(engines)
    ]  # fmt: skip


def runs_of(folder: Path, several: Sequence[Written]) -> list[Run]:
    return name_models([read_run(write_run(folder / str(number), run)) for number, run in enumerate(several)])


def crossed(folder: Path, several: Sequence[Written], **how: Any) -> Json:
    runs = runs_of(folder, several)
    check_twins(runs)
    return json.loads(json.dumps(comparison("three", runs, how=Conclude(**how))))


def test_the_form_is_that_of_one_model_with_two_parts_more(tmp_path: Path) -> None:
    found = crossed(tmp_path, written())
    one = comparison("tiny", runs_of(tmp_path / "one", [Written("torch"), Written("jax")]))
    assert set(found) - set(one) == {"models", "model_pairs"}
    assert set(one) < set(found)
    assert found["schema"] == one["schema"]
    assert list(found["engines"]) == [f"{model}-{engine}" for model in SKILLS for engine in ("torch", "jax")]
    assert [run["name"] for run in found["runs"]][:2] == ["alpha-torch-1", "alpha-jax-1"]
    assert {run["model"] for run in found["runs"]} == set(SKILLS)
    assert [(pair["a"], pair["b"]) for pair in found["model_pairs"]] == [
        ("alpha", "beta"), ("alpha", "gamma"), ("beta", "gamma"),
    ]  # fmt: skip
    assert found["models"]["beta"]["source"] == "/models/beta"
    assert found["models"]["beta"]["data"]["tokens"] == "1" * 64
    assert "tokens" not in found["data"]


def test_each_model_by_itself_is_what_a_comparison_of_it_alone_says(tmp_path: Path) -> None:
    """But for Holm's p, which reckons with the other models, and for the names of runs."""
    found = crossed(tmp_path / "all", written())
    for model, own in by_model(runs_of(tmp_path / "again", written())).items():
        alone = json.loads(json.dumps(comparison(model, [replace(run, model="") for run in own])))
        mine = json.loads(json.dumps(of_model(found, model)))
        for score in ("accuracy", "macro_f1", "mcc"):
            scores, others = (one["engine_pairs"][0]["scores"][score] for one in (mine, alone))
            assert scores.pop("p_holm") >= others.pop("p_holm")
            assert scores == others
        assert mine["engines"] == alone["engines"]
        assert mine["documents"] == alone["documents"]
        assert mine["data"] == alone["data"]
        for kind in ("plain", "scaled"):
            assert mine["calibration"]["jax"][kind] == alone["calibration"]["jax"][kind]


def test_models_are_compared_in_the_mean_of_their_engines_seed_by_seed(tmp_path: Path) -> None:
    """The oracle: Obuchowski and Rockette's components from the answers, in a few lines of numpy."""
    runs = runs_of(tmp_path, written())
    right = {(one.model, one.engine, one.seed): one.answers.predicted == one.answers.labels for one in pool(runs)}
    mean = {
        (model, seed): (right[model, "torch", seed].astype(float) + right[model, "jax", seed]) / 2
        for model in SKILLS
        for seed in (1, 2, 3)
    }
    pairs = comparison("three", runs)["model_pairs"]
    for pair in pairs:
        apart = np.stack([mean[pair["a"], seed] - mean[pair["b"], seed] for seed in (1, 2, 3)])  # (seeds, documents)
        covariance = np.cov(apart) / apart.shape[1]
        by_seed = apart.mean(1)
        expected = Components(
            float(by_seed.mean()), 3, apart.shape[1], float(by_seed.var(ddof=1)),
            float(covariance[~np.eye(3, dtype=bool)].mean()), float(np.diag(covariance).mean()), 1 / apart.shape[1],
        ).estimate()  # fmt: skip
        score = pair["scores"]["accuracy"]
        assert score["difference"] == pytest.approx(expected.value)
        assert score["interval"] == pytest.approx(expected.interval())
        assert score["p"] == pytest.approx(expected.p)
        assert score["minimum_detectable"] == pytest.approx(expected.detectable())
        assert [one["difference"] for one in pair["by_seed"]] == pytest.approx(by_seed)
        assert pair["engines"] == ["torch", "jax"]
    smallest = min(pairs, key=lambda pair: pair["scores"]["accuracy"]["p"])["scores"]["accuracy"]
    assert smallest["p_holm"] == pytest.approx(min(1.0, 3 * smallest["p"]))


def test_engines_that_are_twins_do_not_count_as_more_seeds(tmp_path: Path) -> None:
    """A second engine that answers everything alike changes nothing between the models."""
    alike = [replace(run, noise=run.noise - run.noise % 10) for run in written()]
    both, one = (
        crossed(tmp_path / name, own)["model_pairs"]
        for name, own in (("both", alike), ("one", [run for run in alike if run.engine == "torch"]))
    )
    for two_engines, one_engine in zip(both, one, strict=True):
        for score, found in two_engines["scores"].items():
            assert found["interval"] == pytest.approx(one_engine["scores"][score]["interval"])
            assert found["p"] == pytest.approx(one_engine["scores"][score]["p"])


def test_engine_pairs_of_all_models_are_one_family(tmp_path: Path) -> None:
    scores = [pair["scores"]["accuracy"] for pair in crossed(tmp_path, written())["engine_pairs"]]
    smallest = min(scores, key=lambda score: score["p"])
    assert len(scores) == 3
    assert smallest["p_holm"] == pytest.approx(min(1.0, 3 * smallest["p"]))


def test_one_seed_is_no_surer_than_mcnemar_in_any_engine_and_says_what_it_compares(tmp_path: Path) -> None:
    several = written(seeds=(1,))
    found, runs = crossed(tmp_path / "all", several), runs_of(tmp_path / "again", several)
    run = {(one.model, one.engine): one for one in runs}
    for pair in found["model_pairs"]:
        score = pair["scores"]["accuracy"]
        for engine in ("torch", "jax"):
            single = compare_pair(run[pair["a"], engine], run[pair["b"], engine])
            assert score["p"] >= single.mcnemar_p
            assert score["minimum_detectable"] >= single.minimum_detectable
        assert pair["sentence"].endswith("this compares trained models, not what they began as.")
    assert found["engine_pairs"][0]["sentence"].endswith("two trained models, not two frameworks.")
    assert found["verdict"].endswith("not frameworks and not what the models began as.")


def test_the_verdict_names_engines_first_then_who_beats_whom(tmp_path: Path) -> None:
    engines, models = crossed(tmp_path, written(documents=341))["verdict"].split(". ", 1)
    assert engines.startswith("PyTorch and JAX: ")
    assert models.startswith("Models: alpha is more accurate than ")
    assert "gamma" in models
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_models_without_an_engine_in_common_are_not_compared(tmp_path: Path) -> None:
    own = {"/models/alpha": "torch", "/models/beta": "jax", "/models/gamma": "jax"}
    found = crossed(tmp_path, [run for run in written() if run.engine == own[run.model]])
    assert [(pair["a"], pair["b"], pair["engines"]) for pair in found["model_pairs"]] == [("beta", "gamma", ["jax"])]
    assert found["engine_pairs"] == []
    assert found["verdict"].startswith("The engines have no seed in common")


def test_every_model_and_engine_has_its_row_and_the_models_their_tables(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, [replace(run, collapsed=run.seed == 2) for run in written()])
    found = comparison("three", runs, Background((Baseline("linear", runs[0].test),)))
    first, *others = shown_tables(found)
    rows = {row[0]: row[1:] for row in first.rows if row}
    assert list(rows) == [*(f"{model} · {engine}" for model in SKILLS for engine in ("PyTorch", "JAX")), "linear"]
    summary = found["engines"]["beta-jax"]
    low, high = (bound * 100 for bound in summary["accuracy_interval"])
    assert rows["beta · JAX"][0].startswith(f"{summary['accuracy_mean'] * 100:.1f} ± ")
    assert rows["beta · JAX"][1:3] == (f"{low:.1f}-{high:.1f}", f"{summary['macro_f1_mean']:.3f}")
    assert rows["beta · JAX"][4:] == ("1 of 3", "42.5", "512 MiB")
    assert rows["linear"][4:] == ("", "", "")
    assert len(next(table for table in others if table.title == "The models against each other: accuracy").rows) == 3
    text = markdown(found)
    for model in SKILLS:
        assert f"\n## {model}\n" in text
    assert any("beta · PyTorch: 1 of 3 runs collapsed" in line for line in text.splitlines())


def test_runs_of_one_model_under_two_names_stay_one_model(tmp_path: Path) -> None:
    """A copy is known by its first weights and tokens, a copy that a comparison made also by the hub's name."""
    same = [Written("torch", 1, model="/a/bert"), Written("jax", 1, model="/b/model")]
    assert {run.model for run in runs_of(tmp_path / "same", same)} == {""}
    more = [Written("torch", 1, model="/one/start"), Written("torch", 2, model="/two/start", start_digest="b" * 64)]
    assert {run.model for run in runs_of(tmp_path / "more", more)} == {""}
    folders = [write_run(tmp_path / str(run.seed), run) for run in more]
    change_json(folders[0] / "environment.json", model_revision="owner/bert@0123")
    change_json(folders[1] / "data.json", tokens="f" * 64)
    assert [run.model for run in name_models([read_run(folder) for folder in folders])] == ["bert", "two"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tokens": "9" * 64}, "token ids"),
        ({"start_digest": "9" * 64}, "starting weights"),
        ({"recipe": RECIPE.changed({"lr": 0.5})}, "recipe field lr"),
        ({"split_digest": "9" * 64}, "split"),
        ({"first_id": 7}, "test documents"),
        ({"engine": "torch"}, "engine and seed are the same: gamma-torch-1"),
    ],
)
def test_what_one_model_shares_is_asked_of_it_and_what_all_share_of_all(
    tmp_path: Path, changes: Json, named: str
) -> None:
    *most, last = written(seeds=(1,))
    with pytest.raises(FolderError, match=named):
        check_twins(runs_of(tmp_path, [*most, replace(last, **changes)]))


def test_recipes_may_differ_between_models_and_that_is_said(tmp_path: Path) -> None:
    other = RECIPE.changed({"lr": 1e-3, "length": 64})
    several = [replace(run, recipe=other) if run.model.endswith("beta") else run for run in written()]
    found = crossed(tmp_path, several)
    assert found["models"]["beta"]["recipe"] == {"length": 64, "lr": 1e-3}
    assert found["models"]["alpha"]["recipe"] == {"length": 256, "lr": 2e-5}
    assert "Each model was trained by the recipe that suits it; they differ in length, lr." in found["notes"]


def test_folds_are_pooled_within_each_model(tmp_path: Path) -> None:
    several = [
        replace(run, fold=fold, documents=50, first_id=50 * fold, split_digest=str(fold) * 64)
        for run in written(seeds=(1, 2))
        for fold in (1, 2)
    ]
    found = crossed(tmp_path, several)
    assert [(pair["documents"], pair["seeds"]) for pair in found["model_pairs"]] == [(100, 2)] * 3
    assert found["runs"][0]["name"] == "alpha-torch-1-fold1"


def test_documents_are_disputed_between_models_not_between_engines(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, written(seeds=(1,)))
    found = documents(runs, by="model")
    labels = {(run.model, run.engine): dict(zip(run.answers.ids, run.answers.predicted, strict=True)) for run in runs}
    apart = {
        id: sum(len({labels[model, engine][id] for model in SKILLS}) > 1 for engine in ("torch", "jax"))
        for id in runs[0].answers.ids
    }
    assert found["counts"]["disagreements"] == sum(map(bool, apart.values())) > 3
    for one in found["disagreements"]:
        assert one["runs_apart"] == apart[one["id"]]
        assert list(one["answers"]) == list(SKILLS)


def test_finished_runs_of_several_models_write_the_three_files(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "runs" / str(number), run) for number, run in enumerate(written(seeds=(1,)))]
    found = compare_runs(folders, tmp_path / "out")
    assert found == json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert found["model"] == "/models/alpha, /models/beta, /models/gamma"
    assert "3 models" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def request_for(out: Path, models: tuple[str, ...], *recipes: Recipe) -> CompareRequest:
    return CompareRequest("texts", models, out, recipes)


def test_a_model_named_twice_is_refused(tmp_path: Path) -> None:
    for twice in (("tiny", "tiny"), ("berturk", "dbmdz/bert-base-turkish-cased")):
        with pytest.raises(UserError, match="each must be named once"):
            request_for(tmp_path, twice, RECIPE, RECIPE)


def test_every_model_has_its_own_recipe_which_a_resumed_comparison_holds_it_to(tmp_path: Path) -> None:
    slow = RECIPE.changed({"lr": 1e-6})
    request = request_for(tmp_path, ("tiny", "berturk"), RECIPE, slow)
    assert [(model.name, model.recipe.lr) for model in request.models] == [("tiny", 2e-5), ("berturk", 1e-6)]
    for model in request.models:
        write_recipe(tmp_path, model)
    (tmp_path / "request.json").write_text('{"model": ["tiny", "berturk"], "no_texts": true}', encoding="utf-8")
    kept = recorded(tmp_path)
    assert (kept["model"], kept["recipe"], kept["texts"]) == (("tiny", "berturk"), (RECIPE, slow), False)
    keep_recipes(request)
    with pytest.raises(FolderError, match="was begun with another lr for berturk"):
        keep_recipes(replace(request, recipe=RECIPE))
