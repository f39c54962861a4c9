"""What can be wrong with a table of texts: CSV, TSV, JSON lines and Parquet."""

from __future__ import annotations

import json
from pathlib import Path

from tests.mistakes.case import Mistake
from tests.mistakes.inputs import BIG, CSV, ROWS, columns, lines, table, then

FIRST = CSV.splitlines()[1]
IDS = "id,text,label\n" + "".join(f"{row['id']},{row['text']},{row['label']}\n" for row in ROWS)
DATED = "text,label,date\n" + "".join(
    f"{row['text']},{row['label']},2024-01-{n + 1:02}\n" for n, row in enumerate(ROWS)
)
DEEP = 100_000


def loop(folder: Path) -> None:
    (folder / "news.csv").unlink()
    (folder / "news.csv").symlink_to("news.csv")


def last(text: str, *options: str, start: str = CSV) -> object:
    """A good CSV file with one more row."""
    return table(start + text, *options)


def dated(date: str) -> object:
    return table(f"{DATED}rose,up,{date}\n", "--date-column", "date")


COMMAS = [
    ("the file is empty", table(""), "the table is empty", "news.csv"),
    ("the file has blank lines only", table("\n\n \n"), "the table is empty", "news.csv"),
    ("there are names of columns and no rows", table("text,label\n"), "the table has no rows", "news.csv"),
    ("there is no row of names", table(CSV.split("\n", 1)[1]), "there is no column 'text'", "news.csv:1"),
    ("the column of texts has another name", table("body,label\na,up\n"), "there is no column 'text'", "news.csv:1"),
    ("the column of labels has another name", table("text,mood\na,up\n"), "there is no column 'label'", "news.csv:1"),
    (
        "a column's name is written with capitals",
        table("Text,Label\na,up\n"),
        "did you mean 'Text'?",
        "news.csv:1",
    ),
    ("the text column named is not there", table(CSV, "--text-column", "body"), "no column 'body'", "news.csv:1"),
    ("the label column named is not there", table(CSV, "--label-column", "mood"), "no column 'mood'", "news.csv:1"),
    ("the id column named is not there", table(CSV, "--id-column", "nr"), "no column 'nr'", "news.csv:1"),
    ("the date column named is not there", table(CSV, "--date-column", "day"), "no column 'day'", "news.csv:1"),
    ("the source column named is not there", table(CSV, "--source-column", "by"), "no column 'by'", "news.csv:1"),
    (
        "text and label are one column",
        table(CSV, "--text-column", "label"),
        "cannot be the same column",
        "--text-column",
    ),
    ("a column stands twice", table("text,label,text\na,up,b\n"), "the column 'text' stands twice", "news.csv:1"),
    (
        "a column stands twice but for spaces",
        table("text,label,label \na,up,b\n"),
        "'label' stands twice",
        "news.csv:1",
    ),
    ("cells are parted by |", table(CSV.replace(",", "|")), "there is no column 'text'", "news.csv:1"),
    ("a .tsv file is parted by commas", table(CSV, name="news.tsv"), "there is no column 'text'", "news.tsv:1"),
    ("a row has too few cells", last("rose\n"), "the row has 1 cells, the names of the columns are 2", "news.csv:14"),
    ("a row has too many cells", last("rose, and rose,up\n"), "the row has 3 cells", "news.csv:14"),
    (
        "many rows are ragged",
        last("a\nb\nc\nd\ne\nf\n"),
        "(5 other faults: line 15, line 16, line 17, ...)",
        "news.csv:14",
    ),
    ("a quote is never closed", last('"rose,up\nfell,down\n'), "not valid CSV: unexpected end of data", "news.csv:14"),
    ("a quote stands within a quoted cell", last('"a "b" c",up\n'), "not valid CSV", "news.csv:14"),
    (
        "a quote is open in the first row",
        table('"text,label\na,up\n'),
        "the names of the columns are not CSV",
        "news.csv:1",
    ),
    ("the names of the columns stand again", last("text,label\n"), "stand here again", "news.csv:14"),
    ("a row has no label", last("rose,\n"), "the row has no label", "news.csv:14"),
    ("a label is blank", last("rose,  \n"), "the row has no label", "news.csv:14"),
    (
        "a label is written with other spaces",
        last("rose, up\n"),
        "'up' is also written with other spaces",
        "news.csv:14",
    ),
    ("labels differ in case only", last("rose,UP\n"), "['UP', 'up'] differ only in case or spaces", "news.csv"),
    ("all rows have one label", table(CSV.replace("down", "up")), "all texts have the one label 'up'", "news.csv"),
    ("a label has one row", last("same,flat\n"), "no document with the label of row-00000013", "news.csv"),
    ("text and label were mixed up", last(f"up,{'rose ' * 50}\n"), "the label has 2", "news.csv:14"),
    (
        "every text is its own label",
        table(CSV, "--label-column", "text", "--text-column", "label"),
        "no document",
        "news.csv",
    ),
    ("rows without text are too many", last(",up\n" * 2), "2 of 14 documents are empty", "news.csv:14"),
    (
        "an id stands twice",
        last("n0,rose,up\n", "--id-column", "id", start=IDS),
        "stand more than once (n0)",
        "news.csv:14",
    ),
    ("a row has no id", last(",rose,up\n", "--id-column", "id", start=IDS), "the row has no id", "news.csv:14"),
    (
        "an id has thousands of characters",
        last(f"{'x' * 2000},rose,up\n", "--id-column", "id", start=IDS),
        "the id has 2,000 characters",
        "news.csv:14",
    ),
    ("a date is written with slashes", dated("31/01/2024"), "'31/01/2024' is not a date", "news.csv:14"),
    ("a date is not in the calendar", dated("2024-02-31"), "'2024-02-31' is not a date", "news.csv:14"),
    ("a date is a word", dated("yesterday"), "'yesterday' is not a date", "news.csv:14"),
    ("a date leaves the calendar in UTC", dated("0001-01-01T00:00+03:00"), "is not a date", "news.csv:14"),
    ("a zero byte is among the cells", last("ro\0se,up\n"), "it holds a zero character", "news.csv:14"),
    (
        "a row is in another encoding",
        table(f"{CSV}çğı,up\nçğı öşü,up\n".encode() + b"k\xe2r,up\n"),
        "mixes",
        "news.csv:16",
    ),
    ("the table is binary", table(b"\x7fELF\0\xff\xfe\x80"), "binary data", "news.csv:1"),
    ("half a character", table(CSV.encode() + b"\xed\xa0\x80,up\n"), "half a character", "news.csv:14"),
    ("a UTF-16 table that was cut", table(CSV.encode("utf-16")[:-1]), "not valid UTF-16", "news.csv:1"),
    ("the encoding given is not the table's", table(CSV + "kâr,up\n", "--encoding", "ascii"), "not valid ascii", ":14"),
    ("a cell has 100 MB", table(lambda: f'{CSV}"{"a" * BIG}",up\n'), "the row is too long", "news.csv:14"),
    ("a cell has 5 MB", table(lambda: f"{CSV}{'a' * 5_000_000},up\n"), "so is hardly one document", "news.csv:14"),
    ("a line has 100 MB", table(lambda: "a" * BIG), "the first row is too long", "news.csv:1"),
    (
        "a quote opens on 100 MB of rows",
        table(lambda: f'{CSV}"{FIRST}\n' * (BIG // 500)),
        "not valid CSV",
        "news.csv:14",
    ),
    (
        "the table may not be read",
        then(table(CSV), lambda f: (f / "news.csv").chmod(0)),
        "permission denied",
        "news.csv",
    ),
    ("the table is a link to itself", then(table(CSV), loop), "the path cannot be used", "news.csv"),
]

OBJECTS = [
    ("a line is not JSON", lines("rose"), "not valid JSON at column 1", "news.jsonl:13"),
    ("the last line was cut", lines('{"text": "ro'), "not valid JSON at column", "news.jsonl:13"),
    (
        "the file is one JSON list",
        table("[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]", name="news.jsonl"),
        "JSON",
        ":1",
    ),
    (
        "objects are written over several lines",
        table(json.dumps(ROWS[0], indent=1), name="n.jsonl"),
        "not valid JSON",
        ":1",
    ),
    ("a line is a list", lines('["rose", "up"]'), "the line is not a JSON object", "news.jsonl:13"),
    ("a line is a bare text", lines('"rose"'), "the line is not a JSON object", "news.jsonl:13"),
    ("an object has no label", lines('{"text": "rose"}'), "the object has no 'label'", "news.jsonl:13"),
    ("the first object has no text", table('{"label": "up"}\n', name="news.jsonl"), "there is no column 'text'", ":1"),
    ("an object names one thing twice", lines('{"text": "a", "text": "b", "label": "up"}'), "twice", "news.jsonl:13"),
    ("a text is a number", lines('{"text": 7, "label": "up"}'), "the text is a number, not text", "news.jsonl:13"),
    ("a text is a list", lines('{"text": ["a"], "label": "up"}'), "the text is a list", "news.jsonl:13"),
    ("a label is a fraction", lines('{"text": "a", "label": 0.5}'), "the label is a number with a fraction", ":13"),
    ("a label is no number", lines('{"text": "a", "label": NaN}'), "the label is a number with a fraction", ":13"),
    ("a label is an object", lines('{"text": "a", "label": {"up": 1}}'), "the label is an object", "news.jsonl:13"),
    ("a label is null", lines('{"text": "a", "label": null}'), "the row has no label", "news.jsonl:13"),
    ("a text is half a character", lines('{"text": "\\ud800", "label": "up"}'), "a lone surrogate, U+D800", ":13"),
    ("a label is half a character", lines('{"text": "a", "label": "\\udfff"}'), "a lone surrogate, U+DFFF", ":13"),
    ("an object is nested 100,000 deep", lines('{"text":' + "[" * DEEP + "]" * DEEP + "}"), "nested too deeply", ":13"),
    ("a number has 5,000 digits", lines('{"text": "a", "label": ' + "1" * 5000 + "}"), "not usable JSON", ":13"),
    (
        "a line has 100 MB",
        table(lambda: '{"text": "' + "a" * BIG, name="news.jsonl"),
        "too long to be one",
        "news.jsonl:1",
    ),
    ("the file is empty", table("", name="news.jsonl"), "the table has no rows", "news.jsonl"),
    ("the file is CSV", table(CSV, name="news.jsonl"), "not valid JSON at column 1", "news.jsonl:1"),
    (
        "a date is a number",
        lines(json.dumps({**ROWS[0], "d": 1}), options=("--date-column", "d")),
        "no column 'd'",
        ":1",
    ),
]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """Its pages overwritten, its footer sound."""
    return content[:4] + b"\xff" * 200 + content[204:]


PARQUET = [
    ("the file is text", table(CSV, name="news.parquet"), "not a sound Parquet file", "news.parquet"),
    ("the file is empty", table("", name="news.parquet"), "not a sound Parquet file", "news.parquet"),
    ("the file was cut", columns({}, damage=cut), "not a sound Parquet file", "news.parquet"),
    ("its pages are damaged", columns({}, damage=flipped), "not a sound Parquet file", "news.parquet"),
    (
        "the column named is not there",
        columns({}, "--text-column", "body"),
        "there is no column 'body'",
        "news.parquet",
    ),
    ("texts are numbers", columns({"text": range(12)}), "the text is a number, not text", "news.parquet:1"),
    ("labels are fractions", columns({"label": [0.5] * 12}), "the label is a number with a fraction", "news.parquet:1"),
    ("labels are lists", columns({"label": [["up"]] * 12}), "the label is a list", "news.parquet:1"),
    (
        "a label is null",
        columns({"label": [None, *["up", "down"] * 5, "up"]}),
        "the row has no label",
        "news.parquet:1",
    ),
    ("half of the texts are null", columns({"text": ["a", None] * 6}), "6 of 12 documents are empty", "news.parquet:2"),
    ("texts are bytes of another encoding", columns({"text": [b"k\xe2r"] * 12}), "not a sound Parquet file", ":1"),
    ("an id stands twice", columns({"id": ["n"] * 12}, "--id-column", "id"), "stand more than once", "news.parquet:12"),
    ("dates are fractions", columns({"d": [0.5] * 12}, "--date-column", "d"), "the date is a number", "news.parquet:1"),
    ("there are no rows", columns({"id": [], "text": [], "label": []}), "the table has no rows", "news.parquet"),
    ("an encoding is given", columns({}, "--encoding", "utf-8"), "a Parquet file knows its own encoding", "--encoding"),
]

AREAS = {"CSV and TSV": COMMAS, "JSON lines": OBJECTS, "Parquet": PARQUET}
MISTAKES = [Mistake(area, *case) for area, cases in AREAS.items() for case in cases]
