"""Llama 3.1 8B in 4 bits on a CPU: one scoring pass and one training step of adapters, and the memory they take.

    python benchmarks/llama_cpu.py                              # all 32 layers: 16 GB on disk, twice as long to read
    python benchmarks/llama_cpu.py --layers 4
    python benchmarks/llama_cpu.py --scale tiny --family modernbert --layers 3

The model has the real shape and random weights: bf16 numbers of standard deviation .02, a block of 16 million drawn
once and read for every tensor from another place, since drawing eight billion would take longer than all that is
measured. It is written shard by shard, no more than one tensor in memory. Quantising, and each engine, runs in a
process of its own; its peak is VmHWM, which the kernel counts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from duygu.data.tokens import TextTokenizer
from duygu.engines import ENGINES, Placement, StepKey, open_engine
from duygu.files import make_folder, write_json
from duygu.models.folder import open_model, quantised
from duygu.models.presets import recipe_preset
from duygu.models.spec import read_spec, tensor_shapes
from duygu.recipe import Recipe
from duygu.scale.memory import with_recipe
from duygu.training.plan import assemble, fit_shapes
from duygu.training.preparation import first_tensors

LABELS = ("negative", "positive")
BLOCK = 1 << 24  # random numbers that all tensors are read from
LIMIT = 12e9  # bytes that no process may exceed
SHAPES: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "llama": {
        "full": {
            "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_attention_heads": 32,
            "num_key_value_heads": 8, "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0, "pad_token_id": 128_004,
            "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
        "tiny": {
            "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "pad_token_id": 0,
        },
    },
    "modernbert": {
        "full": {"pad_token_id": 0},
        "tiny": {
            "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
            "max_position_embeddings": 256, "pad_token_id": 0,
        },
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--family", choices=SHAPES, default="llama")
    parser.add_argument("--scale", choices=("full", "tiny"), default="full")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument(
        "--folder", type=Path, default=Path("llama-random"), help="where the model is written, and kept"
    )
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage is None:
        began = time.perf_counter()
        write_random(options.folder, options.family, options.scale, options.layers)
        print(
            json.dumps({"stage": "write", "seconds": round(time.perf_counter() - began, 1), **measured()}), flush=True
        )
        for stage in ("quantise", *ENGINES):
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--stage", stage], check=True)
    elif options.stage == "quantise":
        began = time.perf_counter()
        recipe, model = knobs(options.tokens, options.precision), opened(options.folder)
        quantised(model, recipe)
        print(
            json.dumps({"stage": "quantise", "seconds": round(time.perf_counter() - began, 1), **measured()}),
            flush=True,
        )
    else:
        print(json.dumps(run(options.stage, options.folder, options.tokens, options.precision)), flush=True)


def tell(stage: str, began: float) -> None:
    """A line of what a stage took."""
    print(json.dumps({"stage": stage, "seconds": round(time.perf_counter() - began, 1), **measured()}), flush=True)


def knobs(tokens: int, precision: str) -> Recipe:
    """The recipe preset llama-4bit, for one document of so many tokens."""
    changes = {"batch": 1, "microbatch": 0, "length": tokens, "precision": precision}
    return recipe_preset("llama-4bit").recipe.changed(changes)


def opened(folder: Path) -> Any:
    return open_model(folder, LABELS, 13, list)


def run(engine_name: str, folder: Path, tokens: int, precision: str) -> dict[str, Any]:
    """A scoring pass and a step in this process."""
    recipe, model = knobs(tokens, precision), opened(folder)
    engine = open_engine(engine_name, len(os.sched_getaffinity(0)))
    clock = time.perf_counter()
    placement = Placement("bf16" if precision == "bf16" else "fp32", 0, "cpu")
    state = engine.start(model.spec, first_tensors(model, recipe), recipe, placement)
    times = {"start_s": time.perf_counter() - clock}
    ids = np.random.default_rng(1).integers(1, model.spec.vocabulary - 1, tokens).astype(np.int32)
    shape = fit_shapes([np.array([tokens], np.int32)], 1, engine.static_shapes)[0]
    batch = assemble([ids], np.zeros(1, np.int32), np.ones(1, np.int32), shape)
    clock = time.perf_counter()
    engine.compile(state, [shape], [shape])
    times["compile_s"], clock = time.perf_counter() - clock, time.perf_counter()
    logits = engine.logits(state, batch)[0]
    times["forward_s"], clock = time.perf_counter() - clock, time.perf_counter()
    state, result = engine.step(state, [batch], recipe.lr, StepKey(recipe.seed, 1))
    loss, norm = result.loss, result.grad_norm
    times["step_s"] = time.perf_counter() - clock
    expected = with_recipe(model.spec, recipe, engine_name, precision, 1).total
    return {
        "stage": engine_name,
        "loss": loss,
        "grad_norm": norm,
        "logits": [float(x) for x in logits],
        **{name: round(seconds, 1) for name, seconds in times.items()},
        "predicted_bytes": expected,
        **measured(),
    }


def measured() -> dict[str, Any]:
    """The most memory that this process has had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return {"peak_bytes": peak, "within_12_gb": peak < LIMIT}


def write_random(folder: Path, family: str, scale: str, layers: int) -> None:
    """A model folder with random weights, a shard a layer; one that is there already stays."""
    config = {"model_type": family, "num_hidden_layers": layers, **SHAPES[family][scale]}
    if (folder / "config.json").exists():
        print(f"{folder} is there already", file=sys.stderr)
        return
    make_folder(folder)
    spec = read_spec(config, LABELS, family)
    shards: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in tensor_shapes(spec).items():
        if name.startswith("model."):
            number = name.split(".")[2] if ".layers." in name else "rest"
            shards.setdefault(f"model-{number}.safetensors", {})[name] = shape
    block = _random_block()
    for number, (shard, shapes) in enumerate(shards.items()):
        _write_shard(folder / shard, shapes, block, number)
    places = {name: shard for shard, shapes in shards.items() for name in shapes}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    tokenizer = TextTokenizer.train(["bir iki üç"], 64)
    tokenizer.save(folder, spec.positions)
    write_json(folder / "config.json", config)


def _random_block() -> np.ndarray:
    """(BLOCK,) bf16 numbers as their bits."""
    numbers = np.random.default_rng(0).standard_normal(BLOCK, np.float32) * np.float32(0.02)
    return (numbers.view(np.uint32) >> 16).astype(np.uint16)


def _write_shard(path: Path, shapes: Mapping[str, tuple[int, ...]], block: np.ndarray, number: int) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for place, (name, shape) in enumerate(shapes.items()):
            _write_tensor(file, math.prod(shape), block, 7919 * (131 * number + place) % BLOCK, "norm" in name)


def _write_tensor(file: Any, size: int, block: np.ndarray, offset: int, ones: bool) -> None:
    """Numbers of the block from an offset on, over and over; a norm's are 1."""
    if ones:
        file.write(np.full(size, 0x3F80, np.uint16).data)
        return
    while size:
        part = block[offset : offset + size]
        file.write(part.data)
        size, offset = size - len(part), 0


if __name__ == "__main__":
    main()
