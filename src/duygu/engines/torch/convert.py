"""Weights of a pickle as one safetensors file; the only unpickling in duygu, and it can make nothing but numbers.

Run as ``python -P -m duygu.engines.torch.convert TARGET SOURCE...`` by `duygu.models.conversion`, in a process of its
own: no other process has to import torch, and what a hostile file does to this one ends with it.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

SOUND = (2, 10)  # of torch: before it, weights_only could be got round (CVE-2025-32434, CVE-2026-24747)
REFUSED, NOT_WRITTEN = 2, 3  # exit codes: `duygu.models.conversion` tells them apart
INFLATION = 4  # tensors may share their numbers, but not take much more room than the file


class NotWritten(Exception):
    """The numbers were read, and there is no room for them."""


def convert(target: Path, sources: Sequence[Path]) -> None:
    """Write the tensors of all sources, names unchanged. Raises `NotWritten`, ValueError, or whatever torch does."""
    version = tuple(int(number) for number in torch.__version__.split(".")[:2])
    if version < SOUND:
        raise ValueError(f"torch {torch.__version__} reads pickles unsafely: pip install 'torch>=2.10'")
    tensors: dict[str, torch.Tensor] = {}
    for source in sources:
        tensors |= read_numbers(source)
    try:
        save_file(tensors, target, metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise NotWritten(str(error)) from error


def read_numbers(source: Path) -> dict[str, torch.Tensor]:
    """The table of tensors that a pickle holds, each with memory of its own, however they were tied or sliced."""
    table = torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
    if not isinstance(table, Mapping) or not table:
        raise ValueError(f"it holds a {type(table).__name__}, not a table of tensors")
    for name, tensor in table.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(f"it holds {name!r}: {type(tensor).__name__}, not only tensors")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise ValueError(f"tensor {name} is sparse, quantised or empty of numbers")
    size, limit = sum(tensor.nbytes for tensor in table.values()), INFLATION * source.stat().st_size
    if size > limit:
        raise ValueError(f"its tensors would take {size:,} bytes, the file has only {source.stat().st_size:,}")
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in table.items()}


def reason(error: Exception) -> str:
    """One line of what torch says in many."""
    text = str(error)
    code = re.search(r"GLOBAL (\S+)", text)
    if code:
        return f"it asks for the code {code[1]}, which no weights need"
    first = text.strip().partition("\n")[0]
    if isinstance(error, ValueError | NotWritten):
        return first
    return f"it is damaged, or no file of torch.save ({first[:100] or type(error).__name__})"


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]])
    except Exception as error:
        print(reason(error))
        sys.exit(NOT_WRITTEN if isinstance(error, NotWritten) else REFUSED)
