"""Which tensors decay."""

from __future__ import annotations

import pytest

from duygu.recipe import Recipe
from duygu.training.parameters import parameter_rules


@pytest.fixture(scope="module", params=["bert", "modernbert", "llama", "qwen2", "qwen3"])
def module(request: pytest.FixtureRequest) -> object:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    config = transformers.AutoConfig.for_model(request.param, **sizes, pad_token_id=0)
    with torch.device("meta"):
        return transformers.AutoModelForSequenceClassification.from_config(config)


def test_decay_matches_transformers(module: object) -> None:
    """The rule of transformers' Trainer: by type of module where it can see it, by name elsewhere."""
    from torch import nn
    from transformers.trainer_pt_utils import get_parameter_names

    forbidden = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    wanted = set(get_parameter_names(module, [nn.LayerNorm], forbidden))
    assert isinstance(module, nn.Module)
    rules = parameter_rules([name for name, _ in module.named_parameters()], Recipe())
    assert {name for name, rule in rules.items() if rule.decay} == wanted


def test_every_tensor_trains_at_the_full_rate() -> None:
    rules = parameter_rules(["bert.pooler.dense.weight", "classifier.bias"], Recipe())
    assert list(rules) == ["bert.pooler.dense.weight", "classifier.bias"]
    assert all(rule.trainable and rule.scale == 1.0 for rule in rules.values())
    assert not parameter_rules(["a.weight"], Recipe(weight_decay=0))["a.weight"].decay
