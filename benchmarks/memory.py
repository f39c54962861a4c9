"""Predicted memory against the measured peak of real runs: a row for each engine and precision, trained and scored.

    python benchmarks/memory.py MODEL ../shared/data/bist --documents 400
    python benchmarks/memory.py MODEL ../shared/data/bist --documents 40 --longest

Every run is ``duygu train`` for one epoch, then ``duygu evaluate`` of its model, each in a process of its own, whose
peak is the system's own (VmHWM). Predicted is what ``duygu doctor`` says, for the largest step of the run and for the
worst case, in which every document is as long as the recipe allows. Prints a Markdown table in GiB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from duygu.cli import main as duygu
from duygu.data.corpus import read_corpus
from duygu.data.split import duplicate_groups, make_split
from duygu.doctor import shape_of
from duygu.models.folder import open_model
from duygu.recipe import Recipe
from duygu.scale.memory import to_score, to_train
from duygu.training.machine import peak_memory
from duygu.training.plan import EVALUATION_TOKENS, make_plan

GIB = 1 << 30
CHILD = "child"


def table(model: str, data: Path, engines: Sequence[str], precisions: Sequence[str]) -> None:
    """Run everything and print a row as soon as it is known."""
    print(
        "| | | tokens | measured | predicted | measured / predicted | worst case |\n|---|---|---:|---:|---:|---:|---:|",
        flush=True,
    )
    for engine in engines:
        tokens, longest = largest_step(model, data, engine == "jax")
        for precision in precisions:
            recipe = Recipe(epochs=1, precision=precision)
            spec = shape_of(model, recipe)
            with tempfile.TemporaryDirectory(prefix="duygu-memory-") as folder:
                run = f"{folder}/run"
                words = ["train", str(data), "--engine", engine, "--model", model, "--out", run, "--json"]
                trained = peak([*words, "--set", "epochs=1", "--set", f"precision={precision}"])
                scored = peak(["evaluate", run, str(data), "--engine", engine, "--precision", precision, "--json"])
            worst = to_train(spec, engine, precision, recipe.batch * recipe.length, recipe.length).total
            predicted = to_train(spec, engine, precision, tokens, longest).total
            row(engine, precision, "trained", tokens, trained, predicted, worst)
            predicted = to_score(spec, engine, precision, longest).total
            worst = to_score(spec, engine, precision, recipe.length).total
            row(engine, precision, "scored", EVALUATION_TOKENS, scored, predicted, worst)


def row(engine: str, precision: str, what: str, tokens: int, measured: int, predicted: int, worst: int) -> None:
    values = f"{measured / GIB:.2f} | {predicted / GIB:.2f} | {measured / predicted:.2f} | {worst / GIB:.2f}"
    print(f"| {engine} {precision} | {what} | {tokens:,} | {values} |", flush=True)


def largest_step(model: str, data: Path, static: bool) -> tuple[int, int]:
    """Tokens of the largest forward pass that `duygu train` will take, and of the longest document."""
    corpus = read_corpus(str(data))
    split = make_split(corpus.labels, duplicate_groups(corpus.texts), corpus.ids, 0)
    recipe = Recipe(epochs=1)
    opened = open_model(model, corpus.names, recipe.seed, lambda: [corpus.texts[number] for number in split.train])
    encoded = opened.tokenizer.encode(corpus.texts, recipe.length, recipe.head_share)
    plan = make_plan(split.train, encoded.lengths, recipe, static)
    return max(shape.tokens for shape in plan.shapes), int(encoded.lengths.max())


def peak(words: Sequence[str]) -> int:
    """Peak bytes of a command line's process."""
    with tempfile.TemporaryDirectory(prefix="duygu-memory-") as folder:
        answer = Path(folder) / "peak.json"
        command = [sys.executable, __file__, CHILD, str(answer), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(answer.read_text(encoding="utf-8"))


def child(answer: str, *words: str) -> int:
    """Run the command line here and leave this process's peak; a run that collapsed (3) has used as much as any."""
    with redirect_stdout(sys.stderr):
        code = duygu(words)
    Path(answer).write_text(json.dumps(peak_memory()), encoding="utf-8")
    return 0 if code == 3 else code


def some(data: Path, out: Path, count: int, longest: bool) -> Path:
    """A corpus of ``count`` documents of each label, the first or the longest ones."""
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        (out / folder.name).mkdir(parents=True)
        files = sorted(folder.glob("*.txt"))
        if longest:
            files.sort(key=lambda path: path.stat().st_size, reverse=True)
        for path in files[:count]:
            (out / folder.name / path.name).write_bytes(path.read_bytes())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=int, default=400, help="of each label")
    parser.add_argument("--longest", action="store_true", help="the longest documents, not the first")
    parser.add_argument("--engines", default="torch,jax")
    parser.add_argument("--precisions", default="fp32,bf16")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="duygu-memory-") as folder:
        data = some(given.data, Path(folder) / "texts", given.documents, given.longest)
        table(given.model, data, given.engines.split(","), given.precisions.split(","))


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        sys.exit(child(*sys.argv[2:]))
    main()
