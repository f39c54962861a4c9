"""Whatever bytes a source is made of, reading it gives a corpus or a `UserError` that names place and fix."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duygu.data import folders
from duygu.data.corpus import Corpus, read_corpus
from duygu.data.sources import DataFormat
from duygu.errors import DataError, UserError

EVERY = DataFormat("text", "label", "id", "date", "source")
any_text = st.text(st.characters(exclude_categories=()), max_size=12)
cells = st.one_of(any_text, st.sampled_from(["up", "down", "2024-01-31", '"', ",", "\n", "\r", "a b"]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), cells),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(cells, inner, max_size=2)),
    max_leaves=4,
)
often = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_read_or_told(path: Path, format: DataFormat) -> None:
    """A sound corpus, or a `UserError` with all its parts."""
    try:
        corpus = read_corpus(path, **format.as_dict())
    except UserError as error:
        told = error
    else:
        assert_sound(corpus)
        return
    assert told.problem
    assert told.where
    assert told.fix
    assert str(told).encode()


def assert_sound(corpus: Corpus) -> None:
    assert len(corpus.names) > 1
    assert all(text.encode() for text in corpus.texts)
    assert len(set(corpus.ids)) == len(corpus.ids) == len(corpus.labels) == len(corpus.texts)


@given(st.lists(st.binary(max_size=80), min_size=2, max_size=4), st.sampled_from([None, "utf-8", "utf-16", "cp1254"]))
@often
def test_any_files_are_read_or_told_of(tmp_path: Path, contents: list[bytes], encoding: str | None) -> None:
    for path in tmp_path.rglob("*.txt"):
        path.unlink()
    for number, content in enumerate(contents):
        (tmp_path / "ud"[number % 2]).mkdir(exist_ok=True)
        (tmp_path / "ud"[number % 2] / f"{number}.txt").write_bytes(content)
    assert_read_or_told(tmp_path, DataFormat(encoding=encoding))


@given(
    st.sampled_from(
        [b"", b"text,label\n", b"text\tlabel\n", b"text;label\r\n", b'{"text": "a", "label": 1}\n', b"PAR1"]
    ),
    st.binary(max_size=120),
    st.sampled_from(["csv", "tsv", "jsonl", "parquet"]),
    st.sampled_from([None, "utf-8", "utf-16", "cp1254", "utf-7"]),
)
@often
def test_any_bytes_as_a_table_are_read_or_told_of(
    tmp_path: Path, start: bytes, rest: bytes, ending: str, encoding: str | None
) -> None:
    path = tmp_path / f"t.{ending}"
    path.write_bytes(start + rest)
    assert_read_or_told(path, DataFormat(encoding=encoding))


@given(st.lists(st.lists(cells, min_size=4, max_size=6), max_size=6), st.sampled_from(["utf-8", "utf-16", "cp1254"]))
@often
def test_any_cells_are_read_or_told_of(tmp_path: Path, rows: list[list[str]], encoding: str) -> None:
    lines = ["text,label,id,date,source", *(",".join(row) for row in rows)]
    path = tmp_path / "t.csv"
    path.write_bytes("\n".join(lines).encode(encoding, "replace"))
    assert_read_or_told(path, EVERY)


@given(st.lists(st.dictionaries(st.sampled_from(["text", "label", "id", "date", "source"]), values), max_size=6))
@often
def test_any_objects_are_read_or_told_of(tmp_path: Path, objects: list[dict[str, object]]) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, objects)), encoding="utf-8")
    assert_read_or_told(path, EVERY)


@given(
    st.dictionaries(st.sampled_from(["text", "label", "id", "date"]), st.lists(values, min_size=3, max_size=3)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
)
@often
def test_any_columns_of_a_damaged_parquet_file_are_read_or_told_of(
    tmp_path: Path, columns: dict[str, list[object]], damage: list[tuple[float, int]]
) -> None:
    """Bytes are changed anywhere: in the pages, in the footer."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    made = io.BytesIO()
    with suppress(pa.ArrowException, ValueError, OverflowError, TypeError):  # not every list is a column
        parquet.write_table(pa.table({"text": ["a", "b", "c"], "label": ["up", "down", "up"], **columns}), made)
    content = bytearray(made.getvalue())
    for place, byte in damage:
        if content:
            content[int(place * (len(content) - 1))] = byte
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    assert_read_or_told(
        path, DataFormat(id_column="id" if "id" in columns else None, date_column="date" if "date" in columns else None)
    )


def test_parquet_without_pyarrow_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="needs pyarrow") as caught:
        read_corpus(tmp_path / "t.parquet")
    assert "pip install 'duygu[parquet]'" in caught.value.fix


def _remove(path: Path) -> None:
    path.unlink()


def _grow(path: Path) -> None:
    path.write_text("x" * 100, encoding="utf-8")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(("change", "says"), [(_remove, "no such file"), (_pipe, "became a pipe"), (_grow, None)])
def test_file_that_changes_after_it_was_listed_is_read_as_it_is_or_told_of(
    change: Callable[[Path], None], says: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("up/a.txt", "up/b.txt", "down/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text", encoding="utf-8")
    listed = folders._is_inside

    def is_inside(path: Path, root: Path) -> bool:
        found = listed(path, root)
        if path.name == "b.txt":
            change(path)
        return found

    monkeypatch.setattr(folders, "_is_inside", is_inside)
    if says is None:
        assert read_corpus(tmp_path).texts[-1] == "x" * 100
        return
    with pytest.raises(DataError, match=says) as caught:
        read_corpus(tmp_path)
    assert caught.value.where == f"{tmp_path}/up/b.txt"
