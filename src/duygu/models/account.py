"""Which stored tensor is which of the model's, decided from names and shapes before a single number is read.

Checkpoints of the bare encoder gain the base prefix, and the old names of norms (gamma, beta) are understood. Every
tensor is accounted for; all that does not fit is listed in one error. A tensor that stands inside the encoder but is
not part of it here would change what the model computes, so it is an error too; other heads are ignored by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from duygu.errors import ModelError
from duygu.models.families import Family, Shapes
from duygu.models.weights import Stored


@dataclass(frozen=True, slots=True)
class Account:
    """What became of every tensor, of the files and of the model."""

    loaded: tuple[str, ...]  # the model's names
    initialised: tuple[str, ...]  # the model's names
    ignored: tuple[str, ...]  # the files' names
    renamed: tuple[tuple[str, str], ...]  # (file's name, model's name)


def match_tensors(
    stored: Mapping[str, Stored], family: Family, shapes: Shapes, fresh: bool, where: str
) -> tuple[Account, dict[str, Stored]]:
    """The account, and what is stored for each of the model's tensors.

    ``fresh`` starts a new head, and what is optional where a checkpoint has none of it; without it all must be stored.
    Raises `ModelError` that lists every tensor that is missing, misshapen, stored twice or out of place.
    """
    head = family.head if fresh else ()
    sources: dict[str, Stored] = {}
    ignored: list[str] = []
    faults: list[str] = []
    for name, tensor in stored.items():
        target = _model_name(name, family, shapes)
        if target in sources:
            faults.append(f"{target}: stored twice, as {sources[target].name} and {name}")
        elif target in shapes and target not in head:
            sources[target] = tensor
        elif target in head or is_expected(name, family) or not _in_encoder(name, family, shapes):
            ignored.append(name)
        else:
            faults.append(f"{name}: found {tensor.shape}, but a model of this config.json has no such tensor")
    optional = family.optional if fresh and not sources.keys() & set(family.optional) else ()
    new = {*head, *optional}
    faults += [f"{name}: missing, expected {shapes[name]}" for name in shapes if name not in sources.keys() | new]
    faults += [fault for name, tensor in sources.items() if (fault := _misfit(name, tensor, shapes[name]))]
    if faults:
        raise _unfit(faults, stored, where)
    account = Account(
        loaded=tuple(name for name in shapes if name in sources),
        initialised=tuple(name for name in shapes if name in new),
        ignored=tuple(ignored),
        renamed=tuple((tensor.name, name) for name, tensor in sources.items() if tensor.name != name),
    )
    return account, sources


def is_expected(name: str, family: Family) -> bool:
    """Whether a stored tensor is one that checkpoints of the family often have and a classifier never needs."""
    return any(fnmatchcase(name, pattern) for pattern in family.ignored)


def _model_name(name: str, family: Family, shapes: Shapes) -> str:
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
    return family.prefix + name if family.prefix + name in shapes else name


def _in_encoder(name: str, family: Family, shapes: Shapes) -> bool:
    """Whether the name, with or without the base prefix, lies in a part such as ``embeddings`` or ``encoder``."""
    parts = {known.removeprefix(family.prefix).split(".")[0] for known in shapes if known not in family.head}
    return name.removeprefix(family.prefix).split(".")[0] in parts


def _misfit(name: str, tensor: Stored, shape: tuple[int, ...]) -> str | None:
    if tensor.shape != shape:
        return f"{name}: expected {shape}, found {tensor.shape}"
    if not tensor.readable:
        return f"{name}: expected floating-point numbers (fp32, bf16, fp16), found {tensor.dtype}"
    return None


def _unfit(faults: list[str], stored: Mapping[str, Stored], where: str) -> ModelError:
    size = sum(tensor.size for tensor in stored.values())
    problem = f"tensors that do not fit config.json: {len(faults)} (the files hold {len(stored)}, {size:,} bytes)"
    lines = "".join(f"\n  {fault}" for fault in faults)
    return ModelError(problem + lines, where, "take config.json and all weight files from one and the same checkpoint")
