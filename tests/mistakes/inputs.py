"""What mistakes are made of: folders and tables in which all is well but for the one thing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Make = Callable[[Path], list[str]]

LABELS = ("up", "down")
WORDS = ("profit", "loss", "order", "debt", "bond", "crude", "harvest", "merger", "strike", "quota", "lira", "export")
SPLIT = ("--out", "split.json")
TRAIN = ("--engine", "torch", "--model", "tiny", "--out", "run")
ROWS = [
    {"id": f"n{number}", "text": f"{word} {number * 7919} at {word}s {number * 104729}", "label": LABELS[number % 2]}
    for number, word in enumerate(WORDS)
]
GOOD = {f"{row['label']}/{row['id']}.txt": row["text"] for row in ROWS}
CSV = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS)
JSON = "".join(json.dumps(row) + "\n" for row in ROWS)
BIG = 100_000_000  # characters


def files(content: Mapping[str, str | bytes], *options: str, good: bool = True, data: str = "texts") -> Make:
    """``duygu split`` on a folder of two labels, to which these files are added, or which is made of them alone."""

    def make(folder: Path) -> list[str]:
        for name, text in {**(GOOD if good else {}), **content}.items():
            path = folder / data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["split", data, *SPLIT, *options]

    return make


def table(content: str | bytes | Callable[[], str], *options: str, name: str = "news.csv") -> Make:
    """``duygu split`` on one file; what is large is made when it is asked for."""

    def make(folder: Path) -> list[str]:
        text = content() if callable(content) else content
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["split", name, *SPLIT, *options]

    return make


def lines(*last: str | bytes, name: str = "news.jsonl", options: Sequence[str] = ()) -> Make:
    """The same of JSON lines: good ones, then these."""
    ends = b"".join(line if isinstance(line, bytes) else line.encode() + b"\n" for line in last)
    return table(JSON.encode() + ends, *options, name=name)


def columns(given: Mapping[str, Sequence[object]], *options: str, damage: Callable[[bytes], bytes] = bytes) -> Make:
    """The same of a Parquet file with these columns in place of the good ones of their names."""

    def make(folder: Path) -> list[str]:
        import pyarrow as pa
        import pyarrow.parquet

        good: dict[str, Sequence[object]] = {key: [row[key] for row in ROWS] for key in ROWS[0]}
        path = folder / "news.parquet"
        pa.parquet.write_table(pa.table({**good, **given}), path)
        path.write_bytes(damage(path.read_bytes()))
        return ["split", "news.parquet", *SPLIT, *options]

    return make


def then(make: Make, change: Callable[[Path], object]) -> Make:
    """The same, and one thing more is done to the folder."""

    def changed(folder: Path) -> list[str]:
        words = make(folder)
        change(folder)
        return words

    return changed
