"""Ways to spoil a sound model folder, each a function that takes the folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.models.small_models import SIZES

Harm = Callable[[Path], object]


def config(**changes: object) -> Harm:
    def harm(folder: Path) -> None:
        values = {"model_type": "bert", **SIZES, **changes}
        (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v != "gone"}))

    return harm


def text(name: str, content: str | bytes) -> Harm:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def weights(change: Callable[[dict[str, np.ndarray]], object]) -> Harm:
    def harm(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return harm


def raw(change: Callable[[bytes], bytes]) -> Harm:
    def harm(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return harm


def header(change: Callable[[str], str]) -> Harm:
    def changed(content: bytes) -> bytes:
        end = 8 + int.from_bytes(content[:8], "little")
        new = change(content[8:end].decode()).encode()
        return len(new).to_bytes(8, "little") + new + content[end:]

    return raw(changed)


def shards(places: dict[str, str] | None = None, index: object = None) -> Harm:
    """Two shards and an index; ``places`` overrides where tensors are said to be."""

    def harm(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = list(tensors)
        weight_map: dict[str, str] = {}
        for shard, part in (("one.safetensors", names[::2]), ("two.safetensors", names[1::2])):
            save_file({name: tensors[name] for name in part}, folder / shard)
            weight_map |= dict.fromkeys(part, shard)
        content = {"weight_map": {**weight_map, **(places or {})}} if index is None else index
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return harm


def shard_elsewhere(place: str) -> Harm:
    """Every tensor of the second shard lies, whole and sound, where the index says: outside the folder."""

    def harm(folder: Path) -> None:
        shards()(folder)
        index = folder / "model.safetensors.index.json"
        index.write_text(index.read_text().replace("two.safetensors", place.format(folder.parent)))
        (folder / "two.safetensors").rename(folder.parent / "two.safetensors")

    return harm


def both(*harms: Harm) -> Harm:
    return lambda folder: [harm(folder) for harm in harms]


def gone(name: str) -> Harm:
    return lambda folder: (folder / name).unlink()


def fifo(name: str) -> Harm:
    return both(gone(name), lambda folder: os.mkfifo(folder / name))


WORD = "bert.embeddings.word_embeddings.weight"
NORM = "bert.embeddings.LayerNorm.weight"
DISTANCE = "bert.encoder.layer.0.attention.self.distance_embedding.weight"
QUERY = "bert.encoder.layer.1.attention.self.query.weight"
