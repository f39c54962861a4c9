"""From numbers to places on a figure, and which numbers an axis names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

STEPS = (1, 2, 5, 10)  # times a power of ten: distances between named numbers that people read at a glance


@dataclass(frozen=True, slots=True)
class Axis:
    """Numbers from ``low`` to ``high`` along a line from ``start`` to ``end``; ``ticks`` are named."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Where a number lies."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def decimals(self) -> int:
        """How many its ticks need."""
        return max(0, -math.floor(math.log10(self.ticks[1] - self.ticks[0]) + 1e-9))


def axis(values: Iterable[float], start: float, end: float, count: int = 5, whole: bool = False) -> Axis:
    """An axis for ``values`` with about ``count`` ticks, which also are its ends; ``whole`` numbers where asked."""
    found = list(values)
    low, high = min(found), max(found)
    if high - low <= 1e-12 * max(abs(low), abs(high)):  # one number only: it stands in the middle
        room = 1.0 if whole else abs(low) / 2 or 1.0
        low, high = low - room, high + room
    step = step_of(high - low, count)
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(number * step for number in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], start, end, ticks)


def within(shown: Axis, low: float, high: float) -> Axis:
    """The same axis cut to ``low`` and ``high``, which are no ticks themselves unless they were."""
    ticks = tuple(tick for tick in shown.ticks if low - 1e-9 <= tick <= high + 1e-9)
    return Axis(low, high, shown.start, shown.end, ticks) if len(ticks) > 1 and high > low else shown


def step_of(span: float, count: int) -> float:
    """1, 2 or 5 times a power of ten, so that ``span`` has about ``count`` steps or a few fewer."""
    power = 10.0 ** math.floor(math.log10(span / count))
    return next(step * power for step in STEPS if step * power >= span / count * (1 - 1e-9))
