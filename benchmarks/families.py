"""How near both engines come to transformers, and to each other, for every family: one Markdown table.

    python benchmarks/families.py                        # needs duygu[torch,jax] and transformers
    python benchmarks/families.py "modernbert, mean"     # some of the cases

The models are tiny and random, with weights of standard deviation .2, so that logits are of order 1 (tests/engines/
families.py has them). As in the tests, both frameworks share one process here, which nothing else in duygu does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parent.parent))  # the cases are the tests' own

from duygu.engines import ENGINES, Engine, open_engine
from duygu.training.plan import Shape
from tests.engines import families

HEAD = ("family", "engine", "logits", "padded", "gradient", "loss", "weights", "round trip", "wrong variant")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", nargs="*", default=list(families.CASES), help="all of them, unless some are named")
    logging.disable_progress_bar()
    print(_row(HEAD), _row(["---"] * len(HEAD)), sep="\n")
    for case in parser.parse_args().cases:
        for row in rows(case):
            print(_row(row), flush=True)


def rows(case: str) -> Iterator[list[str]]:
    """One a engine. The training is one for both: largest relative difference of a loss, distance of the weights."""
    engines = [open_engine(name) for name in ENGINES]
    (losses, weights), (others, other_weights) = (families.trajectory(engine, case) for engine in engines)
    loss = float(np.max(np.abs(others / losses - 1)))
    apart = families.apart(case, weights, other_weights)
    for engine in engines:
        packed = families.logits(engine, case)
        yield [
            case,
            engine.name,
            _power(_difference(packed, case)),
            _power(_padded(engine, case, packed)),
            _power(families.gradient_error(engine, case)),
            _power(loss),
            _power(apart),
            "to the bit" if _round_trip(engine, case) else "differs",
            _nearest_mistake(engine, case),
        ]


def _difference(logits: np.ndarray, case: str) -> float:
    return float(np.abs(logits - families.oracle_logits(case)).max())


def _padded(engine: Engine, case: str, packed: np.ndarray) -> float:
    """Largest difference of our packed logits to transformers' on one padded batch, and to ours with room to spare."""
    sides = ("left", "right") if case.startswith(("llama", "qwen")) else ("right",)
    found = max(float(np.abs(packed - families.oracle_logits(case, True, side)).max()) for side in sides)
    if engine.static_shapes:
        tokens = sum(len(ids) for ids in families.documents(case))
        roomy = Shape(tokens + 13, ((families.DOCUMENTS + 2, families.LENGTH + 5),))
        found = max(found, float(np.abs(packed - families.logits(engine, case, shape=roomy)).max()))
    return found


def _round_trip(engine: Engine, case: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        return families.round_trip(engine, case, Path(folder))


def _nearest_mistake(engine: Engine, case: str) -> str:
    """The known mistake that shows least: how far it moves a logit."""
    moved = {
        name: _difference(families.logits_of_variant(engine, case, variant), case)
        for name, variant in families.wrong_variants(case).items()
    }
    least = min(moved, key=lambda name: moved[name])
    return f"{moved[least]:.0e}, {least} ({len(moved)} tried)"


def _power(value: float) -> str:
    return f"{value:.0e}" if value else "0"


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
