"""Quantised weights, made once of a checkpoint and kept in the user's cache under the digest of what they are made of.

The checkpoint is read and quantised weight by weight: no more than one of them is ever in memory. What is in the cache
under its final name is whole.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from duygu.errors import ModelError
from duygu.files import delete_folder, make_folder, new_folder, require_space
from duygu.models.adapters import quantise_all, quantised_shapes
from duygu.models.families import Shapes
from duygu.models.progress import Progress
from duygu.models.weights import LazyTensors, file_digests, read_header, write_safetensors
from duygu.recipe import Recipe

PACKED = "packed.safetensors"
FORM = "1"  # of the files: another one is another key
MORE_ROOM = "free some space, or set XDG_CACHE_HOME to a disk with more"


def cached(
    files: Sequence[Path], tensors: Mapping[str, np.ndarray], shapes: Shapes, recipe: Recipe, progress: Progress
) -> Mapping[str, np.ndarray]:
    """Every quantised tensor of the checkpoint in ``files``, read one by one. Raises `ModelError` for a full disk."""
    from huggingface_hub.utils import WeakFileLock

    wanted = quantised_shapes(shapes, recipe)
    kept = cache_folder() / _key(files, wanted, recipe)
    if not _is_sound(kept, wanted):
        make_folder(kept.parent)
        with WeakFileLock(kept.with_name(f"{kept.name}.lock")):
            if not _is_sound(kept, wanted):
                if kept.exists():  # and somebody damaged it
                    delete_folder(kept)
                progress.message(f"quantising the weights to 4 bits, once, into {kept}")
                _quantise(kept, tensors, shapes, wanted, recipe)
    return LazyTensors({name: stored.read for name, stored in read_header(kept / PACKED).items()})


def cache_folder() -> Path:
    """Where quantised weights are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duygu" / "nf4"


def of_bytes(shapes: Shapes, recipe: Recipe) -> frozenset[str]:
    """Those of the quantised tensors that are bytes: codes, and scales where they are quantised too."""
    endings = (".codes", ".scales") if recipe.quantise == "nf4-double" else (".codes",)
    return frozenset(name for name in shapes if name.endswith(endings))


def _key(files: Sequence[Path], wanted: Shapes, recipe: Recipe) -> str:
    digest = hashlib.sha256(f"{FORM} {recipe.quantise} {sorted(wanted.items())}".encode())
    for one in file_digests(files):
        digest.update(one.encode())
    return digest.hexdigest()


def _is_sound(kept: Path, wanted: Shapes) -> bool:
    """Whether the tensors are there and whole. It deletes nothing: others may have just made them anew."""
    if not kept.exists():
        return False
    try:
        return {name: stored.shape for name, stored in read_header(kept / PACKED).items()} == wanted
    except ModelError:
        return False


def _quantise(kept: Path, tensors: Mapping[str, np.ndarray], shapes: Shapes, wanted: Shapes, recipe: Recipe) -> None:
    as_bytes = of_bytes(wanted, recipe)
    size = sum(math.prod(shape) * (1 if name in as_bytes else 4) for name, shape in wanted.items())
    require_space(kept.parent, size, MORE_ROOM, ModelError)
    with new_folder(kept, size, manifest=False) as folder:
        write_safetensors(folder / PACKED, wanted, quantise_all(tensors, shapes, recipe), as_bytes)
