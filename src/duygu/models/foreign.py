"""Quantised weights of other makes, which are refused by name: duygu makes its own 4 bits, of the full weights.

They say so in ``quantization_config`` of ``config.json``, or in the ending of their file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from duygu.errors import ModelError
from duygu.models.keys import short

METHODS = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "fp8": "fp8",
    "fbgemm_fp8": "fp8",
    "finegrained_fp8": "fp8",
    "mxfp4": "MXFP4",
    "hqq": "HQQ",
    "aqlm": "AQLM",
    "quanto": "Quanto",
    "torchao": "torchao",
    "eetq": "EETQ",
    "higgs": "HIGGS",
    "vptq": "VPTQ",
    "auto-round": "AutoRound",
}
FILES = {".gguf": "GGUF", ".ggml": "GGML"}
FIX = "give the model that it was made from, in fp32, bf16 or fp16, and --set quantise=nf4 --set lora_rank=16"


def refuse_quantised(config: Mapping[str, object], where: str) -> None:
    """Raise `ModelError` for a config whose weights are quantised."""
    given = config.get("quantization_config")
    if not isinstance(given, dict) or not given:
        return
    found = cast(dict[str, object], given)
    method = str(found.get("quant_method", "")).lower()
    if not method:
        method = "bitsandbytes" if found.get("load_in_4bit") or found.get("load_in_8bit") else "an unknown method"
    problem = f"quantization_config = {short(found)}: the weights are quantised with {METHODS.get(method, method)}"
    raise ModelError(problem, f"{where}: quantization_config", FIX)


def refuse_files(names: Iterable[str], where: str) -> None:
    """Raise `ModelError` where there are files of quantised weights; for a folder that has none of its own kind."""
    for name in names:
        for ending, make in FILES.items():
            if name.lower().endswith(ending):
                raise ModelError(f"{name} has weights that are quantised as {make}", where, FIX)
