"""Weights as numpy arrays: read, made and written one tensor at a time, never a whole model at once.

A safetensors file is a JSON header and raw numbers. The safetensors library checks the header (bounds, overlaps, exact
cover); the numbers are then read with plain file reads, so that bf16 needs no extra package and a file that shrinks
while it is read is an error and not a crash. All weights are float32 here, whatever they were stored as. New weights
come from a generator keyed by seed and name: equal for every engine, in whatever order they are made.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from duygu.errors import ModelError
from duygu.files import file_digest, on_disk
from duygu.models.families import Shapes
from duygu.models.spec import ModelSpec

Weights = NDArray[np.float32]

HEADER_BYTES = 8 * 2**20  # a header of 400 tensors takes 50 kB
_FLOATS = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "F64": np.dtype("<f8")}
_STORED = {**_FLOATS, "U8": np.dtype("u1")}  # bytes: duygu's own quantised weights, and nobody else's
_DIGEST = re.compile(r"[0-9a-f]{64}")
_POINTER = b"version https://git-lfs"  # what git keeps in place of a large file
_DAMAGED = "fetch the file again: it was cut short, damaged or is not safetensors"


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a safetensors file, not read yet."""

    path: Path
    name: str
    dtype: str  # as safetensors writes it: "F32", "BF16", "I64", ...
    shape: tuple[int, ...]
    begin: int  # byte of the file that its numbers start at
    size: int  # bytes

    @property
    def readable(self) -> bool:
        """Whether its numbers are floating point of a kind that weights come in."""
        return self.dtype in _FLOATS

    def read(self) -> Weights:
        """The numbers as float32, bytes as they are.

        Raises `ModelError` where the file ends early or a number is not finite.
        """
        where = f"{self.path}: {self.name}"
        kind = _STORED[self.dtype]
        try:
            raw = np.fromfile(self.path, kind, self.size // kind.itemsize, offset=self.begin)
        except OSError as error:
            raise ModelError(f"the weights cannot be read: {error}", where, _DAMAGED) from error
        if raw.nbytes != self.size:
            raise ModelError("the file ends before its numbers do", where, _DAMAGED)
        if self.dtype == "U8":
            return cast(Weights, raw.reshape(self.shape))
        wide = _widened(raw, self.dtype)
        if not (np.isfinite(wide.min()) and np.isfinite(wide.max())):
            count = int((~np.isfinite(wide)).sum())
            problem = f"{count} of the {wide.size} numbers of tensor {self.name} are NaN or infinite"
            raise ModelError(problem, where, "use a checkpoint that was saved before its training broke down")
        return wide.reshape(self.shape)


class LazyTensors(Mapping[str, Weights]):
    """Name to tensor, read or made at every lookup and kept nowhere."""

    def __init__(self, makers: Mapping[str, Callable[[], Weights]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> Weights:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def read_header(path: Path) -> dict[str, Stored]:
    """Every tensor of one safetensors file by name; reads the header only. Raises `ModelError`."""
    from safetensors import SafetensorError, safe_open

    require_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
            if start == _POINTER:
                problem = "a git-lfs pointer lies there in place of the weights"
                raise ModelError(problem, str(path), "run git lfs pull in the model folder, or give the hub's name")
            file.seek(8)
            length = int.from_bytes(start[:8], "little")
            if length > HEADER_BYTES:
                problem = f"its header claims {length:,} bytes, more than {HEADER_BYTES:,}"
                raise ModelError(problem, str(path), _DAMAGED)
            header = file.read(length)
        with safe_open(path, framework="numpy"):  # pyright: ignore[reportUnknownVariableType]
            entries = cast(dict[str, dict[str, Any]], json.loads(header))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ModelError(f"not a sound safetensors file: {error}", str(path), _DAMAGED) from error
    entries.pop("__metadata__", None)
    return {name: _stored(path, name, entry, 8 + length) for name, entry in entries.items()}


def require_file(path: Path) -> None:
    """Raise `ModelError` unless ``path`` is a regular file or a link to one (as in Hugging Face's cache)."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise ModelError(f"cannot be opened: {error.strerror}", str(path), "complete the model folder") from error
    if not regular:
        raise ModelError("not a regular file", str(path), "put the file itself there")


def initialise(name: str, shape: tuple[int, ...], spec: ModelSpec, seed: int) -> Weights:
    """New weights as BERT starts them: N(0, ``spec.initializer_range``); biases are 0 and the weights of norms 1.

    Philox keyed by the seed and the SHA-256 of the name: no tensor depends on another or on the framework.
    """
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    weights = generator(name, seed).standard_normal(shape, np.float32)
    weights *= np.float32(spec.initializer_range)
    return weights


def generator(name: str, seed: int) -> np.random.Generator:
    """Random numbers for the tensor of this name."""
    word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(key=np.array([seed, word], np.uint64)))


def weights_digest(tensors: Iterable[tuple[str, np.ndarray]]) -> str:
    """SHA-256 over names, shapes and float32 bytes, streamed; the order of the tensors does not matter.

    Of quantised weights over the bytes that they are.
    """
    lines: list[str] = []
    for name, tensor in tensors:
        array = tensor if tensor.dtype == np.uint8 else _little(tensor)
        lines.append(f"{name} {array.shape} {hashlib.sha256(array.data).hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def file_digests(files: Sequence[Path]) -> tuple[str, ...]:
    """SHA-256 of each file; in the hub's cache that is its name. Others are read once a process, unless they change."""
    found: list[str] = []
    for path in files:
        real = path.resolve()
        status = real.stat()
        named = _DIGEST.fullmatch(real.name)
        found.append(real.name if named else _digest_of(real, status.st_size, status.st_mtime_ns))
    return tuple(found)


@lru_cache
def _digest_of(path: Path, size: int, changed: int) -> str:
    return file_digest(path)


def write_safetensors(
    path: Path, shapes: Shapes, tensors: Iterable[tuple[str, np.ndarray]], of_bytes: Container[str] = ()
) -> None:
    """Stream ``tensors``, exactly those of ``shapes`` in any order, to a safetensors file, and fsync it.

    They are float32, but for those ``of_bytes``. The library's own writer wants all tensors in memory at once. Raises
    ValueError for a tensor that is not expected.
    """
    header, begins, size = _header(shapes, of_bytes)
    waiting = dict(shapes)
    with on_disk(path, size), path.open("wb") as file:
        file.write(header)
        for name, tensor in tensors:
            if waiting.pop(name, None) != tensor.shape:
                raise ValueError(f"tensor {name} of shape {tensor.shape} is not expected (any more)")
            file.seek(len(header) + begins[name])
            file.write(tensor.data if name in of_bytes else _little(tensor).data)
        if waiting:
            raise ValueError(f"tensors are missing: {', '.join(waiting)}")
        file.flush()
        os.fsync(file.fileno())


def _widened(raw: np.ndarray, dtype: str) -> Weights:
    """Stored numbers as float32; large ones are widened in place, so that no third copy stands beside the two."""
    if dtype == "BF16":
        bits = raw.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    with np.errstate(over="ignore"):
        return raw.astype(np.float32, copy=False)


def _stored(path: Path, name: str, entry: Mapping[str, Any], data: int) -> Stored:
    begin, end = entry["data_offsets"]
    return Stored(path, name, entry["dtype"], tuple(entry["shape"]), data + begin, end - begin)


def _header(shapes: Shapes, of_bytes: Container[str]) -> tuple[bytes, dict[str, int], int]:
    """The file's first bytes, padded to a multiple of 8, where each tensor begins after them, and the last ends."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers asks for the format
    begins: dict[str, int] = {}
    end = 0
    for name, shape in shapes.items():
        dtype, width = ("U8", 1) if name in of_bytes else ("F32", 4)
        begins[name], end = end, end + width * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begins[name], end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, begins, end


def _little(tensor: np.ndarray) -> NDArray[np.float32]:
    return np.asarray(tensor, "<f4", order="C")
