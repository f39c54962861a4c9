"""The predictor against transformers on the same folder, and what it owes to callers."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from duygu.data.corpus import Corpus, read_corpus
from duygu.engines import ENGINES
from duygu.errors import DataError, ModelError, OutOfMemory, UserError
from duygu.files import write_json
from duygu.models.folder import open_model, write_model
from duygu.training.out_of_memory import Watched
from duygu.use.classifier import Classifier, installed_engines, model_folder, read_temperature

LENGTH, HEAD_SHARE = 24, 0.75


@pytest.fixture(scope="session")
def corpus(texts: Path) -> Corpus:
    return read_corpus(texts)


@pytest.fixture(scope="session")
def folder(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained tiny classifier, its head scaled up so that answers differ, its labels in an order of their own."""
    folder = tmp_path_factory.mktemp("classifier")
    opened = open_model("tiny", corpus.names[::-1], 7, lambda: corpus.texts)
    tensors = ((name, tensor * (20 if name == "classifier.weight" else 1)) for name, tensor in opened.tensors.items())
    write_model(folder, opened.spec, tensors, opened.tokenizer, LENGTH, HEAD_SHARE)
    return folder


@pytest.fixture(scope="session", params=ENGINES)
def classifier(request: pytest.FixtureRequest, folder: Path) -> Classifier:
    return Classifier.open(folder, request.param)


def reference_probabilities(folder: Path, texts: tuple[str, ...]) -> np.ndarray:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        rows = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in texts]
    return torch.stack(rows).double().softmax(-1).numpy()


def test_probabilities_match_transformers(classifier: Classifier, folder: Path, corpus: Corpus) -> None:
    short = tuple(text for text in corpus.texts if len(text) < 60)[:12]
    assert len(short) == 12
    predicted = classifier.predict(short).probabilities
    np.testing.assert_allclose(predicted, reference_probabilities(folder, short), atol=1e-5)
    assert np.ptp(predicted[:, 0]) > 1e-3


def test_labels_are_the_most_probable_and_rows_sum_to_one(classifier: Classifier, corpus: Corpus) -> None:
    answers = classifier.predict(corpus.texts[:12])
    assert answers.names == ("rise", "fall")
    assert answers.labels == tuple(answers.names[index] for index in answers.probabilities.argmax(axis=1))
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1.0, atol=1e-12)


def test_answers_do_not_depend_on_company_or_order(classifier: Classifier, corpus: Corpus) -> None:
    texts = [text * (1 + number % 3) for number, text in enumerate(corpus.texts[:12])]
    together = classifier.logits(texts)
    np.testing.assert_allclose(classifier.logits(texts[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_allclose(classifier.logits(texts[5:6]), together[5:6], atol=1e-5)


def test_long_texts_are_cut_as_recorded(classifier: Classifier) -> None:
    """Only the head and the tail of a long text count, in the recorded shares of the recorded length."""
    room = LENGTH - 2
    head = round(room * HEAD_SHARE)
    words = ["profit", "growth", "loss", "debt"]
    start, end = [words[i % 4] for i in range(head)], [words[i % 3] for i in range(room - head)]
    one, other = (" ".join([*start, *[word] * 100, *end]) for word in ("weak", "strong"))
    assert len(classifier.model.tokenizer.encode([" ".join(words)], 100, 1.0).ids) == 6, "one token a word"
    np.testing.assert_array_equal(classifier.logits([one]), classifier.logits([other]))


def test_uncleaned_text_reads_as_the_corpus_would(classifier: Classifier) -> None:
    plain, dirty = "Strong growth and record profit.", "\ufeffStrong\u200b  growth\nand record\x00 profit. "
    np.testing.assert_array_equal(classifier.logits([dirty]), classifier.logits([plain]))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stored_temperature_cools_probabilities_and_changes_no_label(
    folder: Path, corpus: Corpus, tmp_path: Path, engine: str
) -> None:
    from scipy.special import softmax

    warm = tmp_path / "model"
    shutil.copytree(folder, warm)
    write_json(warm / "calibration.json", {"temperature": 2.5})
    plain, found = Classifier.open(folder, engine), Classifier.open(warm, engine)
    texts = corpus.texts[:8]
    answers = found.predict(texts)
    np.testing.assert_allclose(answers.probabilities, softmax(plain.logits(texts).astype(float) / 2.5, axis=1))
    assert answers.labels == plain.predict(texts).labels
    assert found.evaluate(corpus).loss == plain.evaluate(corpus).loss


@pytest.mark.parametrize("temperature", [0, -1.0, "1", True, None, [1]])
def test_a_temperature_that_is_none_is_refused(tmp_path: Path, temperature: object) -> None:
    write_json(tmp_path / "calibration.json", {"temperature": temperature})
    with pytest.raises(ModelError, match="no positive number"):
        read_temperature(tmp_path)


@pytest.mark.parametrize("nothing", [(), ("",), ("\n",)])
def test_nothing_to_read_is_answered(classifier: Classifier, nothing: tuple[str, ...]) -> None:
    answers = classifier.predict(nothing)
    assert answers.probabilities.shape == (len(nothing), 2)
    assert np.isfinite(answers.probabilities).all()


def test_evaluation_matches_predictions(classifier: Classifier, corpus: Corpus) -> None:
    documents = np.arange(0, 60, 5, dtype=np.int32)
    right = [
        corpus.names[corpus.labels[index]] == label
        for index, label in zip(documents, classifier.predict([corpus.texts[i] for i in documents]).labels, strict=True)
    ]
    scores = classifier.evaluate(corpus, documents)
    assert scores.documents == 12
    assert scores.accuracy == pytest.approx(np.mean(right))


def test_label_that_was_not_learnt_is_an_error(classifier: Classifier, tmp_path: Path) -> None:
    for name in ("rise", "riser"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.txt").write_text(f"record {number}", encoding="utf-8")
    with pytest.raises(DataError, match="has not learnt the label riser"):
        classifier.evaluate(read_corpus(tmp_path))


def test_run_folder_is_accepted(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(folder, target_is_directory=True)
    assert model_folder(tmp_path) == tmp_path / "model"
    assert model_folder(folder) == folder


def test_errors_are_the_users(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no engine 'tensorflow'"):
        Classifier.open(folder, "tensorflow")
    with pytest.raises(ModelError):
        Classifier.open(tmp_path / "nowhere", "torch")


def test_installed_engines_are_found_without_importing_them() -> None:
    assert installed_engines() == ENGINES


def test_memory_that_does_not_suffice_is_told(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> np.ndarray:
        raise MemoryError

    assert isinstance(classifier.engine, Watched)
    monkeypatch.setattr(classifier.engine.engine, "logits", refuse)
    with pytest.raises(OutOfMemory, match="out of memory: scoring needs some") as raised:
        classifier.predict(["Profit rose."])
    name = classifier.engine.name
    assert re.fullmatch(rf"scoring \(1 document, \d+ tokens at once\), {name} fp32 on the CPU", raised.value.where)
    less = {"torch": "--engine torch --precision bf16 (", "jax": "--engine torch --precision fp32 ("}
    assert raised.value.fix.startswith(less[name])
