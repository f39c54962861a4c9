"""What does each remedy bring on a data folder, in both engines?

    python benchmarks/remedies.py DATA --out FOLDER [--split FILE] [--model tiny] [--seeds 13,42,87] [--only plain,ema]

Runs `duygu compare` once per remedy, each the recipe of the model with one thing changed, and prints a Markdown table:
accuracy over the seeds, difference to the plain recipe on the same seeds, and how many documents get the same label
from both engines. A comparison that was stopped goes on where it was, and a finished one is not repeated, so the
command can be given again at any time. Options after -- go to duygu compare, such as -- --set epochs=3.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from duygu.files import read_json

PLAIN = "plain"
REMEDIES: Mapping[str, tuple[str, ...]] = {
    PLAIN: (),
    "balanced class weights": ("class_weights=balanced",),
    "class weights 1.1 and 0.9": ("class_weights=1.1,0.9",),
    "label smoothing": ("label_smoothing=0.1",),
    "early stopping": ("patience=2",),
    "layer-wise decay": ("layer_decay=0.8",),
    "frozen embeddings": ("frozen=1",),
    "frozen embeddings and first layer": ("frozen=2",),
    "fresh top layer": ("fresh_layers=1",),
    "averaged weights": ("ema=0.99",),
    "R-Drop": ("r_drop=1",),
    "word dropout": ("word_dropout=0.1",),
    "word swap": ("word_swap=0.1",),
    "accumulation by 4": ("microbatch=4",),
}
FINISHED = (0, 3)  # exit codes of a comparison that has its result, collapsed runs included

Comparison = Mapping[str, Any]


def folder_of(out: Path, remedy: str) -> Path:
    """Where the comparison of a remedy lies."""
    return out / "".join(letter if letter.isalnum() else "-" for letter in remedy)


def run(remedy: str, given: argparse.Namespace) -> Comparison:
    """The comparison of one remedy, made or read."""
    folder = folder_of(given.out, remedy)
    command = [sys.executable, "-m", "duygu", "compare", given.data, "--model", given.model, "--seeds", given.seeds]
    command += ["--out", str(folder), *(word for setting in REMEDIES[remedy] for word in ("--set", setting))]
    command += ["--split", given.split] if given.split else []
    command += ["--resume"] if folder.exists() else []
    code = subprocess.run([*command, *given.more], stdout=subprocess.DEVNULL, check=False).returncode
    if code not in FINISHED:
        sys.exit(code)
    return read_json(folder / "comparison.json")


def accuracies(comparison: Comparison, engine: str) -> dict[int, float]:
    """Test accuracy by seed."""
    return {run["seed"]: run["test"]["accuracy"] for run in comparison["runs"] if run["engine"] == engine}


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean and standard deviation in points; one value has no deviation."""
    mean = f"{100 * statistics.mean(values):{sign}.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def row(remedy: str, found: Comparison, plain: Comparison) -> list[str]:
    """One line of the table."""
    cells = [remedy, " ".join(f"`{setting}`" for setting in REMEDIES[remedy])]
    for engine in found["engines"]:
        mine, without = accuracies(found, engine), accuracies(plain, engine)
        gains = [mine[seed] - without[seed] for seed in mine if seed in without]
        cells += [spread(list(mine.values())), "" if remedy == PLAIN else spread(gains, "+")]
    shares = [pair["agreement"] for pair in found["pairs"] if pair["engines"][0] != pair["engines"][1]]
    lost = sum(bool(run["collapsed"]) for run in found["runs"])
    again = sum(run["restarts"] > 0 for run in found["runs"])
    return [*cells, f"{100 * statistics.mean(shares):.1f}" if shares else "", f"{lost} / {again}"]


def table(found: Mapping[str, Comparison]) -> str:
    """Markdown."""
    engines = list(found[PLAIN]["engines"])
    columns = [title for engine in engines for title in (f"{engine}, %", "to plain")]
    head = ["remedy", "recipe", *columns, "same label, %", "collapsed / restarted"]
    rows = [head, ["---"] * len(head), *(row(remedy, result, found[PLAIN]) for remedy, result in found.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seeds", default="13,42,87")
    parser.add_argument("--only", default=",".join(REMEDIES), help="remedies by name; plain is always there")
    words = [*sys.argv[1:], "--"]
    cut = words.index("--")
    given = parser.parse_args(words[:cut], argparse.Namespace(more=words[cut + 1 : -1]))
    wanted = [name for name in REMEDIES if name == PLAIN or name in given.only.split(",")]
    print(table({remedy: run(remedy, given) for remedy in wanted}))


if __name__ == "__main__":
    main()
