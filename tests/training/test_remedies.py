"""Remedies outside the engines: document weights, words, rates, fresh layers, patience; and all at once, resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from duygu.data.tokens import TextTokenizer
from duygu.engines import EngineName
from duygu.errors import RecipeError
from duygu.models.folder import Model, open_model, weights_digest
from duygu.recipe import Recipe
from duygu.training import plan
from duygu.training.augmentation import Augmentation, Vocabulary, augmentation, exchange, is_plain
from duygu.training.loop import Job, train
from duygu.training.parameters import average_rate, blocks_of, fresh_names, parameter_rules
from duygu.training.plan import document_weights
from duygu.training.preparation import first_tensors
from duygu.training.progress import SILENT
from tests.training.test_loop import assert_equal_ends, stop_at

TEXT = "Bankanın kârı yüzde 12,5 arttı, ihracat düşmedi; gelirler beklenmiyor değil. Borsadaki yükseliş -3 puan sürüyor"
NAMES = ("negative", "positive", "neutral")


# ---- class weights ----


def test_balanced_weights_match_sklearn() -> None:
    from sklearn.utils.class_weight import compute_sample_weight

    labels = np.array([0] * 5 + [1] * 12 + [2] * 3, np.int32)
    train = np.arange(18, dtype=np.int32)
    weights = document_weights(labels, train, NAMES, Recipe(class_weights="balanced"))
    np.testing.assert_allclose(weights[train], compute_sample_weight("balanced", labels[train]), rtol=1e-6)
    assert weights[19] == weights[17], "by label, in every part"


def test_given_weights_are_those_of_the_labels_in_order() -> None:
    labels = np.array([2, 0, 1], np.int32)
    weights = document_weights(labels, labels, NAMES, Recipe(class_weights="1.1, 0.9,2"))
    np.testing.assert_allclose(weights, [2.0, 1.1, 0.9])
    np.testing.assert_array_equal(document_weights(labels, labels, NAMES, Recipe()), np.ones(3))
    with pytest.raises(RecipeError, match="2 numbers, but there are 3 labels: negative, positive, neutral"):
        document_weights(labels, labels, NAMES, Recipe(class_weights="1,2"))


@pytest.mark.parametrize("wrong", ["", "heavy", "1,-1", "0,1", "1,nan", "1,,2", "inf"])
def test_weights_that_make_no_sense_are_refused(wrong: str) -> None:
    with pytest.raises(RecipeError, match="class_weights"):
        Recipe(class_weights=wrong)


# ---- words ----


LEFT_ALONE = """
    12 12,5 %5 -3 Q3 . ##lar yüzde milyarlık on dört
    değil değildir yok hiçbir artmadı Artmadı düşmedi GELMEDİ gelmeyecek gelmeyen olmaz almamış beklenmiyor artmıyor
    çalışmadan kârsız başarısızlık not without
"""
PLAIN = "arttı artması artmaya düşme banka ihracat yükseliş profit İhracat IŞIK temmuz"


def test_numbers_negations_and_signs_are_left_alone() -> None:
    assert [word for word in LEFT_ALONE.split() if is_plain(word)] == []


def test_other_words_are_plain() -> None:
    assert [word for word in PLAIN.split() if not is_plain(word)] == []


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    """One that knows the letters of the text and no word, so that every word is several pieces."""
    return TextTokenizer.train([" ".join(TEXT)], 190)


def vocabulary_of(tokenizer: TextTokenizer) -> Vocabulary:
    assert tokenizer.blank_id is not None
    return Vocabulary(*tokenizer.beginnings(), tokenizer.blank_id, tokenizer.spell)


def words_of(tokenizer: TextTokenizer, ids: np.ndarray) -> list[str]:
    mask = tokenizer.blank_id
    return tokenizer.spell([int(i) for i in ids if i != mask]).split()


def test_masked_words_are_whole_and_lengths_stay(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode([TEXT], 256, 0.75).ids
    words, changed = words_of(tokenizer, ids), Augmentation(vocabulary_of(tokenizer), Recipe(word_dropout=0.5))
    assert len(ids) > len(words) + 10, "words of several pieces"
    seen: set[str] = set()
    for epoch in range(1, 40):
        after = changed(ids, 7, epoch)
        left = words_of(tokenizer, after)
        assert len(after) == len(ids)
        assert after[0] == ids[0]
        assert after[-1] == ids[-1]
        assert [word for word in words if word in left] == left, "whole words, in their order"
        masked = after == tokenizer.blank_id
        np.testing.assert_array_equal(after[~masked], ids[~masked])
        seen |= set(words) - set(left)
    assert seen == {"Bankanın", "kârı", "arttı", "ihracat", "gelirler", "Borsadaki", "yükseliş", "puan", "sürüyor"}


def test_exchanged_words_are_neighbours_and_none_is_lost(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode([TEXT], 256, 0.75).ids
    changed = Augmentation(vocabulary_of(tokenizer), Recipe(word_swap=0.5))
    texts = {tuple(words_of(tokenizer, changed(ids, 7, epoch))) for epoch in range(1, 60)}
    words = words_of(tokenizer, ids)
    assert len(texts) > 3
    for text in texts:
        assert sorted(text) == sorted(words)
        for place, word in enumerate(text):
            assert word in words[max(0, place - 1) : place + 2]
            assert word == words[place] or is_plain(word)
        assert text.index("değil") == words.index("değil")
    np.testing.assert_array_equal(np.sort(changed(ids, 7, 3)), np.sort(ids))


@given(some.lists(some.tuples(some.booleans(), some.booleans()), max_size=30))
def test_exchange_moves_plain_words_by_one_place(words: list[tuple[bool, bool]]) -> None:
    plain, chosen = (np.array(side, bool) for side in zip(*words, strict=True)) if words else (np.zeros(0, bool),) * 2
    order = exchange(plain, chosen)
    assert sorted(order) == list(range(len(words)))
    for place, word in enumerate(order):
        assert abs(place - word) <= 1
        assert place == word or (plain[word] and plain[place])
    if plain.all() and chosen.all() and len(words) > 1:
        assert order[:2] == [1, 0]


def test_augmentation_depends_on_seed_epoch_and_document_only(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode([TEXT], 256, 0.75).ids

    def drawn(seed: int, number: int, epoch: int) -> tuple[int, ...]:
        recipe = Recipe(seed=seed, word_dropout=0.3, word_swap=0.3)
        return tuple(Augmentation(vocabulary_of(tokenizer), recipe)(ids, number, epoch).tolist())

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert len({drawn(1, 2, 3), drawn(2, 2, 3), drawn(1, 3, 3), drawn(1, 2, 4)}) == 4
    assert augmentation(lambda: vocabulary_of(tokenizer), Recipe()) is None


def test_shares_are_those_of_the_recipe(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode(["puan " * 100], 512, 0.75).ids
    changed = Augmentation(vocabulary_of(tokenizer), Recipe(word_dropout=0.2))
    count = np.mean([(changed(ids, 0, epoch) == tokenizer.blank_id).sum() / 400 for epoch in range(1, 41)])
    assert len(ids) == 2 + 400
    assert count == pytest.approx(0.2, abs=0.02)


def test_other_kinds_of_tokenizer_tell_their_words() -> None:
    """Byte-level BPE marks what begins a word: its vocabulary is read by that sign."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.decoders import ByteLevel

    pieces = {"[MASK]": 0, "Ġarttı": 1, "Ġban": 2, "ka": 3, "ban": 4}
    library = Tokenizer(models.BPE(pieces, []))
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), ByteLevel()
    library.add_special_tokens(["[MASK]"])
    own = TextTokenizer.__new__(TextTokenizer)
    own.roles, own._plain = {"mask_token": "[MASK]"}, library
    begins, special = own.beginnings()
    assert begins.tolist() == [False, True, True, False, False]
    assert special.tolist() == [True, False, False, False, False]
    assert own.blank_id == 0


# ---- rates, frozen and fresh layers ----

LAYERED = [
    "bert.embeddings.word_embeddings.weight",
    "bert.embeddings.LayerNorm.weight",
    "bert.encoder.layer.0.output.dense.weight",
    "bert.encoder.layer.10.output.dense.bias",
    "bert.encoder.layer.11.attention.self.query.weight",
    "bert.pooler.dense.weight",
    "classifier.bias",
]


def test_blocks_of_several_families() -> None:
    assert list(blocks_of(LAYERED).values()) == [0, 0, 1, 11, 12, 13, 13]
    modern = ["model.embeddings.tok_embeddings.weight", "model.layers.0.attn.Wqkv.weight", "model.final_norm.weight"]
    assert list(blocks_of([*modern, "head.dense.weight"]).values()) == [0, 1, 2, 2]
    llama = ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight", "score.weight"]
    assert list(blocks_of(llama).values()) == [0, 2, 3, 3]


def test_rates_fall_from_the_top_layer_down() -> None:
    rules = parameter_rules(LAYERED, Recipe(layer_decay=0.9))
    scales = [rule.scale for rule in rules.values()]
    assert scales == pytest.approx([0.9**12, 0.9**12, 0.9**11, 0.9, 1, 1, 1])
    assert [rule.trainable for rule in parameter_rules(LAYERED, Recipe(frozen=2)).values()] == [False] * 3 + [True] * 4
    frozen = [rule.trainable for rule in parameter_rules(LAYERED, Recipe(frozen=99)).values()]
    assert frozen == [False] * 5 + [True] * 2, "the head always learns"


def test_fresh_layers_take_what_follows_them_along() -> None:
    assert fresh_names(LAYERED, Recipe()) == ()
    assert fresh_names(LAYERED, Recipe(fresh_layers=1)) == tuple(LAYERED[4:])
    assert fresh_names(LAYERED, Recipe(fresh_layers=2)) == tuple(LAYERED[3:])
    assert fresh_names(LAYERED, Recipe(fresh_layers=99)) == tuple(LAYERED[2:])


def test_a_young_average_forgets_faster() -> None:
    rates = [average_rate(Recipe(ema=0.99), step) for step in (1, 10, 100, 10_000)]
    assert rates == pytest.approx([9 / 11, 9 / 20, 9 / 110, 0.01])


@pytest.fixture(scope="module")
def model(minilm: Path) -> Model:
    return open_model(str(minilm), ["down", "up"], 13, list)


def test_fresh_layers_of_a_checkpoint_are_drawn_from_the_seed(model: Model) -> None:
    names = fresh_names(model.tensors, Recipe(fresh_layers=2))
    found = first_tensors(model, Recipe(fresh_layers=2, seed=13))
    assert list(found) == list(model.tensors)
    for name in ("bert.encoder.layer.3.output.dense.weight", "bert.embeddings.word_embeddings.weight"):
        np.testing.assert_array_equal(found[name], model.tensors[name])
    fresh = found["bert.encoder.layer.4.output.dense.weight"]
    assert fresh.std() == pytest.approx(0.02, rel=0.01)
    assert all((found[name] == 1).all() for name in names if name.endswith("LayerNorm.weight"))
    assert all((found[name] == 0).all() for name in names if name.endswith(".bias"))
    assert len(names) == 2 * 16 + 4
    other = first_tensors(model, Recipe(fresh_layers=2, seed=14))
    assert np.abs(other["classifier.weight"] - found["classifier.weight"]).max() > 0.01


def test_without_a_remedy_a_run_starts_from_the_models_tensors(model: Model) -> None:
    assert weights_digest(first_tensors(model, Recipe(seed=13)).items()) == weights_digest(model.tensors.items())


# ---- runs ----

ALL = Recipe(
    epochs=3, lr=1e-3, batch=16, microbatch=6, length=24, precision="fp32", checkpoint_steps=2,
    class_weights="balanced", label_smoothing=0.1, r_drop=1.0, word_dropout=0.1, word_swap=0.1, layer_decay=0.9,
    frozen=1, fresh_layers=1, ema=0.9,
)  # fmt: skip


def job_of(texts: Path, out: Path, engine: EngineName, recipe: Recipe) -> Job:
    return Job(str(texts), "tiny", engine, recipe, out, threads=1)


@pytest.mark.parametrize("engine", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_a_run_with_every_remedy_resumes_to_the_bit(
    texts: Path, tmp_path: Path, engine: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(engine)
    monkeypatch.setattr(plan, "TRAINING_SHAPES", 1)  # each is a compilation
    undisturbed, stopped = (job_of(texts, tmp_path / name, engine, ALL) for name in ("undisturbed", "stopped"))
    metrics = train(undisturbed, SILENT)
    stop_at(stopped, 5)
    found = train(replace(stopped, resume=True), SILENT)
    assert_equal_ends(undisturbed.out, stopped.out)
    assert {**found, "time": 0, "memory": 0} == {**metrics, "time": 0, "memory": 0}


def test_what_is_kept_is_what_was_scored(texts: Path, tmp_path: Path) -> None:
    """With averages, the best epoch read back scores as it did when it was evaluated."""
    recipe = replace(ALL, epochs=6, lr=3e-3)
    metrics: dict[str, Any] = train(job_of(texts, tmp_path / "run", "torch", recipe), SILENT)
    kept = metrics["kept_epoch"]
    assert metrics["validation"] == metrics["epochs"][kept]["validation"]


def test_patience_ends_a_run_that_gets_no_better(texts: Path, tmp_path: Path) -> None:
    recipe = Recipe(epochs=30, lr=1e-9, length=16, precision="fp32", patience=2, restarts=0)
    metrics: dict[str, Any] = train(job_of(texts, tmp_path / "run", "torch", recipe), SILENT)
    epochs = [epoch["epoch"] for epoch in metrics["epochs"]]
    best = metrics["kept_epoch"]
    assert epochs[-1] < 30
    assert epochs[-1] >= 3 + 1 + recipe.patience, "epochs of the warm-up do not count"
    ranks = [(e["validation"]["macro_f1"], -e["validation"]["loss"]) for e in metrics["epochs"]]
    assert all(rank <= max(ranks[1:-2]) for rank in ranks[-2:])
    assert best <= epochs[-1] - recipe.patience
    assert metrics["collapsed"], "an early end is judged as an end"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fresh_layers": 3}, "fresh_layers = 3, but the model has 2 layers"),
        ({"frozen": 4, "fresh_layers": 0}, "the embeddings and 2 layers"),
        ({"frozen": 2, "fresh_layers": 2}, "the embeddings and 0 layers, below 2 fresh ones"),
        ({"class_weights": "1,2,3"}, "3 numbers, but there are 2 labels: fall, rise"),
    ],
)
def test_what_the_model_or_the_labels_do_not_have_is_told(
    texts: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(RecipeError, match=told):
        train(job_of(texts, tmp_path / "run", "torch", replace(ALL, **change)), SILENT)
