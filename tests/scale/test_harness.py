"""What all contenders share: the choice of steps and batches."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duygu.scale.contenders.harness import by_length, padded, peak_bytes, representative
from duygu.scale.measuring import Failed, _call
from duygu.training.machine import peak_memory


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=60), st.integers(1, 12))
def test_representative_picks_one_of_each_slice(costs: list[float], count: int) -> None:
    picks = representative(costs, count)
    count = min(count, len(costs))
    ranks = {position: rank for rank, position in enumerate(sorted(range(len(costs)), key=lambda n: (costs[n], n)))}
    bounds = [len(costs) * k // count for k in range(count + 1)]
    assert [bounds[k] <= ranks[pick] < bounds[k + 1] for k, pick in enumerate(picks)] == [True] * count


def test_representative_has_the_mean_of_all() -> None:
    """107 steps of 16 lengths: the mean of 4 is within half a percent, that of 4 random ones is 5 % off."""
    generator = np.random.default_rng(0)
    costs = generator.integers(6, 257, (107, 16)).sum(axis=1).astype(float)
    chosen = [costs[pick] for pick in representative(costs.tolist(), 4)]
    assert abs(np.mean(chosen) / costs.mean() - 1) < 0.005
    random = [abs(generator.choice(costs, 4).mean() / costs.mean() - 1) for _ in range(200)]
    assert np.mean(random) > 0.03


def test_batches_are_longest_first_and_hold_every_text_once() -> None:
    batches = by_length([3, 9, 1, 7, 5], 2)
    assert batches == [[1, 3], [4, 0], [2]]
    assert padded([[1], [2, 3]], 3, 0) == [[1, 0, 0], [2, 3, 0]]


def test_peak_memory_is_what_duygu_itself_reads() -> None:
    peak = peak_bytes()
    assert peak is not None
    assert abs(peak - peak_memory()) < 2**20


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo no room; exit 7", "exit code 7: no room"),
        ("kill -9 $$", "killed by SIGKILL, most likely because memory ran out: it said nothing"),
        ("true", "exit code 0: it said nothing"),
    ],
    ids=["code", "killed", "no answer"],
)
def test_a_process_without_an_answer_says_how_it_ended(script: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(Failed, match=f"^{why}$"):
        _call(["/bin/sh", "-c", script], os.environ, tmp_path)
