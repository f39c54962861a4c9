"""What a run writes for people: cells, cards, lines."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from duygu.data.corpus import Corpus
from duygu.errors import printable
from duygu.training.machine import cores, peak_memory, processor
from duygu.training.progress import Lines, epoch_line
from duygu.training.run_folder import FORMULA, predictions_table, safe_cell
from duygu.verdict.metrics import scores

LOGITS = np.array([[2.0, -1.0], [0.0, 0.5]], np.float32)


@pytest.mark.parametrize("start", FORMULA, ids=repr)
def test_no_cell_starts_a_formula(start: str) -> None:
    assert safe_cell(f"{start}cmd|'/C calc'!A0").startswith("'")
    assert safe_cell(f"a{start}") == f"a{start}"


def test_predictions_read_back_by_csv() -> None:
    """The standard library's reader gets back ids with quotes, commas and line ends; softmax as scipy has it."""
    from scipy.special import softmax

    names = ("=fall", 'ri"se, \nquick')
    ids = tuple(f"{name}/x.txt" for name in names)
    corpus = Corpus(("a", "b"), np.array([0, 1], np.int32), names, ids, (("UTF-8", 2),), (), "0" * 64, "memory")
    table = predictions_table(corpus, {"test": (np.array([0, 1], np.int32), LOGITS)})
    head, *rows = csv.reader(io.StringIO(table, newline=""))
    assert head == ["id", "split", "label", "predicted", "p('=fall)", 'p(ri"se, \nquick)']
    assert [row[:4] for row in rows] == [
        ["'=fall/x.txt", "test", "'=fall", "'=fall"],
        ['ri"se, \nquick/x.txt', "test", 'ri"se, \nquick', 'ri"se, \nquick'],
    ]
    found = np.array([[float(cell) for cell in row[4:]] for row in rows])
    np.testing.assert_allclose(found, softmax(LOGITS.astype(np.float64), axis=1), rtol=1e-9)


def test_lines_go_to_standard_error_only(capsys: pytest.CaptureFixture[str]) -> None:
    found = scores(LOGITS, np.array([0, 1], np.int32), ("a", "b"))
    lines = Lines()
    lines.phase("training", 10)
    lines.advance(3, "loss 1")
    lines.epoch(1, 3, 0.5, found)
    lines.message("a label named \x1b[2Jclear")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [epoch_line(1, 3, 0.5, found), "a label named \\x1b[2Jclear"]
    assert printable("İı ğ\u202e") == "İı ğ\\u202e"


def test_the_machine_is_known() -> None:
    import os
    import resource

    assert 1 <= cores() <= (os.cpu_count() or 1)
    assert processor()
    assert peak_memory() <= 1.01 * 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak_memory() > 1 << 24
