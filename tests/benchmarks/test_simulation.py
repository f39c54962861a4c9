"""The simulation of benchmarks/simulation.py, short: rates of the verdict where the truth is known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "simulation.py"
COMPARISONS = 300


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_simulation", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("copies", "correlation"), [(False, 0.0), (True, 0.9)])
def test_verdicts_hold_their_rates(simulation: ModuleType, copies: bool, correlation: float) -> None:
    """Bounds are the promised rates and three standard errors of so few comparisons."""
    rates = simulation.simulate(simulation.Setting(342, 5, copies, correlation, 0.015), COMPARISONS, 1)
    slack = 3 * (0.05 * 0.95 / COMPARISONS) ** 0.5
    assert rates.false_different <= 0.05 + slack
    assert rates.false_equivalent <= 0.05 + slack
    assert rates.found >= 0.80
    assert 0.93 - slack / 3**0.5 <= rates.coverage <= 0.97 + slack / 3**0.5


def test_the_truth_is_what_it_is_said_to_be(simulation: ModuleType) -> None:
    """Accuracy and its standard deviation between seeds, counted on many documents of many seeds."""
    mu, between = simulation.level(0.90, 0.015)
    random = np.random.default_rng(0)
    within = (simulation.SHARED**2 + simulation.OWN**2 + 1) ** 0.5
    accuracies = [
        float(np.mean(mu + between * random.standard_normal() + within * random.standard_normal(40_000) > 0))
        for _ in range(400)
    ]
    assert np.mean(accuracies) == pytest.approx(0.90, abs=0.003)
    assert np.std(accuracies) == pytest.approx(0.015, abs=0.002)


def test_groups_make_exactly_the_documents(simulation: ModuleType) -> None:
    sizes = simulation.group_sizes(simulation.Setting(342, 5, True, 0.0, 0.015), np.random.default_rng(0))
    assert sizes.sum() == 342
    assert 1 <= sizes.min() < sizes.max() <= 4
