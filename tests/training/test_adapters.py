"""Runs with adapters: what they leave, what they keep, how they go on, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from duygu.data.corpus import read_corpus
from duygu.data.tokens import TextTokenizer
from duygu.errors import ModelError, RecipeError, UserError
from duygu.models import packed_cache
from duygu.models.adapters import adapted_layers, initial_adapter
from duygu.models.families import Shapes
from duygu.models.folder import open_model, quantised, write_model
from duygu.models.presets import PRESETS, recipe_preset
from duygu.models.spec import ModelSpec, parameters, tensor_shapes
from duygu.models.weights import initialise
from duygu.recipe import Recipe
from duygu.scale.memory import with_recipe
from duygu.training import preparation
from duygu.training.loop import Job, train
from duygu.training.parameters import parameter_rules
from duygu.training.progress import SILENT
from duygu.use.classifier import Classifier
from duygu.verdict.compare import CompareRequest, compare
from tests.training.test_loop import stop_at

RECIPE = Recipe(
    epochs=2, lr=1e-2, batch=16, length=24, precision="fp32", checkpoint_steps=2, lora_rank=4, lora_dropout=0.1,
    quantise="nf4-double",
)  # fmt: skip


@pytest.fixture(scope="module")
def base(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT that lies in a folder, as one from the hub would."""
    tokenizer = TextTokenizer.train(read_corpus(str(texts)).texts, 300)
    preset = replace(PRESETS["tiny"], hidden=32, heads=2, positions=48)
    spec = preset.spec(tokenizer.vocabulary, tokenizer.pad_id, ("one", "other"))
    folder = tmp_path_factory.mktemp("base") / "bert"
    tensors = ((name, initialise(name, shape, spec, 0)) for name, shape in tensor_shapes(spec).items())
    write_model(folder, spec, tensors, tokenizer, 24, 0.75)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def job(texts: Path, base: Path, tmp_path: Path) -> Job:
    return Job(str(texts), str(base), "torch", RECIPE, tmp_path / "run", threads=1)


def spec_of(base: Path) -> ModelSpec:
    return open_model(base, ("one", "other"), 13, list).spec


@pytest.mark.parametrize("engine", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_a_stopped_run_ends_as_one_that_was_not(job: Job, engine: Any, tmp_path: Path) -> None:
    """To the bit; what it left answers as the run did, and no base weight is in any file of it."""
    job = replace(job, engine=engine)
    train(job, SILENT)
    again = replace(job, out=tmp_path / "stopped")
    stop_at(again, 3)
    metrics = train(replace(again, resume=True), SILENT)
    for name in ("model/adapter_model.safetensors", "predictions.csv"):
        assert (job.out / name).read_bytes() == (again.out / name).read_bytes(), name
    held = {name.removeprefix("base_model.model.") for name in load_file(job.out / "model/adapter_model.safetensors")}
    assert {name for name in held if "lora_" not in name} == {
        f"{head}.{kind}" for head in ("classifier", "bert.pooler.dense") for kind in ("weight", "bias")
    }
    saved = {name for path in job.out.glob("checkpoints/*/tensors.safetensors") for name in load_file(path)}
    assert {name.removeprefix("adam.m/").removeprefix("adam.v/") for name in saved} == held | {"adam.count"}
    opened = Classifier.open(job.out, engine, threads=1)
    found = opened.evaluate(read_corpus(job.data), _test_part(job))
    assert found.loss == pytest.approx(metrics["test"]["loss"], abs=1e-6)


def _test_part(job: Job) -> np.ndarray:
    from duygu.use.classifier import test_part as part

    found = part(job.out, read_corpus(job.data))
    assert found is not None
    return found


def test_merged_results_answer_as_adapters_do(job: Job, tmp_path: Path) -> None:
    texts = ["profit growth strong", "loss decline weak"]
    train(job, SILENT)
    merged = replace(job, recipe=replace(RECIPE, lora_save="merged"), out=tmp_path / "merged")
    train(merged, SILENT)
    assert (merged.out / "model" / "model.safetensors").is_file()
    assert not (merged.out / "model" / "adapter_config.json").exists()
    one, other = (Classifier.open(out, "torch", threads=1).logits(texts) for out in (job.out, merged.out))
    np.testing.assert_allclose(other, one, atol=1e-5, rtol=0)


def test_adapters_to_a_model_from_scratch_are_merged(job: Job) -> None:
    train(replace(job, model="tiny", recipe=replace(RECIPE, epochs=1)), SILENT)
    assert (job.out / "model" / "model.safetensors").is_file()


def test_weights_are_quantised_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    train(replace(job, recipe=replace(RECIPE, epochs=1)), SILENT)
    monkeypatch.setattr(packed_cache, "quantise_all", None)
    train(replace(job, recipe=replace(RECIPE, epochs=1), overwrite=True), SILENT)
    (kept,) = [path for path in packed_cache.cache_folder().iterdir() if path.is_dir()]
    (kept / packed_cache.PACKED).write_bytes(b"damaged")
    with pytest.raises(TypeError, match="NoneType"):  # it would be made again
        train(replace(job, recipe=replace(RECIPE, epochs=1), overwrite=True), SILENT)


def test_only_who_holds_its_lock_deletes_what_is_damaged_in_the_cache(
    job: Job, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may make it anew between the look at it and the deletion."""
    model = open_model(base, ("one", "other"), 13, list)
    sound = quantised(model, RECIPE, SILENT)
    (kept,) = [path for path in packed_cache.cache_folder().iterdir() if path.is_dir()]
    whole = (kept / packed_cache.PACKED).read_bytes()
    looks: list[bool] = []

    def look(place: Path, wanted: Shapes) -> bool:
        looks.append(is_sound(place, wanted))
        if len(looks) == 1:  # now somebody else makes it anew
            (place / packed_cache.PACKED).write_bytes(whole)
        return looks[-1]

    is_sound = packed_cache._is_sound
    (kept / packed_cache.PACKED).write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(packed_cache, "_is_sound", look)
    monkeypatch.setattr(packed_cache, "quantise_all", None)
    found = quantised(model, RECIPE, SILENT)
    assert looks == [False, True]
    assert all(np.array_equal(found[name], sound[name]) for name in sound)


def test_two_processes_quantise_once(base: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from duygu.models.folder import open_model, quantised
from duygu.models.weights import weights_digest
from duygu.recipe import Recipe
model = open_model({str(base)!r}, ("one", "other"), 13, list)
print(weights_digest(quantised(model, Recipe(lora_rank=4, quantise="nf4")).items()))
"""
    several = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [one.communicate() for one in several]
    assert [one.returncode for one in several] == [0, 0], answers
    assert len({out for out, _ in answers}) == 1
    assert sum("quantising" in talk for _, talk in answers) == 1


def opened_again(job: Job) -> Classifier:
    return Classifier.open(job.out, "torch", threads=1)


def test_adapters_whose_base_is_gone_say_where_it_was(job: Job, base: Path, tmp_path: Path) -> None:
    """And opening works again where the new place is written, as the message says."""
    home = Path(shutil.copytree(base, tmp_path / "home"))
    train(replace(job, model=str(home), recipe=replace(RECIPE, epochs=1)), SILENT)
    before = opened_again(job).logits(["profit"])
    home.rename(tmp_path / "moved")
    with pytest.raises(ModelError) as refused:
        opened_again(job)
    config = job.out / "model" / "adapter_config.json"
    assert refused.value.problem == f"the model that these adapters belong to is no longer there: {home}"
    assert refused.value.where == f"{config}: base_model_name_or_path"
    config.write_text(config.read_text().replace(str(home), str(tmp_path / "moved")))
    np.testing.assert_array_equal(opened_again(job).logits(["profit"]), before)


@pytest.mark.parametrize("quantise", ["none", "nf4"])
def test_adapters_are_not_opened_over_other_weights(job: Job, base: Path, tmp_path: Path, quantise: str) -> None:
    """Shapes and names are the same, so that nothing else would tell."""
    home = Path(shutil.copytree(base, tmp_path / "home"))
    train(replace(job, model=str(home), recipe=replace(RECIPE, epochs=1, quantise=quantise)), SILENT)
    opened_again(job)
    tensors = load_file(home / "model.safetensors")
    name = "bert.encoder.layer.0.output.dense.weight"
    save_file({**tensors, name: tensors[name] + np.float32(1e-3)}, home / "model.safetensors")
    with pytest.raises(ModelError, match="trained beside other weights than those that are now in"):
        opened_again(job)


def test_training_from_an_adapter_folder_is_refused(job: Job, base: Path, tmp_path: Path) -> None:
    train(replace(job, recipe=replace(RECIPE, epochs=1)), SILENT)
    with pytest.raises(ModelError, match="training starts from a whole model") as refused:
        train(replace(job, model=str(job.out / "model"), out=tmp_path / "second"), SILENT)
    assert refused.value.fix.startswith(f"start from {base}, or train the adapters with --merge")
    compared = CompareRequest(job.data, str(job.out / "model"), tmp_path / "compared", RECIPE)
    with pytest.raises(ModelError, match="training starts from a whole model"):
        compare(compared, print)
    assert not compared.out.exists()


def test_disk_space_for_a_merged_model_is_asked_for_first(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result larger than its checkpoints must not be found too large when hours are over."""
    asked: list[int] = []
    monkeypatch.setattr(preparation, "require_space", lambda _, needed: asked.append(needed))
    for lora_save in ("adapter", "merged"):
        train(replace(job, recipe=replace(RECIPE, epochs=1, lora_save=lora_save), overwrite=True), SILENT)
    assert asked[1] - asked[0] == 4 * parameters(spec_of(Path(job.model)))


def test_a_run_does_not_go_on_over_other_weights(job: Job, base: Path, tmp_path: Path) -> None:
    stop_at(job, 3)
    model = open_model(base, ("one", "other"), 14, list)
    changed = ((name, np.asarray(x) * np.float32(1.5)) for name, x in model.tensors.items())
    write_model(tmp_path / "bert", model.spec, changed, model.tokenizer, 24, 0.75)
    with pytest.raises(UserError, match="began with another data or model: start weights"):
        train(replace(job, model=str(tmp_path / "bert"), resume=True), SILENT)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "4 bits that should learn": ({"lora_rank": 0}, "adapters must"),
    "no such layer": ({"lora_targets": "query,q_proj"}, "no linear layer's name ends with q_proj"),
    "averages": ({"ema": 0.9}, "ema"),
    "frozen": ({"frozen": 1}, "frozen"),
    "fresh layers": ({"fresh_layers": 1}, "fresh_layers"),
    "two passes that drop": ({"r_drop": 1.0}, "r_drop"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_refused(job: Job, name: str) -> None:
    changes, words = REFUSED[name]
    with pytest.raises(RecipeError, match=words):
        train(replace(job, recipe=replace(RECIPE, **changes)), SILENT)


def test_adapters_start_as_pefts_do() -> None:
    """Uniform up to 1 / sqrt(inputs), which is ``kaiming_uniform_(a=sqrt(5))``; B at 0; of the name and the seed."""
    name = "bert.encoder.layer.0.output.dense.lora_A.weight"
    a_RI = initial_adapter(name, (64, 400), 13)
    assert np.abs(a_RI).max() <= 0.05
    assert np.abs(a_RI).max() > 0.0499
    assert a_RI.std() == pytest.approx(0.05 / np.sqrt(3), rel=0.02)
    assert not initial_adapter(name.replace("_A", "_B"), (400, 64), 13).any()
    assert np.array_equal(a_RI, initial_adapter(name, (64, 400), 13))
    assert not np.array_equal(a_RI, initial_adapter(name, (64, 400), 14))


def test_targets_are_endings_of_names(base: Path) -> None:
    shapes = tensor_shapes(spec_of(base))
    every = adapted_layers(shapes, Recipe(lora_rank=1))
    assert len(every) == 2 * 6
    chosen = adapted_layers(shapes, Recipe(lora_rank=1, lora_targets="query,attention.output.dense"))
    assert [name.partition("layer.")[2] for name in chosen] == [
        f"{number}.attention.{part}" for number in (0, 1) for part in ("self.query", "output.dense")
    ]


def test_targets_that_are_in_some_layers_only_are_refused(base: Path) -> None:
    """JAX scans the layers as one; PyTorch could, and would train another model than its twin."""
    with pytest.raises(RecipeError, match=r"attention\.self\.query would have adapters in 1 layers only") as refused:
        adapted_layers(tensor_shapes(spec_of(base)), Recipe(lora_rank=1, lora_targets="value,1.attention.self.query"))
    assert "such as query, for all 2" in refused.value.fix


def test_norms_above_the_layers_of_a_decoder_stay_as_they_are() -> None:
    names = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight", "score.weight"]
    rules = parameter_rules([*names, "model.layers.0.mlp.up_proj.lora_A.weight"], Recipe(lora_rank=1))
    assert [name for name, rule in rules.items() if rule.trainable] == [
        "score.weight",
        "model.layers.0.mlp.up_proj.lora_A.weight",
    ]


def test_memory_is_predicted_without_moments_of_the_base(base: Path) -> None:
    spec = replace(spec_of(base), hidden=768, heads=12, intermediate=3072, layers=12)
    whole = with_recipe(spec, Recipe(), "torch", "bf16", 8)
    adapted = with_recipe(spec, recipe_preset("llama-4bit").recipe, "torch", "bf16", 8)
    assert adapted.moments < whole.moments / 15
    assert adapted.masters < whole.masters / 4


FOREIGN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "GPTQ": (lambda config: config.update(quantization_config={"quant_method": "gptq", "bits": 4}), "GPTQ"),
    "AWQ": (lambda config: config.update(quantization_config={"quant_method": "awq"}), "AWQ"),
    "bitsandbytes": (lambda config: config.update(quantization_config={"load_in_4bit": True}), "bitsandbytes"),
    "compressed": (
        lambda config: config.update(quantization_config={"quant_method": "compressed-tensors"}),
        "compressed-tensors",
    ),
    "fp8": (lambda config: config.update(quantization_config={"quant_method": "fp8"}), "fp8"),
}


@pytest.mark.parametrize("make", FOREIGN)
def test_weights_that_others_quantised_are_refused_by_name(base: Path, make: str, tmp_path: Path) -> None:
    change, word = FOREIGN[make]
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=f"quantised with {word}"):
        open_model(tmp_path, ("one", "other"), 13, list)


def test_gguf_files_are_refused_by_name(base: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((base / "config.json").read_bytes())
    (tmp_path / "model-q4.gguf").write_bytes(b"GGUF")
    for place in (tmp_path, tmp_path / "model-q4.gguf"):
        with pytest.raises(ModelError, match=r"model-q4\.gguf has weights that are quantised as GGUF"):
            open_model(place, ("one", "other"), 13, list)
