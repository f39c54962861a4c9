"""What a run needs in memory, and which knobs would lower it: candidates in order of what they cost, each with its sum.

The sums are those of `duygu.scale.memory`. A knob that is turned already, that the model does not take, or that by its
sum lowers next to nothing is not named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from duygu.errors import RecipeError
from duygu.models.adapters import require_adaptable
from duygu.models.spec import ModelSpec
from duygu.recipe import Recipe
from duygu.scale.memory import GIB, with_recipe

SURE = 0.9  # of what there is, that a sum may take: runs were measured up to 8 % above theirs (docs/memory.md)
WORTH = 0.95  # of the sum, at most, that a knob leaves
SHORTEST = 32  # tokens; a text cut to fewer says too little
ADAPTERS = {"lora_rank": "16", "quantise": "nf4"}
ADAPTERS_LR = 1e-4  # adapters start at 0, and learn at higher rates than whole weights

Settings = dict[str, str]


@dataclass(frozen=True, slots=True)
class Demand:
    """A training run, as far as it decides the memory that it takes."""

    spec: ModelSpec
    recipe: Recipe
    engine: str
    precision: str  # fp32 or bf16

    @property
    def documents(self) -> int:
        """Of a forward pass at most."""
        return self.recipe.microbatch or self.recipe.batch

    @property
    def bytes(self) -> int:
        """All that it takes where documents are as long as the recipe allows."""
        return with_recipe(self.spec, self.recipe, self.engine, self.precision, self.documents).total

    def changed(self, settings: Settings) -> Demand:
        """The same with some knobs turned."""
        recipe = self.recipe.changed(settings)
        return Demand(self.spec, recipe, self.engine, settings.get("precision", self.precision))


@dataclass(frozen=True, slots=True)
class Saving:
    """Knobs that lower a run's memory to ``bytes``, and what they cost."""

    settings: Settings
    cost: str
    bytes: int

    def __str__(self) -> str:
        options = " ".join(f"--set {name}={value}" for name, value in self.settings.items())
        return f"{options} ({gib(self.bytes)}, {self.cost})"


def alike(demand: Demand, room: float | None) -> list[Saving]:
    """What lowers the memory and trains the same; ``room`` are the bytes that there are."""
    return _lowering(demand, _alike(demand, room))


def otherwise(demand: Demand) -> list[Saving]:
    """What lowers the memory of a run and makes it another."""
    return _lowering(demand, _otherwise(demand))


def gib(size: float) -> str:
    """A size to read."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.0f} MiB"


def _alike(demand: Demand, room: float | None) -> Iterator[tuple[Settings, str]]:
    if demand.documents > 1:
        yield {"microbatch": str(_microbatch(demand, room))}, "trains the same"
    if not demand.recipe.gradient_checkpointing and demand.spec.fallback is None:
        yield {"gradient_checkpointing": "true"}, "trains the same, a third more work"


def _microbatch(demand: Demand, room: float | None) -> int:
    """Half the documents of a pass; half of that again, while the sum does not surely fit."""
    documents = demand.documents // 2
    while documents > 1 and room is not None and demand.changed({"microbatch": str(documents)}).bytes > SURE * room:
        documents //= 2
    return documents


def _otherwise(demand: Demand) -> Iterator[tuple[Settings, str]]:
    recipe = demand.recipe
    if recipe.length >= 2 * SHORTEST:
        yield {"length": str(recipe.length // 2)}, "reads less of long documents"
    if recipe.long == "windows" and recipe.max_windows > 1:
        yield {"max_windows": str(recipe.max_windows // 2)}, "reads less of the longest documents"
    if not recipe.lora_rank:
        rate = {"lr": f"{ADAPTERS_LR:g}"} if recipe.lr < ADAPTERS_LR else {}
        yield {**ADAPTERS, **rate}, "adapters learn on weights of 4 bits"
    elif recipe.quantise == "none":
        yield {"quantise": ADAPTERS["quantise"]}, "weights of 4 bits"
    if demand.precision == "fp32":
        yield {"precision": "bf16"}, "rounds more"


def _lowering(demand: Demand, candidates: Iterable[tuple[Settings, str]]) -> list[Saving]:
    """Those that the model takes and that are worth their cost."""
    savings: list[Saving] = []
    for settings, cost in candidates:
        other = demand.changed(settings)
        try:
            require_adaptable(demand.spec, other.recipe)
        except RecipeError:
            continue
        if other.bytes < WORTH * demand.bytes:
            savings.append(Saving(settings, cost, other.bytes))
    return savings
