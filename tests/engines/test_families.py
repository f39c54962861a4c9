"""Every family in both engines, against transformers and against each other."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from duygu.engines import ENGINES, Engine, open_engine
from duygu.engines.jax import blocks, llama, modernbert
from tests.engines import families
from tests.engines.families import CASES

NEW = [case for case in CASES if case != "bert"]  # the other tests of this folder are of BERT
LIKE_OTHERS = {"electra", "roberta", "llama, plain"}  # nothing in them that another case does not have too
by_case = pytest.mark.parametrize("case", NEW)
KINDS = [case for case in NEW if case not in LIKE_OTHERS]
LONG = ("distilbert", "modernbert, mean", "qwen2")  # whose training is another's but for names, pooling or biases
by_kind = pytest.mark.parametrize("case", KINDS)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX attends block by block on a CPU: documents of one block and of several, windows that leave blocks out."""
    monkeypatch.setattr(blocks, "BLOCK", 16)


@by_case
def test_logits_match_transformers(engine: Engine, case: str) -> None:
    found = families.logits(engine, case)
    assert np.abs(families.oracle_logits(case)).max() > 0.5, "logits of order 1, or the comparison proves nothing"
    np.testing.assert_allclose(found, families.oracle_logits(case), atol=1e-5, rtol=0)
    np.testing.assert_allclose(found, families.oracle_logits(case, padded=True), atol=1e-5, rtol=0)


@by_kind
def test_gradients_match_transformers(engine: Engine, case: str) -> None:
    assert families.gradient_error(engine, case) < 1e-4


@pytest.mark.parametrize(("case", "wrong"), [(case, wrong) for case in NEW for wrong in families.wrong_variants(case)])
def test_known_mistakes_are_seen(case: str, wrong: str) -> None:
    """In one engine: it is the tolerance of the tests above that is tested."""
    found = families.logits_of_variant(open_engine("torch"), case, families.wrong_variants(case)[wrong])
    assert np.abs(found - families.oracle_logits(case)).max() > 1e-4


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in LONG else case for case in KINDS]
)
def test_trajectories_agree_with_dropout_on(case: str) -> None:
    (losses, weights), (others, other_weights) = (families.trajectory(open_engine(name), case) for name in ENGINES)
    assert losses[-10:].mean() < 0.9 * losses[:10].mean(), "it learns"
    np.testing.assert_allclose(others, losses, rtol=1e-4, atol=1e-5)
    assert families.apart(case, weights, other_weights) < 1e-3


@by_kind
def test_models_go_through_an_engine_to_the_bit(engine: Engine, case: str, tmp_path: Path) -> None:
    assert families.round_trip(engine, case, tmp_path)


def test_padding_on_either_side_gives_what_packed_documents_do(engine: Engine) -> None:
    """transformers numbers padding on the left too; only distances turn features, so that moves no answer."""
    found = families.logits(engine, "llama")
    for side in ("left", "right"):
        expected = families.oracle_logits("llama", padded=True, side=side)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("module", "case"), [(modernbert, "modernbert, mean"), (llama, "llama")])
def test_attention_at_once_matches_transformers_too(
    module: ModuleType, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As JAX attends on a GPU: to all documents of a group at once, far or later tokens masked."""
    monkeypatch.setattr(module, "in_blocks", lambda: False)
    found = families.logits(open_engine("jax"), case)
    np.testing.assert_allclose(found, families.oracle_logits(case), atol=1e-5, rtol=0)
    assert families.gradient_error(open_engine("jax"), case) < 1e-4
