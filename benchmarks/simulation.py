"""Simulation with known truth: how often the verdict of `duygu compare` errs, finds, and covers.

Two engines answer n documents from K seeds each. A document is as hard for both (u) and harder for one than for the
other (w); a seed is good or bad as a whole (b) and lucky or not on each document (e): an answer is right where
mu + u + w + b + e > 0, all normal. mu gives each engine its true accuracy over documents and seeds, b the standard
deviation between seeds. Copies share all but mu and b, so they are answered alike. Seeds and luck correlate between
engines as asked. The verdict itself is the product's: `duygu.verdict.resampling` and `duygu.verdict.stats`.

    python benchmarks/simulation.py --comparisons 2000 --documents 342,1707 --seeds 5,10 --sd 1.5
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import norm

from duygu.verdict.conclusion import accuracy_interval
from duygu.verdict.resampling import measure, measure_accuracy, tallies
from duygu.verdict.stats import ALPHA, MARGIN, Estimate

Doubles = NDArray[np.float64]

ACCURACY = 0.88  # mean of the two engines
SHARED, OWN = 2.5, 0.5  # standard deviations of u and w; that of e is 1
COPIES = (0.8, 0.1, 0.06, 0.04)  # shares of groups with 1, 2, 3 and 4 documents, where there are copies
LARGE = 0.08  # a true difference that has to be found
GRID = np.linspace(-6, 6, 2001)


@dataclass(frozen=True, slots=True)
class Setting:
    """One world."""

    documents: int
    seeds: int
    copies: bool
    correlation: float  # of seeds and luck between the engines
    sd: float  # of accuracy between seeds, as a share


@dataclass(frozen=True, slots=True)
class Rates:
    """What became of the comparisons of one setting, as shares."""

    false_different: float  # where the engines are equal
    found: float  # of the large difference
    coverage: float  # of the 95 % intervals of all three true differences
    one_engine: float  # of the 95 % intervals of an engine's own accuracy
    false_equivalent: float  # where the true difference is the margin
    equivalent: float  # where the engines are equal


def simulate(setting: Setting, comparisons: int, seed: int) -> Rates:
    """The rates of ``comparisons`` at each of three true differences: none, the margin, the large one."""
    random = np.random.default_rng(seed)
    found: dict[float, list[Estimate]] = {0.0: [], MARGIN: [], LARGE: []}
    covered: list[bool] = []
    levels = {true: engine_levels(true, setting.sd) for true in found}
    for _ in range(comparisons):
        draw = draw_world(setting, random)
        for true, estimates in found.items():
            right, sizes = answer(draw, levels[true])
            measured = measure_accuracy(right.reshape(len(sizes), -1), sizes)
            places = range(setting.seeds)
            estimates.append(measured.components(places, [place + setting.seeds for place in places]).estimate())
            if true == 0.0:
                low, high = accuracy_interval(measured.components(places))
                covered.append(low <= ACCURACY <= high)
    return Rates(
        false_different=share(found[0.0], lambda e: e.p < ALPHA),
        found=share(found[LARGE], lambda e: e.p < ALPHA and e.value > 0),
        coverage=float(np.mean([share(estimates, covers(true)) for true, estimates in found.items()])),
        one_engine=float(np.mean(covered)),
        false_equivalent=share(found[MARGIN], lambda e: e.equivalence() < ALPHA),
        equivalent=share(found[0.0], lambda e: e.equivalence() < ALPHA),
    )


def simulate_scores(setting: Setting, comparisons: int, draws: int, seed: int) -> dict[str, float]:
    """How often equal engines are called different by each score, macro-F1 and MCC with a bootstrap of ``draws``."""
    random = np.random.default_rng(seed)
    levels = engine_levels(0.0, setting.sd)
    wrong: dict[str, list[bool]] = {}
    for _ in range(comparisons):
        draw = draw_world(setting, random)
        groups = np.repeat(np.arange(len(draw.sizes)), draw.sizes)
        labels = random.integers(0, 2, len(draw.sizes))[groups]
        right = (latent(draw, levels) > 0)[groups].reshape(len(groups), -1).T
        predicted = np.where(right, labels, 1 - labels)
        places = range(setting.seeds)
        for name, measured in measure(tallies(labels, predicted, groups, 2), draws).items():
            estimate = measured.components(places, [place + setting.seeds for place in places]).estimate()
            wrong.setdefault(name, []).append(estimate.p < ALPHA)
    return {name: float(np.mean(found)) for name, found in wrong.items()}


@dataclass(frozen=True, slots=True)
class World:
    """Everything that chance decides, G groups, 2 engines, K seeds."""

    sizes: NDArray[np.int64]  # (G,)
    hardness: Doubles  # (G, 2): u + w
    seeds: Doubles  # (2, K): b, of variance 1
    luck: Doubles  # (G, 2, K): e


def draw_world(setting: Setting, random: np.random.Generator) -> World:
    """One draw of documents and seeds."""
    sizes = group_sizes(setting, random)
    groups, shape = len(sizes), (2, setting.seeds)
    hardness = SHARED * random.standard_normal((groups, 1)) + OWN * random.standard_normal((groups, 2))
    luck = correlated(random.standard_normal((groups, *shape), dtype=np.float32), setting.correlation)
    return World(sizes, hardness, correlated(random.standard_normal(shape), setting.correlation), luck)


def group_sizes(setting: Setting, random: np.random.Generator) -> NDArray[np.int64]:
    """(G,) sizes that make the documents."""
    if not setting.copies:
        return np.ones(setting.documents, np.int64)
    sizes = random.choice(np.arange(1, 5), size=setting.documents, p=COPIES)
    groups = int(np.searchsorted(np.cumsum(sizes), setting.documents)) + 1
    sizes = sizes[:groups]
    sizes[-1] -= sizes.sum() - setting.documents
    return sizes


def correlated(values: Doubles, correlation: float) -> Doubles:
    """Standard normal values (..., 2, K) of which those of the second engine correlate with the first's."""
    first, second = values[..., :1, :], values[..., 1:, :]
    return np.concatenate([first, correlation * first + (1 - correlation**2) ** 0.5 * second], axis=-2)


def engine_levels(true: float, sd: float) -> Doubles:
    """(2, 2) mu and the standard deviation of b for each engine, whose true accuracies differ by ``true``."""
    return np.array([level(ACCURACY + true / 2, sd), level(ACCURACY - true / 2, sd)])


def level(accuracy: float, sd: float) -> tuple[float, float]:
    """mu and the standard deviation of b that give this mean accuracy and this standard deviation between seeds."""
    within = SHARED**2 + OWN**2 + 1
    weights = norm.pdf(GRID) / norm.pdf(GRID).sum()
    low, high = 0.0, 3.0
    for _ in range(60):
        between = (low + high) / 2
        mu = float(ndtri(accuracy)) * (within + between**2) ** 0.5
        accuracies = ndtr((mu + between * GRID) / within**0.5)
        spread = float(np.sqrt(weights @ accuracies**2 - (weights @ accuracies) ** 2))
        low, high = (between, high) if spread < sd else (low, between)
    return mu, between


def latent(draw: World, levels: Doubles) -> Doubles:
    """(G, 2, K): above 0 is right."""
    return levels[:, :1] + draw.hardness[:, :, None] + levels[:, 1:] * draw.seeds + draw.luck


def answer(draw: World, levels: Doubles) -> tuple[Doubles, Doubles]:
    """Right answers of every group (G, 2, K) and its size (G,)."""
    sizes = draw.sizes.astype(np.float64)
    return (latent(draw, levels) > 0) * sizes[:, None, None], sizes


def covers(true: float) -> Callable[[Estimate], bool]:
    """Whether the 95 % interval holds the truth."""
    return lambda estimate: estimate.interval()[0] <= true <= estimate.interval()[1]


def share(estimates: Sequence[Estimate], holds: Callable[[Estimate], bool]) -> float:
    """Of the estimates for which it holds."""
    return sum(map(holds, estimates)) / len(estimates)


def settings(documents: Sequence[int], seeds: Sequence[int], sd: float) -> Iterator[Setting]:
    """Every combination."""
    for n, k, copies, correlation in itertools.product(documents, seeds, (False, True), (0.0, 0.9)):
        yield Setting(n, k, copies, correlation, sd)


HEAD = (
    "documents", "seeds", "copies", "correlation", "equal: different", "8 points: found", "coverage",
    "coverage, one engine", "1.5 points: equivalent", "equal: equivalent",
)  # fmt: skip


def cells(setting: Setting, rates: Rates) -> list[str]:
    """A row of the table."""
    shares = (
        rates.false_different, rates.found, rates.coverage, rates.one_engine, rates.false_equivalent, rates.equivalent,
    )  # fmt: skip
    world = f"{setting.documents:,}", str(setting.seeds), "yes" if setting.copies else "no", f"{setting.correlation:g}"
    return [*world, *(f"{100 * value:.1f} %" for value in shares)]


def line(row: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(row)} |"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers: Callable[[str], list[int]] = lambda text: [int(number) for number in text.split(",")]  # noqa: E731
    parser.add_argument("--comparisons", type=int, default=2000, help="of every setting")
    parser.add_argument("--documents", type=numbers, default=[342, 1707], help="as in 342,1707")
    parser.add_argument("--seeds", type=numbers, default=[5, 10], help="as in 5,10")
    parser.add_argument("--sd", type=float, default=1.5, help="of accuracy between seeds, in points")
    parser.add_argument("--scores", type=int, default=0, help="comparisons of macro-F1 and MCC by bootstrap")
    parser.add_argument("--draws", type=int, default=500, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Print the tables."""
    asked = arguments()
    print(line(HEAD), line(["---:"] * len(HEAD)), sep="\n")
    for setting in settings(asked.documents, asked.seeds, asked.sd / 100):
        print(line(cells(setting, simulate(setting, asked.comparisons, asked.seed))), flush=True)
    if not asked.scores:
        return
    print("", line(["documents", "seeds", "copies", "correlation", "accuracy", "macro-F1", "MCC"]), line(["---:"] * 7),
          sep="\n")  # fmt: skip
    for setting in settings(asked.documents[:1], asked.seeds[:1], asked.sd / 100):
        found = simulate_scores(setting, asked.scores, asked.draws, asked.seed)
        world = cells(setting, Rates(*[0.0] * 6))[:4]
        print(line([*world, *(f"{100 * value:.1f} %" for value in found.values())]), flush=True)


if __name__ == "__main__":
    main()
