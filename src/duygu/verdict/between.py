"""The models of a comparison against each other, and the verdict on models and engines together.

Two models are compared by the mean of the engines that both ran in, seed by seed: engines are twins, so the runs of
one seed in two engines are nearly one run, and counting them as two seeds would make every interval too narrow. The
seed stays what is drawn (docs/statistics.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from duygu.verdict.conclusion import DIFFERENT, EQUIVALENT, UNDECIDED, Contrast, Sides, contrast, measured_runs
from duygu.verdict.pooling import Pooled
from duygu.verdict.resampling import Measured
from duygu.verdict.runs import engine_title
from duygu.verdict.stats import MARGIN
from duygu.verdict.tables import points

ONE_SEED_OF_ALL = "With one seed each, this compares trained models, not frameworks and not what the models began as."


def model_contrasts(pooled: Sequence[Pooled], margin: float = MARGIN) -> list[Contrast]:
    """Every pair of models that share a seed in all the engines that both ran in, uncorrected."""
    measured = measured_runs(pooled)
    pairs = combinations(dict.fromkeys(one.model for one in pooled), 2)
    return [pair for a, b in pairs if (pair := _pair(a, b, pooled, measured, margin))]


def cross_verdict(engines: Sequence[tuple[str, Contrast]], models: Sequence[Contrast], margin: float) -> str:
    """First the engines over all models, then the models: who is better than whom, and what stays open."""
    single = all(len(pair.seeds) == 1 for pair in (*models, *(pair for _, pair in engines)))
    found = f"{_of_engines(engines, margin)} {_of_models(models, margin)}"
    return f"{found} {ONE_SEED_OF_ALL}" if single and (engines or models) else found


def _pair(a: str, b: str, pooled: Sequence[Pooled], measured: Mapping[str, Measured], margin: float) -> Contrast | None:
    """One model against another; None where they have no engine with a seed in common."""
    places = {(one.model, one.engine, one.seed): place for place, one in enumerate(pooled)}
    of_a, of_b = (dict.fromkeys(one.engine for one in pooled if one.model == model) for model in (a, b))
    engines = tuple(engine for engine in of_a if engine in of_b)
    seeds = dict.fromkeys(one.seed for one in pooled)
    members = {
        (model, seed): [places[model, engine, seed] for engine in engines]
        for model in (a, b)
        for seed in seeds
        if engines and all((model, engine, seed) in places for engine in engines)
    }
    sides: Sides = {side: tuple(pooled[place] for place in own) for side, own in members.items()}
    means = {name: found.averaged(list(members.values())) for name, found in measured.items()}
    return contrast(a, b, sides, means, margin, engines)


def _of_engines(contrasts: Sequence[tuple[str, Contrast]], margin: float) -> str:
    """Every two engines over all models, in one sentence."""
    if not contrasts:
        return "The engines have no seed in common: there is nothing to compare between them."
    return " ".join(_over_models(*both, contrasts, margin) for both in dict.fromkeys((p.a, p.b) for _, p in contrasts))


def _over_models(a: str, b: str, contrasts: Sequence[tuple[str, Contrast]], margin: float) -> str:
    own = {model: pair for model, pair in contrasts if (pair.a, pair.b) == (a, b)}
    phrases: list[str] = []
    for model, pair in own.items():
        if pair.verdict == DIFFERENT:
            accuracy = pair.scores["accuracy"].difference
            better = engine_title(a if accuracy > 0 else b)
            phrases.append(f"different on {model}, where {better} is {points(abs(accuracy))} points more accurate")
    for word in (EQUIVALENT, UNDECIDED):
        models = [model for model, pair in own.items() if pair.verdict == word]
        if models:
            which = "all" if len(models) == len(own) > 2 else ""
            phrases.append(f"{_said(word, margin)} on {f'{which} {len(models)} models' if which else listed(models)}")
    return f"{engine_title(a)} and {engine_title(b)}: {'; '.join(phrases)}."


def _of_models(contrasts: Sequence[Contrast], margin: float) -> str:
    """Who is more accurate than whom, the one that beats most first; then how many pairs stay open."""
    if not contrasts:
        return "The models have no seed and engine in common: there is nothing to compare between them."
    beaten: dict[str, list[str]] = {}
    for pair in contrasts:
        if pair.verdict == DIFFERENT:
            better, other = (pair.a, pair.b) if pair.scores["accuracy"].difference > 0 else (pair.b, pair.a)
            beaten.setdefault(better, []).append(other)
    ranked = sorted(beaten.items(), key=lambda one: -len(one[1]))
    phrases = [f"{better} is more accurate than {listed(others)}" for better, others in ranked]
    return f"Models: {'; '.join([*phrases, *_open(contrasts, margin)])}."


def _open(contrasts: Sequence[Contrast], margin: float) -> Iterator[str]:
    """How many pairs of models are equivalent and how many cannot be told apart."""
    counts = Counter(pair.verdict for pair in contrasts)
    for word in (EQUIVALENT, UNDECIDED):
        if not counts[word]:
            continue
        if len(contrasts) == 1:
            yield f"{listed([contrasts[0].a, contrasts[0].b])} are {_said(word, margin)}"
        elif counts[word] == len(contrasts):
            yield f"all {len(contrasts)} pairs are {_said(word, margin)}"
        else:
            are = "pair is" if counts[word] == 1 else "pairs are"
            yield f"{counts[word]} of {len(contrasts)} {are} {_said(word, margin)}"


def _said(word: str, margin: float) -> str:
    return f"equivalent within {points(margin)} points" if word == EQUIVALENT else f"{word} with this data"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
