"""Short names of the models of one comparison: in folders, tables and pictures they stand for paths and hub names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from duygu.models.checkpoints import repository
from duygu.models.presets import PRESETS

LONGEST = 40  # letters, since folders of runs begin with them
START = "start"  # where a comparison keeps what its runs begin with: says nothing of a model


def identity(model: str) -> str:
    """What a model is, whichever way it is named: a folder's path, or a hub model's or a preset's name."""
    if model not in PRESETS and Path(model).is_dir():
        return str(Path(model).resolve())
    return repository(model)


def short_names(models: Sequence[str]) -> list[str]:
    """A name for each that a folder can have: the last part of its own, and more parts only where two are alike."""
    parts = [_parts(model) for model in models]
    names = [_safe(own[-1:]) for own in parts]
    for count in range(2, max(map(len, parts)) + 1):
        alike = _alike(names)
        names = [_safe(own[-count:]) if name in alike else name for name, own in zip(names, parts, strict=True)]
    alike = _alike(names)
    return [f"{name}-{place}" if name in alike else name for place, name in enumerate(names, start=1)]


def _parts(model: str) -> list[str]:
    """The parts of a path or of ``owner/name@revision``, of which the revision tells least."""
    if model not in PRESETS and Path(model).is_dir():
        path, revision = str(Path(model).resolve()), ""
    else:
        path, _, revision = model.partition("@")
    *above, last = PurePath(path).parts or (model,)
    if last == START and above:
        last = above.pop()
    return [*above, *([revision] if revision else []), last]


def _safe(parts: Sequence[str]) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts))[-LONGEST:].strip("-.") or "model"


def _alike(names: Sequence[str]) -> set[str]:
    """Names that are not unique, also where a file system does not tell large letters from small ones."""
    often = Counter(name.casefold() for name in names)
    return {name for name in names if often[name.casefold()] > 1}
