"""Elements of a page as values, and the one place where they become text.

Children that are strings are text and attributes are quoted, always, so nothing that a user's data holds can become an
element, an attribute or an address: there is no way to pass markup through. Characters that do not print are escaped
as on a terminal. The result is HTML and well-formed XML at once.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator
from dataclasses import dataclass

from duygu.errors import printable

VOID = frozenset({"br", "meta"})  # elements that HTML ends at once


@dataclass(frozen=True, slots=True)
class Element:
    """An element with its attributes (name, value) and its content."""

    name: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple[Element | str, ...]


Node = Element | str


def tag(name: str, /, *children: Node | None, **attributes: str | float | None) -> Element:
    """An element. ``class_`` stands for class, underscores for hyphens; None is left out, child or attribute."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    written = tuple((key, value if isinstance(value, str) else number(value)) for key, value in named.items())
    return Element(name, written, tuple(child for child in children if child is not None))


def number(value: float) -> str:
    """A coordinate, to a tenth of a unit."""
    return f"{value:.1f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))


def render(node: Node) -> str:
    """HTML text of an element or of plain text."""
    return "".join(_pieces(node))


def document(title: str, style: str, body: Element) -> str:
    """A whole page. Its policy lets a browser load nothing at all and apply no style but ``style`` (trusted CSS)."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    heads = (
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
    )
    head = "".join(f"{render(one)}\n" for one in heads)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}<style>{style}</style>\n</head>\n{render(body)}\n</html>\n'
    )


def _pieces(node: Node) -> Iterator[str]:
    if isinstance(node, str):
        yield html.escape(printable(node))
        return
    attributes = "".join(f' {name}="{html.escape(printable(value))}"' for name, value in node.attributes)
    if node.name in VOID:
        yield f"<{node.name}{attributes}/>"
        return
    yield f"<{node.name}{attributes}>"
    for child in node.children:
        yield from _pieces(child)
    yield f"</{node.name}>"
