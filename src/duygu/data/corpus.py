"""What there is to learn from: labelled texts, read once, cleaned once, in an order that never depends on the disk.

A source (`duygu.data.folders`, `duygu.data.tables`) yields `Document` objects and `build_corpus` does the rest, the
same for every source. `clean` is what every text goes through; the saved tokenizer's normaliser does the same
(`duygu.data.tokens`), so a result behaves alike elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duygu.data.encoding import codec, looks_turkish
from duygu.data.folders import read_folder
from duygu.data.sources import BY_DEFAULT, TOTAL_LIMIT, DataFormat, Document, option_name, some
from duygu.data.tables import GIVE, read_table
from duygu.errors import DataError

IntArray = NDArray[np.int32]

EMPTY_SHARE = 0.05  # of all documents; more empty ones than this are a fault of the corpus, not of a document
DOUBTFUL_SHARE = 0.05  # of the documents read as Turkish; a few with odd signs mean nothing
UNLABELLED = -1  # in place of a label
MARKS_LIMIT = 100  # combining marks on one letter; composing takes the square of their number

# Python's and the tokenizers library's regular expressions read these two classes alike.
REMOVED = (
    "[\\u0000-\\u0008\\u000E-\\u001F\\u007F-\\u0084\\u0086-\\u009F"  # controls that are not white space
    "\\u00AD\\u061C\\u180E\\u200B-\\u200F\\u202A-\\u202E\\u2060-\\u2064\\u2066-\\u206F\\uFEFF\\uFFF9-\\uFFFB]"
)
SPACES = "[\\u0009-\\u000D\\u0020\\u0085\\u00A0\\u1680\\u2000-\\u200A\\u2028\\u2029\\u202F\\u205F\\u3000]+"

_removed = re.compile(REMOVED)
_spaces = re.compile(SPACES)
_surrogate = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Corpus:
    """N labelled texts in the order of their ids; or unlabelled ones, to be audited only."""

    texts: tuple[str, ...]  # cleaned, never empty
    labels: IntArray  # (N,) indices into names; `UNLABELLED` where there are none
    names: tuple[str, ...]  # label names, sorted
    ids: tuple[str, ...]  # of a folder: path below it with "/", such as "negative/a.txt"
    encodings: tuple[tuple[str, int], ...]  # encoding and number of documents, most frequent first
    warnings: tuple[str, ...]
    digest: str  # sha256 over ids, labels and cleaned texts, whatever they were read from
    root: str
    dates: tuple[str | None, ...] = ()  # (N,) ISO 8601, None where unknown; () where all are
    sources: tuple[str | None, ...] = ()  # (N,) who published it, None where unknown; () where all are
    groups: IntArray | None = None  # (N,) copies share a number; None until they were looked for


def read_corpus(
    path: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    date_column: str | None = None,
    source_column: str | None = None,
    encoding: str | None = None,
) -> Corpus:
    """Read a folder of ``.txt`` files, one sub-folder per label, or a CSV, TSV, JSON lines or Parquet table.

    The options are the fields of `DataFormat`. Raises `DataError` for what is missing, for labels that are none or only
    one, and for files and rows that cannot be read.
    """
    return _read(path, DataFormat(text_column, label_column, id_column, date_column, source_column, encoding), True)


def read_unlabelled(path: str | Path, format: DataFormat = BY_DEFAULT) -> Corpus:
    """Read a table without labels, to be audited. Raises `DataError`, also for a folder: its sub-folders are labels."""
    if format.label_column is not None:
        raise DataError("an unlabelled table has no column of labels", "--label-column", "leave one of the two out")
    return _read(path, format, labelled=False)


def _read(path: str | Path, format: DataFormat, labelled: bool) -> Corpus:
    root = os.fsencode(Path(path)).decode(errors="replace") if str(path) else ""  # for messages and records
    if format.encoding is not None:
        codec(format.encoding)
    notes: list[str] = []
    if _is_folder(path, root):
        _require_no_columns(format, root)
        if not labelled:
            fix = "leave --unlabelled out, or give a table"
            raise DataError("the sub-folders of a folder are its labels", root, fix)
        documents = read_folder(Path(path), format.encoding, notes)
    else:
        documents = read_table(Path(path), root, format, labelled)
    return build_corpus(_within_memory(documents, root), root, notes, labelled)


def clean(text: str) -> str:
    """NFC; controls and zero-width characters removed; every run of white space one space. Idempotent.

    A lone surrogate, which no file format can hold, becomes U+FFFD. White space at the ends is kept as one space. A
    letter keeps its first `MARKS_LIMIT` combining marks, more than any script stacks.
    """
    if is_clean(text):
        return text
    kept = _removed.sub("", replace_surrogates(text))
    if not kept.isprintable() or "  " in kept:  # else white space is single spaces, and replacing each takes long
        kept = _spaces.sub(" ", kept)
    return _limit_marks(unicodedata.normalize("NFC", _limit_marks(kept)))


def is_clean(text: str) -> bool:
    """Whether `clean` surely leaves ``text`` as it is; a quick look that may rarely say no where it does."""
    return text.isprintable() and "  " not in text and not _piled(text) and unicodedata.is_normalized("NFC", text)


def replace_surrogates(text: str) -> str:
    """``text`` with every surrogate replaced by U+FFFD, so that it can be encoded."""
    return _surrogate.sub("\N{REPLACEMENT CHARACTER}", text)


def build_corpus(
    documents: Iterable[Document], root: str, warnings: Sequence[str] = (), labelled: bool = True
) -> Corpus:
    """Clean, check, order and digest what a source gave; ``root`` names the source in errors.

    ``warnings`` is read after ``documents`` ended, so that their source can add to it.
    """
    found = list(documents)
    cleaned = [replace(document, text=clean(document.text).strip()) for document in found]
    cleaned.sort(key=lambda document: (document.id, document.label, document.text))
    empty = [document for document in cleaned if not document.text]
    notes = [*warnings, *_check_empty(empty, len(cleaned), root)]
    kept = [document for document in cleaned if document.text]
    names = _label_names(Counter(document.label for document in kept), root) if labelled else ()
    _check_repeated(kept, root)
    numbers = {name: number for number, name in enumerate(names)}
    encodings, doubts = _count_encodings(found)
    return Corpus(
        texts=tuple(document.text for document in kept),
        labels=np.array([numbers.get(document.label, UNLABELLED) for document in kept], np.int32),
        names=names,
        ids=tuple(document.id for document in kept),
        encodings=encodings,
        warnings=(*notes, *doubts),
        digest=_digest(kept),
        root=root,
        dates=_known(document.date for document in kept),
        sources=_known(document.source for document in kept),
    )


def _is_folder(path: str | Path, root: str) -> bool:
    """Whether it is a folder or a file; raises `DataError` for anything else."""
    try:
        mode = os.stat(path).st_mode if root else 0  # noqa: PTH116  Path("") would be the current folder
    except FileNotFoundError as error:
        raise DataError("there is no such folder or file", root, GIVE) from error
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise DataError(f"the path cannot be used: {reason}", root, "check the path and its permissions") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise DataError("neither a folder nor a file" if root else "no path was given", root or "DATA", GIVE)
    return stat.S_ISDIR(mode)


def _require_no_columns(format: DataFormat, root: str) -> None:
    given = [name for name in format.as_dict() if name.endswith("_column")]
    if given:
        options = " ".join(map(option_name, given))
        raise DataError("a folder of files has no columns", f"{options} with {root}", f"leave {options} out")


def _within_memory(documents: Iterable[Document], root: str) -> Iterator[Document]:
    """The documents, as long as all of them together can be held."""
    total = 0
    for document in documents:
        total += len(document.text)
        if total > TOTAL_LIMIT:
            fix = "give a part of it: all texts are held in memory"
            raise DataError(f"the texts have more than {TOTAL_LIMIT:,} characters", document.place(root), fix)
        yield document


def _limit_marks(text: str) -> str:
    return _piles().sub(lambda found: found[0][:MARKS_LIMIT], text) if _piled(text) else text


def _piled(text: str) -> bool:
    """Whether some letter carries more marks than `clean` keeps; so many would reach a character looked at."""
    looked_at = "" if text.isascii() else text[:: MARKS_LIMIT + 1]
    return any(map(unicodedata.combining, looked_at)) and bool(_piles().search(text))


@cache
def _piles() -> re.Pattern[str]:
    """More than `MARKS_LIMIT` characters in a row that composing may reorder."""
    marks = [code for code in range(0x300, 0x1F000) if unicodedata.combining(chr(code))]
    starts = [code for code in marks if not unicodedata.combining(chr(code - 1))]
    ends = [code for code in marks if not unicodedata.combining(chr(code + 1))]
    ranges = "".join(f"\\U{start:08x}-\\U{end:08x}" for start, end in zip(starts, ends, strict=True))
    return re.compile(f"[{ranges}]{{{MARKS_LIMIT},}}[{ranges}]")


def _digest(documents: Sequence[Document]) -> str:
    """SHA-256 of the JSON list of [id, label, text] of each document, made piece by piece."""
    digest = hashlib.sha256(b"[")
    for number, document in enumerate(documents):
        entry = json.dumps([document.id, document.label, document.text])
        digest.update(f"{', ' if number else ''}{entry}".encode())
    digest.update(b"]")
    return digest.hexdigest()


def _known(values: Iterable[str | None]) -> tuple[str | None, ...]:
    known = tuple(values)
    return known if any(value is not None for value in known) else ()


def _check_empty(empty: Sequence[Document], total: int, root: str) -> list[str]:
    """A warning that names the empty documents; raises `DataError` where there are too many."""
    if not empty:
        return []
    named = f"{len(empty)} of {total} documents are empty ({some([document.id for document in empty])})"
    if len(empty) > EMPTY_SHARE * total:
        fix = f"remove them, or find out why they are empty (up to {EMPTY_SHARE:.0%} are skipped)"
        raise DataError(named, empty[0].place(root), fix)
    return [f"{named} and were skipped"]


def _label_names(counts: Counter[str], root: str) -> tuple[str, ...]:
    names = tuple(sorted(counts))
    if not names:
        raise DataError("no labelled texts were found", root, GIVE)
    if len(names) == 1:
        problem = f"all texts have the one label {names[0]!r}, so there is nothing to tell apart"
        raise DataError(problem, root, "add texts with a second label")
    key = {name: " ".join(clean(name).split()).casefold() for name in names}
    alike = Counter(key.values()).most_common(1)[0]
    if alike[1] > 1:
        pair = [name for name in names if key[name] == alike[0]]
        raise DataError(f"the labels {pair} differ only in case or spaces", root, "give them one name")
    return names


def _check_repeated(documents: Sequence[Document], root: str) -> None:
    counts = Counter(document.id for document in documents)
    repeated = [id for id, count in counts.items() if count > 1]
    if repeated:
        last = max((document for document in documents if document.id == repeated[0]), key=lambda found: found.line)
        fix = "give every document an id of its own"
        raise DataError(f"{len(repeated)} id(s) stand more than once ({some(repeated)})", last.place(root), fix)


def _count_encodings(documents: Sequence[Document]) -> tuple[tuple[tuple[str, int], ...], list[str]]:
    """Encodings by frequency, and a warning where what was read as Turkish does not look like it.

    Where some file must be cp1254, its neighbours that might also be ISO-8859-9 are counted with it.
    """
    counts = Counter(document.encoding for document in documents)
    if counts["cp1254"]:
        counts["cp1254"] += counts.pop("ISO-8859-9", 0)
    legacy = [document for document in documents if document.encoding in ("cp1254", "ISO-8859-9")]
    doubtful = [document.id for document in legacy if not looks_turkish(document.text)]
    notes = [
        f"{len(doubtful)} documents are not UTF-8 and were read as Turkish (cp1254), but do not look it "
        f"({some(doubtful)}): if they have another encoding, name it with --encoding or convert them to UTF-8"
    ]
    ordered = tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return ordered, notes if len(doubtful) > DOUBTFUL_SHARE * len(legacy) else []
