"""A small corpus that comes with duygu, so that the first run needs no data: see ``README.md`` beside it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def demo_corpus() -> Path:
    """The folder of the bundled corpus: two labels, one ``.txt`` file per news item."""
    return Path(str(files(__name__) / "news"))
