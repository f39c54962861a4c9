"""How verbs speak: data on standard output, talk on standard error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from duygu.errors import GateError, printable

if TYPE_CHECKING:
    from rich.console import Console


def say(message: str) -> None:
    """Talk on standard error, line by line."""
    click.echo(printable(message, keep="\n"), err=True)


def console() -> Console:
    """Standard output, as wide as its terminal; plain text where it is none."""
    from rich.console import Console

    return Console()


def print_json(value: Mapping[str, object]) -> None:
    """One line of ASCII: no terminal or locale can misread it."""
    click.echo(json.dumps(value, allow_nan=False))


def print_comparison(comparison: Mapping[str, Any], as_json: bool) -> None:
    """The comparison; then, if a run collapsed, `GateError`."""
    from duygu.verdict.report import print_comparison as print_tables

    if as_json:
        print_json(comparison)
    else:
        print_tables(comparison, console())
    require_sound([run["name"] for run in comparison["runs"] if run["collapsed"]])


def require_sound(collapsed: Sequence[str]) -> None:
    """Raise `GateError` where a run collapsed."""
    if collapsed:
        raise GateError(f"collapsed, having learned next to nothing: {', '.join(collapsed)}")
