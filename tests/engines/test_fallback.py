"""Families without a twin, through transformers: the oracle is transformers itself, asked without duygu."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from duygu import cli
from duygu.engines import Engine, Placement, StepKey, open_engine
from duygu.engines.torch import fallback
from duygu.errors import ModelError, RecipeError
from duygu.models.folder import open_classifier, open_model
from duygu.models.spec import ModelSpec, family_of, read_spec, tensor_shapes, write_config
from duygu.recipe import Recipe
from duygu.training.loop import train
from duygu.training.plan import Batch, assemble, exact_shape
from duygu.training.preparation import Job
from duygu.use.classifier import Classifier
from duygu.verdict.metrics import Scores
from tests.engines.cases import FP32, in_order, tensors_of
from tests.models.fallback_models import CONFIGS, SIZES, VOCABULARY, write_folder
from tests.models.small_models import LABELS as TWO

LABELS = ("bad", "good", "none")
LENGTH, DOCUMENTS = 40, 8
THOROUGH = ("convbert", "albert", "deberta-v2", "eurobert")
NUMBERS = (np.arange(DOCUMENTS) % len(LABELS)).astype(np.int32)


@functools.cache
def oracle(family: str) -> Any:
    """transformers' model, weights of standard deviation .2 around 0, norms around 1: logits of order 1."""
    config = AutoConfig.for_model(family, **SIZES, **CONFIGS[family])
    model = AutoModelForSequenceClassification.from_config(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name.lower() and name.endswith("weight")
            parameter.normal_(0.0, 0.2, generator=generator).add_(1.0 if is_norm else 0.0)
    return model


def spec_of(family: str) -> ModelSpec:
    return read_spec(oracle(family).config.to_dict(), LABELS, family)


@functools.cache
def documents() -> tuple[np.ndarray, ...]:
    """Documents of 2 to all tokens, two of one length, none with the padding's id."""
    random = np.random.default_rng(2)
    lengths = [2, LENGTH, LENGTH, *random.integers(3, LENGTH, size=DOCUMENTS - 3)]
    return tuple(random.integers(4, VOCABULARY, size=length).astype(np.int32) for length in lengths)


def batch_of(chosen: Sequence[int] = range(DOCUMENTS)) -> Batch:
    ids, rows = [documents()[one] for one in chosen], np.array(chosen, np.int32)
    shape = exact_shape(np.array([len(tokens) for tokens in ids], np.int32))
    return assemble(ids, rows, NUMBERS[rows], shape)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_engine("torch")


def start(engine: Engine, family: str, recipe: Recipe | None = None, placement: Placement = FP32) -> Any:
    return engine.start(spec_of(family), tensors_of(oracle(family)), recipe or Recipe(), placement)


def logits(engine: Engine, family: str, placement: Placement = FP32) -> np.ndarray:
    batch = batch_of()
    return in_order(batch, engine.logits(start(engine, family, placement=placement), batch))


@functools.cache
def oracle_logits(family: str) -> np.ndarray:
    """Document by document, so that nothing is padded."""
    with torch.inference_mode():
        return torch.cat(
            [oracle(family)(torch.from_numpy(ids[None].astype(np.int64))).logits for ids in documents()]
        ).numpy()


@pytest.mark.parametrize("family", CONFIGS)
def test_logits_of_a_batch_match_transformers_document_by_document(engine: Engine, family: str) -> None:
    """So padding changes nothing, which transformers itself does not promise: see ConvBERT below."""
    assert np.abs(logits(engine, family) - oracle_logits(family)).max() <= 1e-5


def test_every_family_that_is_padded_is_tested() -> None:
    assert CONFIGS.keys() >= fallback.MASKED


def test_padding_changes_what_transformers_answers_for_convbert() -> None:
    """Why the families that are padded are listed by name: its convolution reads beyond a document's end."""
    ids = [torch.from_numpy(tokens.astype(np.int64)) for tokens in documents()]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    with torch.inference_mode():
        found = oracle("convbert")(padded, attention_mask=(padded != 0).long()).logits.numpy()
    assert np.abs(found - oracle_logits("convbert")).max() > 1e-3


def test_a_family_that_takes_no_text_of_any_length_is_named(engine: Engine) -> None:
    """Nystromformer wants all texts as long as its config says."""
    config = {"model_type": "nystromformer", **SIZES, "num_landmarks": 4, "segment_means_seq_len": 48}
    spec = read_spec(config, LABELS, "config.json")
    tensors = {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes(spec).items()}
    with pytest.raises(ModelError, match="transformers cannot compute 2 texts of 40 tokens"):
        engine.logits(engine.start(spec, tensors, Recipe(), FP32), batch_of())


@pytest.mark.parametrize("family", THOROUGH)
def test_gradients_match_transformers(engine: Engine, family: str) -> None:
    """Of the mean loss, without dropout; relative to the length of the whole gradient."""
    model = oracle(family)
    model.zero_grad()
    for ids, label in zip(documents(), NUMBERS, strict=True):
        target = torch.tensor([int(label)])
        (model(torch.from_numpy(ids[None].astype(np.int64)), labels=target).loss / DOCUMENTS).backward()
    expected = {
        name: parameter.grad.numpy() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    found = dict(engine.gradients(start(engine, family), batch_of(), None))
    assert found.keys() == dict(model.named_parameters()).keys()
    whole = np.sqrt(sum(float((gradient**2).sum()) for gradient in expected.values()))
    for name, gradient in expected.items():
        assert np.linalg.norm(found[name] - gradient) <= 1e-5 * whole, name


@pytest.mark.parametrize("family", THOROUGH)
def test_input_gradients_match_transformers(engine: Engine, family: str) -> None:
    """By the word vectors of one document, which transformers takes in place of ids."""
    model, ids = oracle(family), torch.from_numpy(documents()[1][None].astype(np.int64))
    words = model.get_input_embeddings()(ids).detach().requires_grad_()
    (expected,) = torch.autograd.grad(model(inputs_embeds=words).logits[0, 2], words)
    found = engine.input_gradients(start(engine, family), batch_of([1]), 2)
    assert np.abs(found - expected[0].numpy()).max() <= 1e-5


@pytest.mark.parametrize("family", THOROUGH)
def test_bf16_is_near_fp32(engine: Engine, family: str) -> None:
    """A product of bf16 numbers has errors of 2^-8; the logits are of order 1."""
    placement = Placement("bf16", 0)
    low, high = logits(engine, family, placement), logits(engine, family)
    assert 0 < np.abs(low - high).max() < 0.1 * max(1.0, np.abs(high).max())
    state = start(engine, family, placement=placement)
    state, result = engine.step(state, [batch_of()], 1e-3, StepKey(1, 1))
    assert np.isfinite(result.loss)
    assert {parameter.dtype for parameter in state.masters.values()} == {torch.float32}


def test_dropout_is_a_function_of_seed_step_and_documents(engine: Engine) -> None:
    state, batch = start(engine, "convbert", Recipe(dropout=0.3)), batch_of()

    def gradient(key: StepKey, of: Batch = batch) -> np.ndarray:
        return dict(engine.gradients(state, of, key))["convbert.encoder.layer.0.output.dense.weight"]

    first = gradient(StepKey(1, 1))
    torch.rand(7)  # what else is drawn in between changes nothing
    assert (gradient(StepKey(1, 1)) == first).all()
    others = [gradient(StepKey(2, 1)), gradient(StepKey(1, 2)), gradient(StepKey(1, 1).second)]
    assert all(np.abs(other - first).max() > 1e-4 for other in others)
    kept = torch.random.get_rng_state()
    gradient(StepKey(1, 3))
    assert (torch.random.get_rng_state() == kept).all()


def test_the_recipes_rates_reach_the_config(engine: Engine) -> None:
    """Without dropout a step's loss is that of the logits; with it, another."""
    batch, key = batch_of(), StepKey(1, 1)

    def loss(recipe: Recipe) -> float:
        return engine.step(start(engine, "albert", recipe), [batch], 0.0, key)[1].loss

    rows = torch.from_numpy(oracle_logits("albert"))
    plain = float(torch.nn.functional.cross_entropy(rows, torch.from_numpy(NUMBERS.astype(np.int64))))
    assert loss(Recipe(dropout=0.0, attention_dropout=0.0)) == pytest.approx(plain, rel=1e-5)
    assert abs(loss(Recipe(dropout=0.5, attention_dropout=0.0)) - plain) > 1e-3
    assert abs(loss(Recipe(dropout=0.0, attention_dropout=0.5)) - plain) > 1e-3
    with pytest.raises(RecipeError, match="no field for it"):
        start(engine, "eurobert", Recipe(dropout=0.1))


def test_averages_and_r_drop_need_nothing_of_a_twin(engine: Engine) -> None:
    recipe = Recipe(ema=0.9, r_drop=1.0, dropout=0.2)
    state = start(engine, "albert", recipe)
    for number in range(1, 4):
        state, _ = engine.step(state, [batch_of()], 1e-2, StepKey(1, number))
    averaged = engine.logits(state, batch_of())
    scored = dict(engine.tensors(state, moments=False))
    plain = engine.start(spec_of("albert"), scored, Recipe(), FP32)
    assert np.abs(engine.logits(plain, batch_of()) - averaged).max() == 0
    assert any((scored[name] != tensor).any() for name, tensor in engine.tensors(state) if name in scored)


@pytest.mark.parametrize("family", CONFIGS)
def test_names_and_config_come_back(family: str) -> None:
    spec, model = spec_of(family), oracle(family)
    assert tensor_shapes(spec) == {name: tuple(one.shape) for name, one in model.named_parameters()}
    assert read_spec(write_config(spec), LABELS, family) == spec
    assert family_of(spec).head


def test_a_checkpoints_other_heads_are_left_alone(tmp_path: Path) -> None:
    """Pre-trained weights as a masked language model has them: the encoder loads, the head is new."""
    folder = write_folder(tmp_path / "model", "deberta-v2", head="lm_predictions.lm_head.dense.weight")
    model = open_model(folder, TWO, 5, list)
    assert model.account.initialised == (
        "pooler.dense.weight",
        "pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    )
    assert model.account.ignored == ("lm_predictions.lm_head.dense.weight",)
    assert "through transformers (fallback)" in model.warnings[0]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts whose label stands in a word."""
    folder = tmp_path_factory.mktemp("texts")
    for label, word in zip(TWO, ("cab", "zum"), strict=True):
        (folder / label).mkdir()
        for number in range(12):
            text = f"{word} {'abcdefghijklmn'[: number + 1]} {word} {chr(97 + number)}"
            (folder / label / f"{number}.txt").write_text(text, encoding="utf-8")
    return folder


RECIPE = Recipe(epochs=2, batch=5, length=16, lr=3e-3, precision="fp32", dropout=0.1, checkpoint_steps=2, restarts=0)


class Stop(Exception):
    pass


class Heard:
    """A progress that keeps messages and can end the run at an epoch, as a kill would."""

    def __init__(self, stop: bool = False) -> None:
        self.messages: list[str] = []
        self.stop = stop

    def phase(self, name: str, total: int | None = None) -> None: ...

    def advance(self, amount: int = 1, note: str = "") -> None:
        if self.stop and "epoch 2" in note:
            raise Stop

    def message(self, text: str) -> None:
        self.messages.append(text)

    def epoch(self, number: int, epochs: int, train_loss: float | None, validation: Scores) -> None: ...


@pytest.fixture(scope="module", params=["convbert", "albert"])
def run(request: pytest.FixtureRequest, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Heard]:
    folder = tmp_path_factory.mktemp("run")
    model = write_folder(folder / "model", request.param)
    job, heard = Job(str(texts), str(model), "torch", RECIPE, folder / "run", threads=1), Heard()
    train(job, heard)
    return job, heard


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    return dict(open_classifier(folder / "model").tensors)


def test_a_run_that_was_killed_ends_with_the_same_weights(run: tuple[Job, Heard], tmp_path: Path) -> None:
    job = run[0]
    killed = Job(job.data, job.model, "torch", RECIPE, tmp_path / "killed", threads=1)
    with pytest.raises(Stop):
        train(killed, Heard(stop=True))
    train(Job(job.data, job.model, "torch", RECIPE, tmp_path / "killed", threads=1, resume=True), Heard())
    found, expected = weights_of(tmp_path / "killed"), weights_of(job.out)
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)


def test_a_run_says_what_it_ran_through(run: tuple[Job, Heard]) -> None:
    job, heard = run
    assert any("through transformers (fallback)" in message for message in heard.messages)
    for name in ("environment.json", "metrics.json"):
        record = json.loads((job.out / name).read_text(encoding="utf-8"))
        assert record["through"].startswith("through transformers (fallback), version ")
    assert "through transformers (fallback)" in (job.out / "model" / "README.md").read_text(encoding="utf-8")


def test_result_loads_in_transformers_and_answers_the_same(run: tuple[Job, Heard]) -> None:
    job, sentences = run[0], ["cab abc", "zum klm opr"]
    theirs = AutoModelForSequenceClassification.from_pretrained(job.out / "model").eval()
    state = theirs.state_dict()
    assert all((state[name].numpy() == tensor).all() for name, tensor in weights_of(job.out).items())
    classifier = Classifier.open(job.out, "torch", threads=1)
    encoded = classifier.model.tokenizer.encode(sentences, 16, 0.75)
    rows = [torch.from_numpy(one[None].astype(np.int64)) for one in encoded.take(np.arange(2, dtype=np.int32))]
    with torch.inference_mode():
        expected = torch.cat([theirs(row).logits for row in rows]).numpy()
    assert np.abs(classifier.logits(sentences) - expected).max() <= 1e-5
    assert theirs.config.id2label == dict(enumerate(classifier.names))


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"fresh_layers": 1}, "fresh_layers"), ({"layer_decay": 0.9}, "number no layers"), ({"frozen": 2}, "0 layers")],
)
def test_what_names_do_not_tell_is_refused(
    settings: dict[str, Any], says: str, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ALBERT has one layer that is run over and over."""
    model = write_folder(tmp_path / "model", "albert")
    words = [f"{key}={value}" for key, value in {**settings, "length": 16, "precision": "fp32"}.items()]
    command = ["train", str(texts), "--engine", "torch", "--model", str(model), "--out", str(tmp_path / "run")]
    assert cli.main([*command, *(word for pair in words for word in ("--set", pair))]) == 2
    assert says in capsys.readouterr().err


def test_layers_learn_by_their_numbers_where_names_have_them(engine: Engine) -> None:
    state = start(engine, "deberta-v2", Recipe(layer_decay=0.5, frozen=1))
    scales = {group["scale"] for group in state.optimiser.param_groups}
    assert scales == {1.0, 0.5}
    frozen = {name for name, master in state.masters.items() if not master.requires_grad}
    assert frozen == {name for name in state.masters if name.startswith("deberta.embeddings.")}


def test_a_twin_does_not_bring_transformers_along(tmp_path: Path) -> None:
    """And what transformers is asked of a fallback brings neither framework into the process that asks."""
    folder = write_folder(tmp_path / "model", "convbert")
    program = f"""
import sys
from duygu.doctor import shape_of
from duygu.recipe import Recipe
spec = shape_of({str(folder)!r}, Recipe(length=16))
print(spec.family, len(spec.fallback.shapes), sorted({{"torch", "jax", "transformers"}} & sys.modules.keys()))
import duygu.engines.torch.engine
print("transformers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"convbert {len(list(oracle('convbert').named_parameters()))} []", "False"]
