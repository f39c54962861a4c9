"""What duygu means to reach, as data: each bar is a ratio against a rival of the same run, or a figure of its own.

A ratio is taken round by round, so that the drift of the machine falls out, and then the median. "Torch engine" is the
precision that suits the processor; where a bar names two rivals, the better one of the round counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Answer = Mapping[str, Any]
Rounds = Mapping[str, Mapping[int, Answer]]  # of one part: by contender, by round
Rule = Literal["at least", "under"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise; without rivals the figure itself is held against the limit."""

    part: str
    title: str
    measure: str  # a name of `MEASURES`
    ours: str
    rivals: tuple[str, ...]
    rule: Rule
    limit: float
    unit: str = ""
    rounds: Literal["all", "first", "later"] = "all"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A bar and the values of its rounds; none where something that it needs was not measured."""

    bar: Bar
    values: tuple[float, ...]

    @property
    def value(self) -> float | None:
        """The median."""
        return statistics.median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None where it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.bar.limit if self.bar.rule == "at least" else self.value < self.bar.limit


def rate(answer: Answer) -> float | None:
    """Documents per second, once warm."""
    return sum(answer["documents"]) / sum(answer["seconds"])


def compile_seconds(answer: Answer) -> float | None:
    """What the warm steps took beyond warm time; the first counts in full, others where they clearly compiled too."""
    if "warm_s" not in answer:
        return None
    per_token = sum(answer["seconds"]) / sum(answer["computed"])
    expected = [per_token * tokens for tokens in answer["warm_computed"]]
    beyond = [took - usual for took, usual in zip(answer["warm_s"], expected, strict=True)]
    late = sum(more for more, usual in zip(beyond[1:], expected[1:], strict=True) if more > usual / 4)
    return max(0.0, beyond[0] + late)


def compile_per_shape(answer: Answer) -> float | None:
    """`compile_seconds` for each shape that was compiled."""
    seconds = compile_seconds(answer)
    return None if seconds is None or not answer["shapes"] else seconds / answer["shapes"]


def real_share(answer: Answer) -> float | None:
    """Real tokens over those that the linear layers compute."""
    return sum(answer["tokens"]) / sum(answer["computed"]) if "computed" in answer else None


def peak(answer: Answer) -> float | None:
    """Peak resident bytes."""
    return answer["peak_bytes"]


MEASURES: Mapping[str, Callable[[Answer], float | None]] = {
    "rate": rate,
    "compile_per_shape": compile_per_shape,
    "real_share": real_share,
    "peak": peak,
}
SMALLER_IS_BETTER = {"peak", "compile_per_shape"}

BARS: tuple[Bar, ...] = (
    Bar("W1", "torch / Trainer as reported", "rate", "duygu-torch", ("trainer-report",), "at least", 3.0, "x"),
    Bar("W1", "torch / Trainer at its best", "rate", "duygu-torch", ("trainer-best",), "at least", 1.25, "x"),
    Bar("W1", "JAX / faster of Flax, KerasHub", "rate", "duygu-jax", ("flax", "kerashub-jax"), "at least", 1.8, "x"),
    Bar("W1", "the same, JAX in fp32", "rate", "duygu-jax-fp32", ("flax", "kerashub-jax"), "at least", 1.8, "x"),
    Bar("W1", "JAX compile a shape, cold", "compile_per_shape", "duygu-jax", (), "under", 4.0, "s", "first"),
    Bar("W1", "JAX compile a shape, warm", "compile_per_shape", "duygu-jax", (), "under", 1.0, "s", "later"),
    Bar("W1", "torch real / computed tokens", "real_share", "duygu-torch", (), "at least", 0.93),
    Bar("W1", "JAX real / computed tokens", "real_share", "duygu-jax", (), "at least", 0.93),
    Bar("W1", "torch memory / Trainer best", "peak", "duygu-torch", ("trainer-best",), "under", 0.8, "x"),
    Bar("W1", "JAX memory / Flax", "peak", "duygu-jax", ("flax",), "under", 0.8, "x"),
    Bar("W2", "torch / pipeline at its best", "rate", "duygu-torch", ("pipeline-best",), "at least", 1.05, "x"),
    Bar("W2", "JAX / pipeline sorted, fp32", "rate", "duygu-jax", ("pipeline-sorted",), "at least", 1.2, "x"),
    Bar("W2", "the same, JAX in fp32", "rate", "duygu-jax-fp32", ("pipeline-sorted",), "at least", 1.2, "x"),
    Bar("W4", "duygu / faster of tokenizers", "rate", "duygu", ("tokenizers", "tokenizers-fast"), "at least", 0.9, "x"),
)


def judge(bars: Sequence[Bar], parts: Mapping[str, Rounds]) -> list[Outcome]:
    """Every bar of the parts that were measured."""
    return [Outcome(bar, tuple(_values(bar, parts[bar.part]))) for bar in bars if bar.part in parts]


def ratios(rounds: Rounds, ours: str, rival: str) -> list[float]:
    """How many times as fast ``ours`` is, in each round that has both."""
    bar = Bar("", "", "rate", ours, (rival,), "at least", 0.0)
    return _values(bar, rounds)


def _values(bar: Bar, rounds: Rounds) -> list[float]:
    found: list[float] = []
    for number, answer in sorted(rounds.get(bar.ours, {}).items()):
        if (number > 0 and bar.rounds == "first") or (number == 0 and bar.rounds == "later"):
            continue
        own = MEASURES[bar.measure](answer)
        rival = _best_rival(bar, rounds, number)
        if own is not None and rival:
            found.append(own / rival)
    return found


def _best_rival(bar: Bar, rounds: Rounds, number: int) -> float | None:
    """The better of the bar's rivals in a round, 1 where it has none; every rival must have been measured."""
    if not bar.rivals:
        return 1.0
    values = [MEASURES[bar.measure](rounds[rival][number]) for rival in bar.rivals if number in rounds.get(rival, {})]
    known = [value for value in values if value is not None]
    if len(known) < len(bar.rivals):
        return None
    return min(known) if bar.measure in SMALLER_IS_BETTER else max(known)
