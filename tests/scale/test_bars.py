"""Bars and ratios, against answers made by hand."""

from __future__ import annotations

import pytest

from duygu.scale.bars import BARS, Bar, compile_per_shape, compile_seconds, judge, rate, ratios, real_share
from duygu.scale.roster import ROSTER


def answer(seconds: float, documents: int = 16, **more: object) -> dict[str, object]:
    return {"seconds": [seconds / 2, seconds / 2], "documents": [documents // 2] * 2, "peak_bytes": 100, **more}


def test_rate_is_documents_over_all_seconds() -> None:
    assert rate({"seconds": [1.0, 3.0], "documents": [16, 16]}) == 8.0


def test_ratios_are_taken_round_by_round_where_both_were_measured() -> None:
    rounds = {"a": {0: answer(2), 1: answer(8), 2: answer(1)}, "b": {0: answer(4), 1: answer(8)}}
    assert ratios(rounds, "a", "b") == [2.0, 1.0]
    assert ratios(rounds, "a", "c") == []


def test_a_bar_holds_the_median_against_its_limit() -> None:
    bar = Bar("W1", "a / b", "rate", "a", ("b",), "at least", 2.0)
    rounds = {"a": {n: answer(1) for n in range(3)}, "b": {0: answer(1), 1: answer(2), 2: answer(9)}}
    (outcome,) = judge([bar], {"W1": rounds})
    assert (outcome.values, outcome.value, outcome.met) == ((1.0, 2.0, 9.0), 2.0, True)
    rounds["b"][1] = answer(1.99)
    assert judge([bar], {"W1": rounds})[0].met is False


@pytest.mark.parametrize(("measure", "value"), [("rate", 0.5), ("peak", 2.0)])
def test_of_two_rivals_the_better_one_counts(measure: str, value: float) -> None:
    bar = Bar("W1", "", measure, "a", ("b", "c"), "at least", 1.0)
    slow, fast = {**answer(4), "peak_bytes": 50}, {**answer(1), "peak_bytes": 80}
    rounds = {"a": {0: answer(2)}, "b": {0: slow}, "c": {0: fast}}
    assert judge([bar], {"W1": rounds})[0].value == value


def test_a_bar_without_its_rival_is_neither_met_nor_missed() -> None:
    bar = Bar("W1", "", "rate", "a", ("b", "c"), "at least", 1.0)
    (outcome,) = judge([bar], {"W1": {"a": {0: answer(1)}, "b": {0: answer(1)}}})
    assert (outcome.value, outcome.met) == (None, None)
    assert judge([bar], {"W2": {}}) == []


def test_compile_time_is_what_the_warm_steps_take_beyond_warm_time() -> None:
    """Tokens cost .1 s each when warm; the second warm step is only noisy, the third compiled again."""
    found = answer(2, tokens=[9, 9], computed=[10, 10], warm_s=[6.0, 2.1, 5.0], warm_computed=[10, 20, 20], shapes=3)
    assert compile_seconds(found) == pytest.approx(5.0 + 3.0)
    assert compile_per_shape(found) == pytest.approx(8.0 / 3)
    assert real_share(found) == 0.9
    assert compile_seconds(answer(2)) is None


def test_cold_and_warm_compile_times_are_of_the_first_and_the_later_rounds() -> None:
    def compiled(seconds: float) -> dict[str, object]:
        return answer(2, tokens=[9], computed=[20], warm_s=[seconds], warm_computed=[10], shapes=1)

    rounds = {"duygu-jax": {0: compiled(11.0), 1: compiled(1.5), 2: compiled(1.7)}}
    found = {one.bar.title: one.values for one in judge(BARS, {"W1": rounds}) if one.bar.measure == "compile_per_shape"}
    assert found["JAX compile a shape, cold"] == pytest.approx((10.0,))
    assert found["JAX compile a shape, warm"] == pytest.approx((0.5, 0.7))


def test_every_bar_names_contenders_that_there_are() -> None:
    tasks = {"W1": "train", "W2": "score", "W4": "tokens"}
    known = {(contender.name, contender.task) for contender in ROSTER}
    for bar in BARS:
        assert {(name, tasks[bar.part]) for name in (bar.ours, *bar.rivals)} <= known
