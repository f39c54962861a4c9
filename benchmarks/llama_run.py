"""Whole runs of ``llama-4bit`` on a CPU: the peak of ``duygu train`` against what ``duygu doctor`` says of them.

    python benchmarks/llama_cpu.py --folder llama-random         # writes the model; --layers 4 for a quick one
    python benchmarks/llama_run.py llama-random ../shared/data/bist
    python benchmarks/llama_run.py llama-random ../shared/data/bist --train 64 --mixed

A run trains 2 documents at a time and evaluates 4,096 tokens at a time. As it stands, all documents are of 512 tokens
and as many as fill both: what the prediction is of. ``--mixed`` cuts them to 32 to 512 words, so that nearly every step
has a shape of its own. Each run is a process of its own, whose peak is the system's own (VmHWM). Prints a JSON object
a run.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from itertools import cycle
from pathlib import Path

from memory import peak

from duygu.data.corpus import read_corpus
from duygu.doctor import shape_of
from duygu.engines import ENGINES
from duygu.models.presets import recipe_preset
from duygu.scale.memory import with_recipe

SHORTEST = 32  # words


def write_documents(data: Path, out: Path, counts: dict[str, int], length: int, mixed: bool) -> Path:
    """So many documents for each part, both labels in turn, and the split that says which is for what. ``length`` words
    are no fewer tokens, whatever the tokenizer."""
    found, draw = cycle(read_corpus(str(data)).texts), random.Random(0)
    split: dict[str, list[str]] = {part: [] for part in counts}
    for part, count in counts.items():
        for number in range(count):
            words: list[str] = []
            while len(words) < length:  # the corpus' documents, one after another
                words += next(found).split()
            name = f"{'negative' if number % 2 else 'positive'}/{part}{number}.txt"
            cut = draw.randint(SHORTEST, length) if mixed else len(words)
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(" ".join(words[:cut]), encoding="utf-8")
            split[part].append(name)
    path = out.parent / "split.json"
    path.write_text(json.dumps(split), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", type=int, default=2, help="documents; two are a step")
    parser.add_argument("--score", type=int, default=8, help="documents each that validate and test")
    parser.add_argument("--length", type=int, default=512, help="tokens of a document")
    parser.add_argument("--mixed", action="store_true", help="documents of many lengths")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    given = parser.parse_args()
    fields = {"batch": 2, "epochs": 1, "length": given.length, "pad_token": ""}  # this tokenizer pads by itself
    changes = {name: str(value) for name, value in fields.items()}
    recipe = recipe_preset("llama-4bit").recipe.changed(changes)
    spec = shape_of(str(given.model), recipe)
    with tempfile.TemporaryDirectory(prefix="duygu-llama-") as folder:
        texts = Path(folder) / "texts"
        counts = {"train": given.train, "validation": given.score, "test": given.score}
        split = write_documents(given.data, texts, counts, given.length, given.mixed)
        settings = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
        for engine in given.engines:
            began = time.perf_counter()
            words = ["train", str(texts), "--engine", engine, "--model", str(given.model), "--recipe", "llama-4bit"]
            words += [*settings, "--split", str(split), "--out", f"{folder}/{engine}", "--json"]
            measured = peak(words)
            predicted = with_recipe(spec, recipe, engine, recipe.precision, 2).total
            row = {
                "engine": engine, "layers": spec.layers, "train": given.train, "score": given.score,
                "mixed": given.mixed, "seconds": round(time.perf_counter() - began),
                "peak_gb": round(measured / 1e9, 2), "predicted_gb": round(predicted / 1e9, 2),
                "peak / predicted": round(measured / predicted, 3),
            }  # fmt: skip
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
