"""A model of BERTurk's shape with random weights, and training steps on it: documents per second and peak memory.

    python benchmarks/bert_base.py write ../shared/tokenizers/tr_wordpiece_32k_cased /tmp/bert-base
    python benchmarks/bert_base.py steps /tmp/bert-base ../shared/data/bist --engine torch --precision bf16

Speed does not depend on what the weights are, so none need to be fetched. ``steps`` prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from duygu.data.corpus import read_corpus
from duygu.data.tokens import TextTokenizer
from duygu.engines import Placement, StepKey, open_engine
from duygu.models.folder import open_model
from duygu.recipe import Recipe
from duygu.scale.models import write_bert_base
from duygu.training.plan import assemble, make_plan


def write(vocabulary: Path, out: Path, layers: int) -> None:
    """Write the model folder: 12 layers, 768 wide, the vocabulary's own number of entries."""
    write_bert_base(out, TextTokenizer.from_folder(vocabulary), ("negative", "positive"), layers)


def steps(model: str, data: str, engine_name: str, precision: str, count: int, threads: int) -> dict[str, object]:
    """Take ``count`` steps of 16 documents; the first one per shape compiles and is left out of the rate."""
    corpus = read_corpus(data)
    engine = open_engine(engine_name, threads)
    recipe = replace(Recipe(), epochs=1 + count * 16 // len(corpus.texts))
    opened = open_model(model, corpus.names, recipe.seed, lambda: corpus.texts)
    encoded = opened.tokenizer.encode(corpus.texts, recipe.length, recipe.head_share)
    plan = make_plan(np.arange(len(corpus.texts), dtype=np.int32), encoded.lengths, recipe, engine.static_shapes)
    chosen = plan.steps[:count]
    state = engine.start(opened.spec, opened.tensors, recipe, Placement(precision, threads))
    began = time.perf_counter()
    engine.compile(state, sorted({shape for step in chosen for shape in step.shapes}, key=lambda s: s.tokens), [])
    compiled = time.perf_counter() - began
    seconds: list[float] = []
    for step in chosen:
        (part,), (shape,) = step.microbatches, step.shapes
        began = time.perf_counter()
        batch = assemble(encoded.take(part), part, corpus.labels[part], shape)
        state, result = engine.step(state, [batch], step.lr, StepKey(recipe.seed, step.number))
        loss = result.loss
        seconds.append(time.perf_counter() - began)
        print(f"step {step.number}: loss {loss:.4f}, {seconds[-1]:.2f} s", flush=True)
    tokens = encoded.lengths[np.concatenate([step.documents for step in chosen])].sum()
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return {
        "engine": engine_name, "precision": precision, "steps": count, "compile_s": round(compiled, 2),
        "documents_per_s": round(16 / float(np.median(seconds[1:])), 3),
        "tokens_per_s": round(float(tokens / sum(seconds))),
        "peak_bytes": int(peak.group(1)) * 1024 if peak else None, "real_share": round(plan.real_share, 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("write")
    writing.add_argument("vocabulary", type=Path)
    writing.add_argument("out", type=Path)
    writing.add_argument("--layers", type=int, default=12)
    stepping = verbs.add_parser("steps")
    stepping.add_argument("model")
    stepping.add_argument("data")
    stepping.add_argument("--engine", choices=("torch", "jax"), required=True)
    stepping.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    stepping.add_argument("--steps", type=int, default=30)
    stepping.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    if given.verb == "write":
        write(given.vocabulary, given.out, given.layers)
    else:
        result = steps(given.model, given.data, given.engine, given.precision, given.steps, given.threads)
        print(json.dumps(result))


if __name__ == "__main__":
    main()
