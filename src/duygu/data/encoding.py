"""Which characters a file's bytes mean, decided per file and without guessing where it can be known.

In this order: the encoding that the user forces; a byte-order mark; UTF-16 without one, told by its zero bytes; UTF-8,
which other text hardly ever happens to be; cp1254, the Windows code page for Turkish. ISO-8859-9 differs from cp1254
only in the bytes 0x80-0x9f, which it gives to control characters that no text uses: such a byte says cp1254, and
without one both read the same. A file is read in pieces, so its size does not matter, and is checked to its end.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from duygu.errors import DataError, printable

CHUNK = 2**20  # bytes read at a time; even, as UTF-16 needs it

_ZEROS = 0.5  # share of pairs with a zero byte in UTF-16 of Latin letters; Turkish has four fifths and more
_NOT_FOR_FILES = ("idna", "punycode", "raw-unicode-escape", "unicode-escape")
_only_windows = re.compile(rb"[\x80-\x9f]")
_ill_formed = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]|\xc0[\x80-\xbf]")  # what looks like UTF-8 and is forbidden in it
_beyond_ascii = re.compile(r"[^\x00-\x7f]")
_turkish = re.compile(
    "[çğıöşüÇĞİÖŞÜâîûÂÎÛ\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u20ac\u2022\xa0\xb0\xab\xbb\xa7\xb4\xad]"
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How bytes become text: Python's codec, the name for people, and the bytes of a mark to skip."""

    codec: str
    name: str
    mark: int = 0


_UTF8 = Encoding("utf-8", "UTF-8")
_MARKED = (
    (codecs.BOM_UTF8, Encoding("utf-8", "UTF-8 with BOM", 3)),
    (codecs.BOM_UTF32_LE, Encoding("utf-32-le", "UTF-32", 4)),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, Encoding("utf-32-be", "UTF-32", 4)),
    (codecs.BOM_UTF16_LE, Encoding("utf-16-le", "UTF-16", 2)),
    (codecs.BOM_UTF16_BE, Encoding("utf-16-be", "UTF-16", 2)),
)


class Undecodable(ValueError):
    """Why bytes are not text, the line (from 1; 0 where it is the whole) where that shows, and a fix of its own."""

    def __init__(self, reason: str, line: int = 1, fix: str = "") -> None:
        super().__init__(reason)
        self.line = line
        self.fix = fix


def decode(data: bytes, forced: str | None = None) -> tuple[str, str]:
    """The text and the name of its encoding: ``forced``, or what `detect` finds; raises `Undecodable`."""
    encoding = detect(io.BytesIO(data), forced)
    return data[encoding.mark :].decode(encoding.codec), encoding.name


def detect(file: BinaryIO, forced: str | None = None) -> Encoding:
    """The encoding of a seekable file, which is valid in it to the end and holds no zero characters.

    Names: UTF-8, UTF-8 with BOM, UTF-16, UTF-32, cp1254, ISO-8859-9, or the ``forced`` one's. Raises `Undecodable`
    with the reason and the line.
    """
    file.seek(0)
    head = file.read(CHUNK)
    found = _forced(head, forced) if forced is not None else _told_by(head)
    try:
        _require_text(file, found or _UTF8)
    except Undecodable as error:
        if found or not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        return _turkish_code_page(file, error)
    return found or _UTF8


def codec(name: str) -> str:
    """Python's own name of an encoding that files can have; raises `DataError` for any other."""
    try:
        found = codecs.lookup(name).name
        " ".encode(found)  # refuses what is no text encoding, such as hex
        codecs.getincrementaldecoder(found)
    except (LookupError, ValueError):
        found = ""
    if not found or found in _NOT_FOR_FILES:
        fix = "give one that Python knows, such as utf-8, utf-16, cp1254 or iso-8859-9"
        raise DataError(f"there is no text encoding '{printable(name[:40])}'", "--encoding", fix)
    return found


def looks_turkish(text: str) -> bool:
    """Whether most characters beyond ASCII are such as Turkish text has; True where there are none."""
    foreign = len(_beyond_ascii.findall(text))
    return 2 * len(_turkish.findall(text)) >= foreign


def _forced(head: bytes, forced: str) -> Encoding:
    """The user's encoding; a byte-order mark of its own is skipped, and another's contradicts it."""
    name = codec(forced)
    given = f"{name} (as given)"
    marked = next((encoding for mark, encoding in _MARKED if head.startswith(mark)), None)
    if marked is None or name in ("utf-8-sig", "utf-16", "utf-32"):  # which read marks themselves
        return Encoding(name, given)
    if marked.codec != name:
        raise Undecodable(f"not {given}: it begins with the byte-order mark of {marked.name}")
    return Encoding(name, given, marked.mark)


def _told_by(head: bytes) -> Encoding | None:
    """What a mark or the zero bytes of UTF-16 say; None where nothing does."""
    marked = next((encoding for mark, encoding in _MARKED if head.startswith(mark)), None)
    pairs = len(head) // 2
    if marked or pairs == 0 or len(head) % 2:
        return marked
    first, second = head[0::2].count(0) / pairs, head[1::2].count(0) / pairs
    if second >= _ZEROS > 2 * first:
        return Encoding("utf-16-le", "UTF-16")
    return Encoding("utf-16-be", "UTF-16") if first >= _ZEROS > 2 * second else None


def _require_text(file: BinaryIO, encoding: Encoding) -> None:
    """Raise `Undecodable` unless the file is valid to its end, without zero characters."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding.codec)(), translate=True)
    line = 1
    for chunk in chain(_chunks(file, encoding.mark), (b"",)):
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeError as error:
            raise Undecodable(*_explained(error, encoding, line)) from error
        zero = text.find("\0")
        if zero >= 0:
            raise Undecodable("it holds a zero character, so is binary or damaged", line + text.count("\n", 0, zero))
        line += text.count("\n")


def _explained(error: UnicodeError, encoding: Encoding, line: int) -> tuple[str, int]:
    """The reason for a decoding error, and its line; ``line`` is that of the piece that was decoded."""
    if not isinstance(error, UnicodeDecodeError):
        return f"not valid {encoding.name}", line
    before = error.object[: error.start].decode(encoding.codec, "replace")
    line += len(re.findall(r"\r\n?|\n", before))
    return f"not valid {encoding.name} at byte 0x{error.object[error.start]:02x}", line


def _turkish_code_page(file: BinaryIO, error: Undecodable) -> Encoding:
    """cp1254 or ISO-8859-9 for a file that is not UTF-8, unless it is binary, or UTF-8 but for a few bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    foreign = broken = 0
    windows = False
    for chunk in _chunks(file, 0):
        if b"\0" in chunk:
            raise Undecodable("binary data: it holds zero bytes and is neither UTF-8 nor UTF-16", error.line)
        if _ill_formed.search(chunk):
            raise Undecodable("UTF-8 except for half a character (a surrogate) or an overlong form", error.line)
        text = decoder.decode(chunk)
        foreign += len(_beyond_ascii.findall(text))
        broken += text.count("\N{REPLACEMENT CHARACTER}")
        windows = windows or bool(_only_windows.search(chunk))
    if foreign - broken > broken:
        byte = str(error).rpartition(" ")[2]
        raise Undecodable(f"UTF-8 except for byte {byte}, so it mixes encodings", error.line)
    _require_text(file, Encoding("cp1254", "UTF-8 or cp1254"))
    return Encoding("cp1254", "cp1254" if windows else "ISO-8859-9")


def _chunks(file: BinaryIO, start: int) -> Iterator[bytes]:
    file.seek(start)
    while chunk := file.read(CHUNK):
        yield chunk
