"""Axes: round ticks, every number within, numbers and places there and back."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as some

from duygu.verdict.page.scales import axis, step_of, within

NUMBERS = some.lists(some.floats(-1e6, 1e6).map(lambda value: round(value, 6)), min_size=1, max_size=9)


@given(NUMBERS, some.booleans())
def test_an_axis_holds_its_numbers_between_its_outer_ticks(values: list[float], whole: bool) -> None:
    shown = axis(values, 10, 500, whole=whole)
    assert 2 <= len(shown.ticks) <= 8
    assert shown.low <= min(values) + 1e-6 * (shown.high - shown.low)
    assert max(values) <= shown.high + 1e-6 * (shown.high - shown.low)
    assert (shown.low, shown.high) == (shown.ticks[0], shown.ticks[-1])
    assert all(9.9 <= shown.at(value) <= 500.1 for value in values)
    assert not whole or all(tick == round(tick) for tick in shown.ticks)


@given(some.floats(1e-6, 1e6), some.integers(2, 10))
def test_steps_are_one_two_or_five(span: float, count: int) -> None:
    step = step_of(span, count)
    digit = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(digit - wanted) for wanted in (1, 2, 5)) < 1e-6
    assert count / 2.6 <= span / step <= count * (1 + 1e-6)


def test_ticks_are_those_that_people_would_draw() -> None:
    assert axis([0.42, 0.91], 0, 1).ticks == (0.4, 0.5, 0.6000000000000001, 0.7000000000000001, 0.8, 0.9, 1.0)
    assert within(axis([1, 250], 0, 1, whole=True), 1, 250).ticks == (50, 100, 150, 200, 250)
    assert axis([0, 3], 0, 1, whole=True).ticks == (0, 1, 2, 3)
    assert axis([5, 5], 0, 1, whole=True).ticks == (4, 5, 6)
    assert axis([0.42, 0.91], 0, 1).decimals == 1
    assert axis([0.001, 0.0042], 0, 1).decimals == 3
