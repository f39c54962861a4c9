"""How much memory a model and a recipe will take, by arithmetic on their shapes; no framework is asked.

Counted is what the engines hold at the fullest moment: fp32 masters, Adam's two moments, gradients, the bf16 copies
that layers compute with, and the activations of the largest step, layer by layer as the engines keep them for the
backward pass. On top come the process itself, with its framework's libraries, and what the memory allocator does not
give back in time, which was measured on CPUs: docs/performance.md has both, and how near the sums came.

    C  hidden width     F  intermediate width     H  heads     T  tokens of the step     L  longest document
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from duygu.models.spec import ModelSpec, tensor_shapes

Engine = Literal["torch", "jax"]
Low = Literal["fp32", "bf16"]

BYTES = {"fp32": 4, "bf16": 2}
MIB = 1 << 20
PROCESS = {"torch": 240 * MIB, "jax": 300 * MIB}  # interpreter, framework and duygu, before a model is there
SCORED = 4096  # tokens of a scoring pass: duygu.training.plan.EVALUATION_TOKENS


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes, by what they are for."""

    process: int
    masters: int
    moments: int
    gradients: int
    copies: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.process + self.masters + self.moments + self.gradients + self.copies + self.activations


def to_train(spec: ModelSpec, engine: Engine, low: Low, tokens: int, longest: int) -> Need:
    """A training run whose largest forward pass has ``tokens`` tokens, its longest document ``longest``."""
    weights, rounded = _weights(spec)
    kept = _torch_kept(spec, low, tokens, longest) if engine == "torch" else _jax_kept(spec, low, tokens)
    copies = 2 * rounded if low == "bf16" else 0
    return Need(PROCESS[engine], 4 * weights, 8 * weights, 4 * weights, copies, kept)


def to_score(spec: ModelSpec, engine: Engine, low: Low, longest: int) -> Need:
    """Scoring texts of at most ``longest`` tokens."""
    weights, rounded = _weights(spec)
    tokens = max(SCORED, longest)
    moments = 8 * weights if engine == "jax" else 0  # its state has them from the start
    copies = 2 * rounded if low == "bf16" else 0
    return Need(PROCESS[engine], 4 * weights, moments, 0, copies, _passing(spec, low, tokens, longest))


def is_rounded(name: str) -> bool:
    """Whether bf16 computes with a copy of this tensor; the same as `duygu.engines.in_low_precision`."""
    return ".layer." in name and "LayerNorm" not in name


def _weights(spec: ModelSpec) -> tuple[int, int]:
    """Number of all weights, and of those that bf16 has copies of."""
    sizes = {name: math.prod(shape) for name, shape in tensor_shapes(spec).items()}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if is_rounded(name))
