"""What there is to learn from: labelled texts, read once, cleaned once, in an order that never depends on the disk.

A source yields `Document` objects and `build_corpus` does the rest, the same for every source. Today's source is a
folder of ``.txt`` files with one sub-folder per label. `clean` is what every text goes through; the saved tokenizer's
normaliser does the same (`duygu.data.tokens`), so a result behaves alike elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duygu.data.encoding import Undecodable, decode, looks_turkish
from duygu.errors import DataError

IntArray = NDArray[np.int32]

FILE_LIMIT = 32 * 2**20  # bytes of one file; a news item has thousands
EMPTY_SHARE = 0.05  # of all files; more empty ones than this are a fault of the corpus, not of a file
DOUBTFUL_SHARE = 0.05  # of the files read as Turkish; a few with odd signs mean nothing

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
class Document:
    """One text as its source gave it: not yet cleaned."""

    id: str
    label: str
    text: str
    encoding: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """N labelled texts in the order of their ids."""

    texts: tuple[str, ...]  # cleaned, never empty
    labels: IntArray  # (N,) indices into names
    names: tuple[str, ...]  # label names, sorted
    ids: tuple[str, ...]  # path below the root with "/", such as "negative/a.txt"
    encodings: tuple[tuple[str, int], ...]  # encoding and number of files, most frequent first
    warnings: tuple[str, ...]
    digest: str  # sha256 over ids, labels and cleaned texts, whatever they were read from
    root: str


def read_corpus(path: str | Path) -> Corpus:
    """Read a folder of ``.txt`` files, one sub-folder per label; files may lie deeper below their label's folder.

    Raises `DataError` for a folder that is missing, holds no labels or only one, or holds files that cannot be read.
    """
    root = Path(path)
    if not root.exists():
        raise DataError(
            "there is no such folder", str(root), "give a folder with one sub-folder of .txt files per label"
        )
    if not root.is_dir():
        raise DataError("this is a file, not a folder", str(root), "give the folder that holds the label folders")
    warnings: list[str] = []
    return build_corpus(list(_read_folder(root.resolve(), warnings)), str(root), warnings)


def clean(text: str) -> str:
    """NFC; controls and zero-width characters removed; every run of white space one space. Idempotent.

    A lone surrogate, which no file format can hold, becomes U+FFFD. White space at the ends is kept as one space.
    """
    if is_clean(text):
        return text
    return unicodedata.normalize("NFC", _spaces.sub(" ", _removed.sub("", replace_surrogates(text))))


def is_clean(text: str) -> bool:
    """Whether `clean` surely leaves ``text`` as it is; a quick look that may rarely say no where it does."""
    return text.isprintable() and "  " not in text and unicodedata.is_normalized("NFC", text)


def replace_surrogates(text: str) -> str:
    """``text`` with every surrogate replaced by U+FFFD, so that it can be encoded."""
    return _surrogate.sub("\N{REPLACEMENT CHARACTER}", text)


def build_corpus(documents: Sequence[Document], root: str, warnings: Sequence[str] = ()) -> Corpus:
    """Clean, check, order and digest what a source gave; ``root`` names the source in errors."""
    cleaned = sorted((document.id, document.label, clean(document.text).strip()) for document in documents)
    notes = [*warnings, *_check_empty([id for id, _, text in cleaned if not text], len(cleaned), root)]
    kept = [entry for entry in cleaned if entry[2]]
    ids = tuple(id for id, _, _ in kept)
    names = _label_names(Counter(label for _, label, _ in kept), root)
    _check_repeated(ids, root)
    numbers = {name: number for number, name in enumerate(names)}
    encodings, doubts = _count_encodings(documents)
    return Corpus(
        texts=tuple(text for _, _, text in kept),
        labels=np.array([numbers[label] for _, label, _ in kept], np.int32),
        names=names,
        ids=ids,
        encodings=encodings,
        warnings=(*notes, *doubts),
        digest=hashlib.sha256(json.dumps(kept, allow_nan=False).encode()).hexdigest(),
        root=root,
    )


def _check_empty(empty: Sequence[str], total: int, root: str) -> list[str]:
    """A warning that names the empty documents; raises `DataError` where there are too many."""
    if not empty:
        return []
    named = f"{len(empty)} of {total} documents are empty ({_some(empty)})"
    if len(empty) > EMPTY_SHARE * total:
        fix = f"remove them, or find out why they are empty (up to {EMPTY_SHARE:.0%} are skipped)"
        raise DataError(named, root, fix)
    return [f"{named} and were skipped"]


def _label_names(counts: Counter[str], root: str) -> tuple[str, ...]:
    names = tuple(sorted(counts))
    if not names:
        raise DataError(
            "no labelled texts were found", root, "make one sub-folder per label and put .txt files into it"
        )
    if len(names) == 1:
        problem = f"all texts have the one label {names[0]!r}, so there is nothing to tell apart"
        raise DataError(problem, root, "add a second label's texts")
    alike = Counter(" ".join(name.split()).casefold() for name in names).most_common(1)[0]
    if alike[1] > 1:
        pair = [name for name in names if " ".join(name.split()).casefold() == alike[0]]
        raise DataError(f"the labels {pair} differ only in case or spaces", root, "give them one name")
    return names


def _check_repeated(ids: Sequence[str], root: str) -> None:
    repeated = [id for id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise DataError(f"{len(repeated)} ids occur twice ({_some(repeated)})", root, "give every document its own id")


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
        f"{len(doubtful)} files are not UTF-8 and were read as Turkish (cp1254), but do not look it "
        f"({_some(doubtful)}): if they have another encoding, convert them to UTF-8"
    ]
    ordered = tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return ordered, notes if len(doubtful) > DOUBTFUL_SHARE * len(legacy) else []


def _read_folder(root: Path, warnings: list[str]) -> Iterator[Document]:
    """Every ``.txt`` file below a label folder of ``root``; what is passed over is told in ``warnings``."""
    skipped: Counter[str] = Counter()
    faults: list[tuple[str, str]] = []
    for path in _walk(root, skipped, faults):
        relative = path.relative_to(root)
        if len(relative.parts) == 1:
            skipped["file(s) lie beside the label folders, so have no label,"] += 1
            continue
        try:
            name = _checked_name(relative)
            text, encoding = decode(_read_bytes(path))
        except Undecodable as error:
            faults.append((os.fsencode(relative).decode(errors="replace"), str(error)))
        except OSError as error:
            faults.append((str(relative), error.strerror or str(error)))
        else:
            yield Document(name, name.partition("/")[0], text, encoding)
    if faults:
        where = f"{root / faults[0][0]}: {faults[0][1]}"
        others = f" (the others: {_some([name for name, _ in faults[1:]])})" if len(faults) > 1 else ""
        fix = "convert such files to UTF-8, repair or remove them"
        raise DataError(f"{len(faults)} file(s) cannot be read as text{others}", where, fix)
    warnings.extend(f"{count} {what} and were left out" for what, count in sorted(skipped.items()))


def _walk(root: Path, skipped: Counter[str], faults: list[tuple[str, str]]) -> Iterator[Path]:
    """Regular ``.txt`` files inside ``root``, hidden names passed over; never follows a link out of it."""

    def unreadable(error: OSError) -> None:
        faults.append((os.path.relpath(error.filename, root), error.strerror or str(error)))

    for folder, folders, files in os.walk(root, onerror=unreadable):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        skipped["folder(s) are links"] += len(links)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in links)
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(folder, name)
            if not name.lower().endswith(".txt"):
                skipped["file(s) do not end in .txt"] += 1
            elif _is_inside(path, root):
                yield path
            else:
                skipped["file(s) are links out of the folder, broken links, pipes or devices"] += 1
    for what in [what for what, count in skipped.items() if not count]:
        del skipped[what]


def _is_inside(path: Path, root: Path) -> bool:
    """Whether ``path`` is a regular file of ``root``, itself or through a link."""
    try:
        return stat.S_ISREG(path.stat().st_mode) and (not path.is_symlink() or path.resolve().is_relative_to(root))
    except FileNotFoundError:
        return not path.is_symlink()  # vanished since it was listed: reading it says so
    except OSError:
        return False


def _read_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise Undecodable(f"larger than {FILE_LIMIT // 2**20} MB, so hardly one document")
    return data


def _checked_name(relative: Path) -> str:
    """The document's id: NFC, because some file systems decompose what they store."""
    name = relative.as_posix()
    if replace_surrogates(name) != name:
        raise Undecodable("its name is not UTF-8")
    return unicodedata.normalize("NFC", name)


def _some(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
