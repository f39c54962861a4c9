"""Which characters a file's bytes mean, decided per file and without guessing where it can be known.

In this order: a byte-order mark; UTF-16 without one, told by its zero bytes; UTF-8, which other text hardly ever
happens to be; cp1254, the Windows code page for Turkish. ISO-8859-9 differs from cp1254 only in the bytes 0x80-0x9f,
which it gives to control characters that no text uses: such a byte says cp1254, and without one both read the same.
"""

from __future__ import annotations

import codecs
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8 with BOM"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_ZEROS = 0.5  # share of pairs with a zero byte in UTF-16 of Latin letters; Turkish has four fifths and more
_only_windows = re.compile(rb"[\x80-\x9f]")
_beyond_ascii = re.compile(r"[^\x00-\x7f]")
_turkish = re.compile(
    "[çğıöşüÇĞİÖŞÜâîûÂÎÛ\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u20ac\u2022\xa0\xb0\xab\xbb\xa7\xb4\xad]"
)


class Undecodable(ValueError):
    """Why bytes are not text."""


def decode(data: bytes) -> tuple[str, str]:
    """The text and the name of its encoding.

    Names: UTF-8, UTF-8 with BOM, UTF-16, UTF-32, cp1254, ISO-8859-9. Raises `Undecodable` with the reason.
    """
    for mark, codec, name in _MARKS:
        if data.startswith(mark):
            return _strictly(data[len(mark) :], codec, name), name
    codec = _unmarked_utf16(data)
    if codec:
        return _strictly(data, codec, "UTF-16"), "UTF-16"
    try:
        return data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError as error:
        return _decode_turkish(data, error)


def looks_turkish(text: str) -> bool:
    """Whether most characters beyond ASCII are such as Turkish text has; True where there are none."""
    foreign = len(_beyond_ascii.findall(text))
    return 2 * len(_turkish.findall(text)) >= foreign


def _unmarked_utf16(data: bytes) -> str | None:
    pairs = len(data) // 2
    if pairs == 0 or len(data) % 2:
        return None
    first, second = data[0::2].count(0) / pairs, data[1::2].count(0) / pairs
    if second >= _ZEROS > 2 * first:
        return "utf-16-le"
    return "utf-16-be" if first >= _ZEROS > 2 * second else None


def _decode_turkish(data: bytes, error: UnicodeDecodeError) -> tuple[str, str]:
    if b"\0" in data:
        raise Undecodable("binary data: it holds zero bytes and is neither UTF-8 nor UTF-16") from error
    repaired = data.decode("utf-8", "replace")
    broken = repaired.count("\N{REPLACEMENT CHARACTER}")
    if len(_beyond_ascii.findall(repaired)) - broken > broken:
        raise Undecodable(f"UTF-8 except for byte 0x{data[error.start]:02x} at {error.start}") from error
    return _strictly(data, "cp1254", "UTF-8 or cp1254"), "cp1254" if _only_windows.search(data) else "ISO-8859-9"


def _strictly(data: bytes, codec: str, name: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        raise Undecodable(f"not valid {name} at byte {error.start}") from error
