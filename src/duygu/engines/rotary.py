"""The angles of rotary positions, the same to the bit for both engines. Su et al. (2021), arXiv:2104.09864."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duygu.models.spec import ModelSpec


def turn_rates(spec: ModelSpec) -> NDArray[np.float32]:
    """(2, head width / 2) radians per position of each pair of features: in global layers, then in local ones."""
    exponents = np.arange(0, spec.head_dim, 2, dtype=np.float32) / np.float32(spec.head_dim)
    thetas = np.array([[spec.theta], [spec.local_theta]], np.float32)
    return (1.0 / thetas**exponents).astype(np.float32)
