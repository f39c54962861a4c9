"""Folders and tables of every kind: the same corpus, the same digest, the same run; columns, dates and sources."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from duygu import cli
from duygu.data.corpus import Corpus, clean, read_corpus
from duygu.data.dates import iso_date, source_and_date
from duygu.data.demo import demo_corpus
from duygu.data.sources import TOTAL_LIMIT, DataFormat
from duygu.errors import DataError
from duygu.recipe import Recipe
from duygu.training.loop import Job, train
from duygu.training.progress import Silent
from tests.data.forms import WRITERS, rows_of, write_delimited

NAMED = DataFormat(id_column="id", date_column="date", source_column="source")
SMALL = "text,label\nrose,up\nfell,down\n"


@pytest.fixture(scope="module")
def demo() -> Corpus:
    return read_corpus(demo_corpus())


def table(folder: Path, content: str | bytes, name: str = "table.csv", **options: str) -> Corpus:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_corpus(path, **options)


@pytest.mark.parametrize("name", WRITERS)
def test_same_corpus_has_the_same_digest_in_every_form(name: str, demo: Corpus, tmp_path: Path) -> None:
    found = read_corpus(WRITERS[name](tmp_path / name, rows_of(demo)), **NAMED.as_dict())
    assert found.digest == demo.digest
    assert (found.ids, found.texts, found.names) == (demo.ids, demo.texts, demo.names)
    assert (found.dates, found.sources) == (demo.dates, demo.sources)
    assert found.warnings == ()


@pytest.mark.parametrize("name", WRITERS)
def test_rows_without_ids_are_numbered_alike_in_every_form(name: str, demo: Corpus, tmp_path: Path) -> None:
    rows = rows_of(demo)
    found = read_corpus(WRITERS[name](tmp_path / name, rows))
    assert found.ids == tuple(f"row-{number:08}" for number in range(1, len(rows) + 1))
    assert found.texts == tuple(row[2] for row in rows)
    assert (found.dates, found.sources) == ((), ())


def test_same_corpus_gives_the_same_run_in_every_form(texts: Path, tmp_path: Path) -> None:
    """Digest, split, weights after two epochs and predictions are equal; the record says how each was read."""
    recipe = Recipe(epochs=2, batch=16, length=16, lr=1e-3, precision="fp32")
    rows = rows_of(read_corpus(texts))
    sources: dict[str, tuple[Path, DataFormat]] = {"folder": (texts, DataFormat())}
    for name in ("semicolons.csv", "lines.jsonl", "table.parquet"):
        sources[name] = WRITERS[name](tmp_path / name, rows), DataFormat(id_column="id")
    made: dict[str, tuple[bytes | str, ...]] = {}
    for name, (data, format) in sources.items():
        out = tmp_path / f"run-{name}"
        train(Job(str(data), "tiny", "torch", recipe, out, threads=1, format=format), Silent())
        weights = next((out / "model").glob("*.safetensors")).read_bytes()
        record = json.loads((out / "data.json").read_text(encoding="utf-8"))
        made[name] = weights, (out / "predictions.csv").read_bytes(), record["corpus"], record["split"]
        assert (record["root"], record["format"]) == (str(data), format.as_dict())
    assert len(set(made.values())) == 1


def test_run_remembers_how_its_table_was_laid_out(
    texts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Gone on with and evaluated without naming the columns again; another table is not read that way."""
    data = write_delimited(tmp_path / "t.csv", rows_of(read_corpus(texts)), encoding="utf-16-le")
    data.write_bytes(data.read_bytes().replace("text".encode("utf-16-le"), "body".encode("utf-16-le"), 1))
    run = ["--engine", "torch", "--model", "tiny", "--out", str(tmp_path / "run"), "--set", "epochs=1"]
    run += ["--set", "length=16", "--threads", "1", "--json"]
    columns = ["--text-column", "body", "--id-column", "id", "--encoding", "utf-16-le"]
    assert cli.main(["train", str(data), *run, *columns]) in (0, 3)
    first = capfd.readouterr().out
    assert cli.main(["train", str(data), *run, "--resume"]) in (0, 3)
    assert capfd.readouterr().out == first
    assert cli.main(["evaluate", str(tmp_path / "run"), str(data), "--engine", "torch", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["part"] == "test"
    other = tmp_path / "other.csv"
    other.write_bytes(data.read_bytes())
    assert cli.main(["evaluate", str(tmp_path / "run"), str(other), "--engine", "torch"]) == 2


def test_runs_of_a_comparison_read_the_table_as_they_were_told(
    texts: Path, tmp_path: Path, duygu: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Every option reaches the process of the run: its record and its digest show each."""
    rows = [[id, label, text, "31.01.2024", "gazette"] for id, label, text, *_ in rows_of(read_corpus(texts))]
    data = write_delimited(tmp_path / "t.csv", rows, encoding="utf-16-le")
    data.write_bytes(data.read_bytes().replace("text".encode("utf-16-le"), "body".encode("utf-16-le"), 1))
    out = tmp_path / "out"
    words = ["--text-column", "body", "--label-column", "label", "--id-column", "id", "--date-column", "date"]
    words += ["--source-column", "source", "--encoding", "utf-16-le", "--engines", "torch", "--model", "tiny"]
    done = duygu("compare", data, *words, "--out", out, "--set", "epochs=1", "--set", "length=16", "--threads", "1")
    assert done.returncode in (0, 3), done.stderr
    record = json.loads((out / "runs/torch-13/data.json").read_text(encoding="utf-8"))
    assert record["corpus"] == read_corpus(texts).digest
    assert record["dates"] == {"documents": 60, "first": "2024-01-31", "last": "2024-01-31"}
    assert record["sources"] == {"gazette": 60}
    assert record["encodings"] == {"utf-16-le (as given)": 60}


def test_columns_are_named_by_options_and_spaces_around_names_do_not_count(tmp_path: Path) -> None:
    content = "id ; body; mood\n2;rose; up\n1;fell;down\n"
    found = table(tmp_path, content, text_column="body", label_column="mood", id_column="id")
    assert (found.ids, found.texts, found.names) == (("1", "2"), ("fell", "rose"), ("down", "up"))


def test_cells_hold_delimiters_quotes_and_lines(tmp_path: Path) -> None:
    content = 'text,label\r\n"a ""b"",\r\nc",up\r\n\r\nplain "d" e,down\r\n'
    assert table(tmp_path, content).texts == ('a "b", c', 'plain "d" e')


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system_end_rows(end: str, tmp_path: Path) -> None:
    assert table(tmp_path, SMALL.replace("\n", end)).texts == ("rose", "fell")
    lines = '{"text": "rose", "label": 1}\n\n{"label": 0, "text": "fell", "more": [NaN]}'.replace("\n", end)
    found = table(tmp_path, lines, "table.jsonl")
    assert (found.texts, found.names) == (("rose", "fell"), ("0", "1"))


def test_whole_numbers_and_truth_values_are_labels_alike_in_every_form(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    digests: set[str] = set()
    for labels in ([0, 1], [False, True]):
        pa.parquet.write_table(pa.table({"text": ["a", "b"], "label": labels}), tmp_path / "t.parquet")
        parquet = read_corpus(tmp_path / "t.parquet")
        lines = [json.dumps({"text": text, "label": label}) for text, label in zip("ab", labels, strict=True)]
        json_lines = table(tmp_path, "\n".join(lines), "t.jsonl")
        words = [str(label).lower() for label in labels]
        commas = table(tmp_path, f"text,label\na,{words[0]}\nb,{words[1]}\n")
        assert parquet.digest == json_lines.digest == commas.digest
        digests.add(parquet.digest)
    assert len(digests) == 2


def test_parquet_dates_moments_and_bytes_are_read_as_they_would_be_written(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    zone = pa.timestamp("ns", "Europe/Istanbul")
    moment = datetime.datetime(2024, 1, 31, 9, 30, tzinfo=datetime.UTC)
    columns = {
        "date32": pa.array([datetime.date(2024, 1, 31), None]),
        "moment": pa.array([moment, None], zone),
        "midnight": pa.array([datetime.datetime(2024, 1, 31), None], pa.timestamp("s")),
    }
    texts = pa.array([b"k\xc3\xa2r", b"zarar"])
    pa.parquet.write_table(pa.table({"text": texts, "label": ["up", "down"], **columns}), tmp_path / "t.parquet")
    for column, expected in zip(columns, ("2024-01-31", "2024-01-31T09:30:00", "2024-01-31"), strict=True):
        found = read_corpus(tmp_path / "t.parquet", date_column=column)
        assert found.dates == (expected, None)
        assert found.texts == ("kâr", "zarar")


def test_empty_cells_are_unknown_dates_and_sources(tmp_path: Path) -> None:
    content = "text,label,date,source\na,up,31.01.2024,\nb,down,,gazette\n"
    found = table(tmp_path, content, date_column="date", source_column="source")
    assert found.dates == ("2024-01-31", None)
    assert found.sources == (None, "gazette")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2024-01-31", "2024-01-31"),
        (" 20240131 ", "2024-01-31"),
        ("31.01.2024", "2024-01-31"),
        ("1.2.2024 09:30", "2024-02-01T09:30:00"),
        ("2024-01-31T00:00", "2024-01-31"),
        ("2024-01-31T01:30+03:00", "2024-01-30T22:30:00"),
    ],
)
def test_dates_become_iso_text_that_sorts(written: str, expected: str) -> None:
    assert iso_date(written) == expected


@pytest.mark.parametrize("written", ["", "31/01/2024", "2024-13-01", "32.01.2024", "soon", "0001-01-01T00:00+03:00"])
def test_what_is_no_date_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        iso_date(written)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gazette_2024-01-31.txt", ("gazette", "2024-01-31")),
        ("akbank_01.02.2021_558.txt", ("akbank", "2021-02-01")),
        ("haberler_4.11.2020.txt", ("haberler", "2020-11-04")),
        ("two_words_20240131-2.txt", ("two_words", "2024-01-31")),
        ("gazette_2024-02-31.txt", (None, None)),
        ("gazette_2024.txt", (None, None)),
        ("_2024-01-31.txt", (None, None)),
        ("a.txt", (None, None)),
    ],
)
def test_file_names_tell_source_and_date(name: str, expected: tuple[str | None, str | None]) -> None:
    assert source_and_date(name) == expected


def test_encoding_is_forced_on_every_source(tmp_path: Path) -> None:
    for label, data in (("down", b"fell"), ("up", "прибыль".encode("iso8859-5"))):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.txt").write_bytes(data)
    found = read_corpus(tmp_path, encoding="ISO-8859-5")
    assert found.texts == ("fell", "прибыль")
    assert found.encodings == (("iso8859-5 (as given)", 2),)
    assert found.warnings == ()
    russian = "text,label\nприбыль,up\nубыток,down\n"
    assert table(tmp_path, russian.encode("cp1251"), encoding="cp1251").texts == ("прибыль", "убыток")
    assert table(tmp_path, russian.encode("utf-8-sig"), encoding="utf8").texts == ("прибыль", "убыток")
    assert table(tmp_path, russian.encode("utf-16"), encoding="utf-16").texts == ("прибыль", "убыток")


def test_options_name_every_field_of_the_format() -> None:
    format = DataFormat("a", "b", "c", "d", "e", "f")
    words = "--text-column a --label-column b --id-column c --date-column d --source-column e --encoding f"
    assert format.options() == words.split()
    assert DataFormat(encoding="f").options() == ["--encoding", "f"]
    assert replace(format, id_column=None).as_dict().keys() == format.as_dict().keys() - {"id_column"}


def test_piled_marks_take_no_time_and_are_cut(tmp_path: Path) -> None:
    """Composing 200,000 marks on one letter would take minutes: its time is the square of their number."""
    piled = "a" + "\u0316\u0300" * 100_000 + "b"
    cut = clean(piled)
    assert len(cut) < 110
    assert clean(cut) == cut
    found = table(tmp_path, f"text,label\n{piled},up\nb,down\n")
    assert found.texts[0] == cut
    twice = clean("a" + "\u0344" * 99)  # each becomes two marks
    assert clean(twice) == twice


def test_more_text_than_memory_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duygu.data.corpus.TOTAL_LIMIT", 5)
    assert TOTAL_LIMIT > 10**9
    with pytest.raises(DataError, match="more than 5 characters") as caught:
        table(tmp_path, SMALL)
    assert caught.value.where == f"{tmp_path}/table.csv:3"


def test_label_folders_without_texts_are_told(tmp_path: Path) -> None:
    for name in ("up/a.txt", "down/a.txt", "neutral/a.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("text", encoding="utf-8")
    assert "no .txt files lie below the folder(s) neutral" in read_corpus(tmp_path).warnings[-1]
