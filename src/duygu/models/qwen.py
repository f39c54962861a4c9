"""What the configs of Qwen2 and Qwen3 say beyond Llama's. arXiv:2407.10671, arXiv:2412.15115, arXiv:2505.09388.

Both name a window, and most of their checkpoints do not use it: ``use_sliding_window`` is false, and then transformers
takes ``sliding_window`` and ``max_window_layers`` for nothing. Where it is true the model is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from duygu.models import llama
from duygu.models.keys import MATHEMATICS, Key, Switches, integer

QWEN2: dict[str, Key] = llama.KEYS
QWEN3: dict[str, Key] = {**llama.KEYS, "head_width": integer("head_dim", 128, 2**12)}
SWITCHES: Switches = {
    **llama.SWITCHES,
    "use_mrope": ((), MATHEMATICS),  # positions of three kinds, for pictures
    "max_window_layers": ((), MATHEMATICS),  # of so many layers the first see all, where others see a window
}
BIASED: Switches = {**SWITCHES, "attention_bias": ((True,), MATHEMATICS)}  # Qwen2's is not asked whether it has any


def rewrite(config: Mapping[str, object], where: str) -> Mapping[str, object]:
    """The config without a window that is not used, in the words of Llama's. Raises `ModelError`."""
    found = dict(config)
    if not found.get("use_sliding_window"):
        found.pop("sliding_window", None)
        found.pop("max_window_layers", None)
    return llama.rewrite(found, where)
