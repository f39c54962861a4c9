"""Large shapes through both engines: three training steps of XLM-R large and of ModernBERT base, random weights, fp32.

    python benchmarks/large.py ../shared/data/bist --tokenizer ../shared/tokenizers/tr_wordpiece_32k_cased
    python benchmarks/large.py ../shared/data/bist --scale tiny

Neither time nor memory depends on what the weights are, so none need to be fetched; nor does it matter that the words
are a stand-in's, whose vocabulary is smaller. Models are written tensor by tensor. Every row is a process of its own,
whose peak is the system's own (VmHWM); predicted is what ``duygu doctor`` says for these documents. The documents are
the longest of the corpus. Apart is the largest relative difference of a loss to the first row's of the model. Prints a
Markdown table in GiB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duygu.data.corpus import Corpus, read_corpus
from duygu.data.tokens import TextTokenizer
from duygu.engines import ENGINES, Engine, Placement, State, StepKey, open_engine
from duygu.models.folder import open_classifier, write_model
from duygu.models.spec import ModelSpec, parameters, read_spec, tensor_shapes
from duygu.models.weights import initialise
from duygu.recipe import Recipe
from duygu.scale.memory import to_train
from duygu.scale.models import HEAD_SCALE
from duygu.training.machine import peak_memory
from duygu.training.plan import Batch, assemble, fit_shapes

GIB = 1 << 30
CHILD = "child"
RATE = 1e-7  # so small that the loss is still one after three steps, and says what the engines computed
LEAST = 0.1  # loss that a difference is held against where the loss is smaller, as in `duygu parity`
VOCABULARY = 8000  # of the stand-in, where no folder is given
SHAPES: Mapping[str, Mapping[str, Any]] = {  # as the checkpoints' own config.json has them
    "XLM-R large": {
        "model_type": "xlm-roberta", "vocab_size": 250_002, "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096, "max_position_embeddings": 514, "type_vocab_size": 1,
        "layer_norm_eps": 1e-5, "pad_token_id": 1,
    },
    "ModernBERT base": {
        "model_type": "modernbert", "vocab_size": 50_368, "hidden_size": 768, "num_hidden_layers": 22,
        "num_attention_heads": 12, "intermediate_size": 1152, "max_position_embeddings": 8192, "local_attention": 128,
        "global_attn_every_n_layers": 3, "pad_token_id": 50_283, "classifier_pooling": "mean",
    },
}  # fmt: skip
HEAD = (
    "model", "parameters", "engine", "layers again", "loss of each step", "apart", "s to start", "s a step",
    "peak of loading", "peak", "predicted", "peak / predicted",
)  # fmt: skip
TINY = {"vocab_size": 9000, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
TINY_OF: Mapping[str, Mapping[str, Any]] = {
    "XLM-R large": {**TINY, "intermediate_size": 128},
    "ModernBERT base": {**TINY, "intermediate_size": 48, "pad_token_id": 0},
}


@dataclass(frozen=True)
class Row:
    """What one process is asked for."""

    model: str  # its folder
    data: str
    engine: str
    checkpointing: bool
    batch: int
    length: int
    steps: int
    threads: int

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            epochs=1, batch=self.batch, length=self.length, lr=RATE, precision="fp32",
            gradient_checkpointing=self.checkpointing,
        )  # fmt: skip


def write(folder: Path, name: str, scale: str, tokenizer: TextTokenizer, labels: tuple[str, ...]) -> ModelSpec:
    """Write a model folder with random weights."""
    spec = read_spec({**SHAPES[name], **(TINY_OF[name] if scale == "tiny" else {})}, labels, name)
    write_model(folder, spec, _random(spec), tokenizer, spec.positions, 1.0)
    return spec


def _random(spec: ModelSpec) -> Iterator[tuple[str, np.ndarray]]:
    """New weights, the head drawn so wide that arithmetic that changes logits shows in the loss."""
    for name, shape in tensor_shapes(spec).items():
        wider = HEAD_SCALE if name.startswith("classifier") and len(shape) == 2 else 1.0
        yield name, initialise(name, shape, spec, 0) * np.float32(wider)


def table(rows: Iterator[tuple[str, ModelSpec, Row]]) -> None:
    """Run everything and print a row as soon as it is known; losses are held against the first row of the model."""
    print(f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}", sep="\n", flush=True)
    first: dict[str, np.ndarray] = {}
    for name, spec, row in rows:
        found = in_process(row)
        losses = np.array(found["losses"])
        wanted = first.setdefault(name, losses)
        apart = float((np.abs(losses - wanted) / np.maximum(wanted, LEAST)).max())
        print(_row(name, spec, row, found, apart), flush=True)


def _row(name: str, spec: ModelSpec, row: Row, found: Mapping[str, Any], apart: float) -> str:
    measured, predicted = found["peak_bytes"], found["predicted_bytes"]
    cells = (
        name,
        f"{parameters(spec):,}",
        row.engine,
        "yes" if row.checkpointing else "no",
        ", ".join(f"{loss:.6f}" for loss in found["losses"]),
        f"{apart:.0e}" if apart else "0",
        f"{found['start_s']:.1f}",
        f"{found['step_s']:.2f}",
        f"{found['started_bytes'] / GIB:.2f}",
        f"{measured / GIB:.2f}",
        f"{predicted / GIB:.2f}",
        f"{measured / predicted:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def in_process(row: Row) -> dict[str, Any]:
    """What `train` finds in a process of its own."""
    command = [sys.executable, __file__, CHILD, json.dumps(asdict(row))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    return json.loads(done.stdout.splitlines()[-1])


def train(row: Row) -> dict[str, Any]:
    """Take the steps; seconds of a step are the median of all but the first."""
    engine, recipe, began = open_engine(row.engine, row.threads), row.recipe, time.perf_counter()
    opened = open_classifier(row.model)
    state = engine.start(opened.spec, opened.tensors, recipe, Placement("fp32", row.threads, "cpu"))
    started = peak_memory()
    batches = _batches(read_corpus(row.data), opened.tokenizer, row, engine)
    engine.compile(state, [batches[0].shape] if engine.static_shapes else [], [])
    start_s = time.perf_counter() - began
    losses, seconds = _steps(engine, state, batches, recipe)
    tokens, longest = max(one.shape.tokens for one in batches), max(int(one.lengths.max()) for one in batches)
    return {
        "losses": losses, "step_s": float(np.median(seconds[1:] or seconds)), "start_s": start_s,
        "started_bytes": started, "peak_bytes": peak_memory(),
        "predicted_bytes": to_train(opened.spec, row.engine, "fp32", tokens, longest, recipe).total,
    }  # fmt: skip


def _batches(corpus: Corpus, tokenizer: TextTokenizer, row: Row, engine: Engine) -> list[Batch]:
    """The longest documents, a batch a step, all in one shape where the engine compiles."""
    encoded = tokenizer.encode(corpus.texts, row.length, 1.0)
    longest = np.argsort(-encoded.lengths, kind="stable")[: row.batch * row.steps].astype(np.int32)
    parts = np.split(longest, row.steps)
    shapes = fit_shapes([encoded.lengths[part] for part in parts], 1, engine.static_shapes)
    return [
        assemble(encoded.take(part), part, corpus.labels[part], shape)
        for part, shape in zip(parts, shapes, strict=True)
    ]


def _steps(engine: Engine, state: State, batches: list[Batch], recipe: Recipe) -> tuple[list[float], list[float]]:
    losses: list[float] = []
    seconds: list[float] = []
    for number, batch in enumerate(batches, start=1):
        began = time.perf_counter()
        state, result = engine.step(state, [batch], recipe.lr, StepKey(recipe.seed, number))
        losses.append(result.loss)
        seconds.append(time.perf_counter() - began)
    return losses, seconds


def rows(given: argparse.Namespace, folder: Path) -> Iterator[tuple[str, ModelSpec, Row]]:
    """Every run, model after model; a model is written when its turn comes and deleted after it."""
    corpus = read_corpus(given.data)
    if given.tokenizer is None:
        tokenizer = TextTokenizer.train(corpus.texts, VOCABULARY)
    else:
        tokenizer = TextTokenizer.from_folder(given.tokenizer)
    for name in given.models.split(","):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            spec = write(Path(place) / "model", name, given.scale, tokenizer, tuple(corpus.names))
            for checkpointing in (False, True):
                for engine in given.engines.split(","):
                    sizes = given.batch, given.length, given.steps, given.threads
                    yield name, spec, Row(f"{place}/model", str(given.data), engine, checkpointing, *sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="a folder; without one a vocabulary is trained on the texts")
    parser.add_argument("--scale", choices=("full", "tiny"), default="full")
    parser.add_argument("--models", default=",".join(SHAPES))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the models are written, up to 2.3 GB at a time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="duygu-large-", dir=given.folder) as folder:
        table(rows(given, Path(folder)))


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        print(json.dumps(train(Row(**json.loads(sys.argv[2])))))
    else:
        main()
