"""LoRA, Hu et al. (2021), arXiv:2106.09685: which layers have adapters, how these start, and what they come to.

A linear layer of (O, I) with an adapter of width R answers W x + alpha / R * B (A x), A being (R, I) and B (O, R).
Names are PEFT's, ``LAYER.lora_A.weight``; A starts as PEFT starts it, uniform up to 1 / sqrt(I), and B at 0. With
``recipe.quantise`` the layers' own weights are held as `duygu.models.nf4` packs them, under ``LAYER.nf4.*``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial

import numpy as np
from numpy.typing import NDArray

from duygu.errors import RecipeError
from duygu.models import nf4
from duygu.models.families import FAMILIES, Shapes
from duygu.models.spec import ModelSpec, in_low_precision, tensor_shapes
from duygu.models.weights import LazyTensors, generator
from duygu.recipe import Recipe
from duygu.training.parameters import trained_names

Tensors = Mapping[str, np.ndarray]


def linear_layers(shapes: Shapes) -> tuple[str, ...]:
    """Names of the linear layers within the model's layers."""
    return tuple(
        name.removesuffix(".weight")
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 2 and in_low_precision(name)
    )


def adapted_layers(shapes: Shapes, recipe: Recipe) -> tuple[str, ...]:
    """Those of them that have adapters.

    Raises `RecipeError` for a target that is the name of none, or of some layer's only: layers are alike (JAX scans
    them as one).
    """
    layers = linear_layers(shapes)
    if not recipe.lora_rank or recipe.lora_targets == "all-linear":
        return layers if recipe.lora_rank else ()
    targets = recipe.lora_targets.split(",")
    for target in targets:
        if not any(_ends_with(layer, target) for layer in layers):
            known = ", ".join(dict.fromkeys(layer.rpartition(".")[2] for layer in layers))
            problem = f"lora_targets = {recipe.lora_targets!r}: no linear layer's name ends with {target}"
            raise RecipeError(problem, "recipe field lora_targets", f"give all-linear, or of these: {known}")
    chosen = tuple(layer for layer in layers if any(_ends_with(layer, target) for target in targets))
    there, have = (Counter(map(_in_any_layer, names)) for names in (layers, chosen))
    for kind in (kind for kind in have if have[kind] < there[kind]):
        problem = f"lora_targets = {recipe.lora_targets!r}: {kind} would have adapters in {have[kind]} layers only"
        fix = f"give endings without a layer's number, such as {kind.rpartition('.')[2]}, for all {there[kind]}"
        raise RecipeError(problem, "recipe field lora_targets", fix)
    return chosen


def adapter_shapes(shapes: Shapes, recipe: Recipe) -> Shapes:
    """Every tensor of the adapters by name."""
    found: Shapes = {}
    for layer in adapted_layers(shapes, recipe):
        outputs, inputs = shapes[f"{layer}.weight"]
        found[f"{layer}.lora_A.weight"] = (recipe.lora_rank, inputs)
        found[f"{layer}.lora_B.weight"] = (outputs, recipe.lora_rank)
    return found


def trained_shapes(spec: ModelSpec, recipe: Recipe) -> Shapes:
    """What learns, and what checkpoints hold: all of the model, or the adapters and the head."""
    base = tensor_shapes(spec)
    shapes = base | adapter_shapes(base, recipe)
    return {name: shapes[name] for name in trained_names(shapes, recipe)}


def require_adaptable(spec: ModelSpec, recipe: Recipe) -> None:
    """Raise `RecipeError` for knobs that do not go with adapters, or need them."""
    if recipe.quantise != "none" and not recipe.lora_rank:
        problem = f"quantise = {recipe.quantise}: weights of 4 bits cannot learn, so adapters must"
        raise RecipeError(problem, "recipe field quantise", "--set lora_rank=16, or --set quantise=none")
    if not recipe.lora_rank:
        return
    if spec.fallback is not None:
        problem = f"{spec.family} runs through transformers, and adapters are for families of duygu's own"
        raise RecipeError(problem, "recipe field lora_rank", f"--set lora_rank=0, or a model of: {', '.join(FAMILIES)}")
    adapted_layers(tensor_shapes(spec), recipe)
    clashes = {
        "frozen": recipe.frozen > 0,
        "fresh_layers": recipe.fresh_layers > 0,
        "ema": recipe.ema > 0,
        "r_drop": recipe.r_drop > 0 and recipe.lora_dropout > 0,
    }
    for name in (name for name, clash in clashes.items() if clash):
        problem = f"{name} = {getattr(recipe, name)} does not go with adapters" + " that drop" * (name == "r_drop")
        raise RecipeError(problem, f"recipe field {name}", f"--set {name}=0, or --set lora_rank=0")


def with_adapters(tensors: Tensors, spec: ModelSpec, recipe: Recipe, packed: Tensors | None = None) -> Tensors:
    """What an engine starts from: the model's tensors, layers quantised as the recipe asks, and new adapters.

    ``packed`` has the quantised tensors where they were made before.
    """
    if not recipe.lora_rank:
        return tensors
    shapes, makers = tensor_shapes(spec), dict[str, Callable[[], np.ndarray]]()
    quantised = {f"{layer}.weight" for layer in quantised_layers(shapes, recipe)}
    packed = packed or (quantised_tensors(tensors, shapes, recipe) if quantised else {})
    for name in tensors:
        if name in quantised:
            parts = nf4.parts_of(name, recipe.quantise == "nf4-double")
            makers |= {part: partial(packed.__getitem__, part) for part in parts}
        else:
            makers[name] = partial(tensors.__getitem__, name)
    for name, shape in adapter_shapes(shapes, recipe).items():
        makers[name] = partial(initial_adapter, name, shape, recipe.seed)
    return LazyTensors(makers)


def joined(tensors: Tensors, others: Tensors) -> Tensors:
    """All tensors of both, read as they are looked up; of one that both have, the other's."""
    makers = {name: partial(tensors.__getitem__, name) for name in tensors}
    return LazyTensors(makers | {name: partial(others.__getitem__, name) for name in others})


def initial_adapter(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """A as ``torch.nn.init.kaiming_uniform_(a=sqrt(5))`` spreads it, B of zeros; drawn from the seed and the name."""
    if name.endswith("lora_B.weight"):
        return np.zeros(shape, np.float32)
    bound = np.float32(1.0 / math.sqrt(shape[1]))
    return generator(name, seed).random(shape, np.float32) * (2 * bound) - bound


def quantised_layers(shapes: Shapes, recipe: Recipe) -> tuple[str, ...]:
    """Layers whose weights the recipe quantises: all linear ones, whether adapted or not."""
    return linear_layers(shapes) if recipe.quantise != "none" else ()


def quantised_shapes(shapes: Shapes, recipe: Recipe) -> Shapes:
    """Every quantised tensor by name."""
    double = recipe.quantise == "nf4-double"
    return {
        f"{layer}.nf4.{part}": shape
        for layer in quantised_layers(shapes, recipe)
        for part, shape in nf4.packed_shapes(shapes[f"{layer}.weight"], double).items()
    }


def quantise_all(tensors: Tensors, shapes: Shapes, recipe: Recipe) -> Iterator[tuple[str, np.ndarray]]:
    """Every quantised tensor; of the model no more than one weight is in memory."""
    for layer in quantised_layers(shapes, recipe):
        packed = nf4.quantise(tensors[f"{layer}.weight"], recipe.quantise == "nf4-double")
        yield from ((f"{layer}.nf4.{part}", array) for part, array in packed.parts().items())


def quantised_tensors(tensors: Tensors, shapes: Shapes, recipe: Recipe) -> Tensors:
    """All of them, in memory."""
    return dict(quantise_all(tensors, shapes, recipe))


def merged(base: Tensors, trained: Tensors, spec: ModelSpec, recipe: Recipe) -> Iterator[tuple[str, np.ndarray]]:
    """The whole model, what the adapters add added to its weights; ``base`` is as an engine started from it."""
    shapes, adapted = tensor_shapes(spec), set(adapted_layers(tensor_shapes(spec), recipe))
    for name, shape in shapes.items():
        layer = name.removesuffix(".weight")
        if name in trained:
            yield name, trained[name]
            continue
        weight = base[name] if name in base else nf4.dequantise(nf4.packed_at(base, layer), shape)
        if name.endswith(".weight") and layer in adapted:
            a_RI, b_OR = (trained[f"{layer}.lora_{part}.weight"] for part in "AB")
            weight = weight + np.float32(recipe.lora_alpha / recipe.lora_rank) * (b_OR @ a_RI)
        yield name, weight


def _in_any_layer(name: str) -> str:
    """The name of a linear layer within the model's layers, without the number of its own."""
    return re.sub(r"^.*layers?\.\d+\.", "", name)


def _ends_with(layer: str, target: str) -> bool:
    return fnmatchcase(f".{layer}", f"*.{target}")
