"""Every mistake of the table ends in three lines, exit code 2 and nothing lost; the documented table is this one."""

from __future__ import annotations

import pytest

from tests.mistakes.case import Mistake
from tests.mistakes.running import DOCUMENT, Outcome, all_mistakes, outcome, table

ALL = all_mistakes()


def made(mistake: Mistake) -> Outcome:
    try:
        return outcome(mistake)
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}: pip install 'duygu[test]'")


@pytest.mark.parametrize("mistake", ALL, ids=lambda mistake: f"{mistake.area}: {mistake.what}")
def test_mistake_is_told_with_place_and_fix_and_nothing_is_lost(mistake: Mistake) -> None:
    found = made(mistake)
    assert (found.code, found.printed) == (2, ""), found.told
    problem, where, fix = found.message
    assert mistake.says in found.told
    assert mistake.where in where
    assert problem
    assert fix
    assert len(fix.splitlines()) == len(where.splitlines()) == 1
    assert "Traceback" not in found.told
    assert not found.changed


def test_mistakes_are_named_once() -> None:
    names = [(mistake.area, mistake.what) for mistake in ALL]
    assert len(set(names)) == len(names)


def test_documented_table_is_what_the_cases_give() -> None:
    """``python -m tests.mistakes`` writes it."""
    for mistake in ALL:
        made(mistake)
    assert DOCUMENT.read_text(encoding="utf-8") == table(ALL)
