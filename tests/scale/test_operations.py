"""Operations counted by hand, against PyTorch's own counter on the engine's module."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from duygu.engines.torch.bert import BertClassifier, Layout
from duygu.models.spec import ModelSpec
from duygu.scale.operations import operations

SPEC = ModelSpec(
    family="bert", vocabulary=50, positions=64, segments=2, layers=3, hidden=24, heads=3, intermediate=40,
    activation="gelu", norm_eps=1e-12, dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0,
    initializer_range=0.02, pad_id=0, labels=("a", "b", "c"),
)  # fmt: skip
HEAD = 2 * 24 * (24 + 3)  # pooler and classifier of one document, which `operations` leaves out


@pytest.mark.parametrize("lengths", [[20, 20, 7], [1], [64, 3]])
def test_scoring_is_counted_as_pytorch_counts_it(lengths: list[int]) -> None:
    module = BertClassifier(SPEC)
    positions = torch.cat([torch.arange(length) for length in lengths])
    starts = torch.tensor(np.cumsum([0, *lengths[:-1]]))
    groups = tuple((1, length) for length in lengths)
    layout = Layout(torch.ones(sum(lengths), dtype=torch.int64), positions, starts, torch.tensor(lengths), groups)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(module.words(layout), layout)
    others = 4 * 24 * (len(lengths) - 1) * sum(lengths)  # that first tokens look at and mask, in the last layer
    assert operations(SPEC, lengths, training=False) + HEAD * len(lengths) + others == counter.get_total_flops()


def test_training_takes_three_times_as_many() -> None:
    assert operations(SPEC, [9, 30], training=True) == 3 * operations(SPEC, [9, 30], training=False)
