"""Weights that exist only as ``pytorch_model.bin``, made into safetensors once and kept.

A pickle is a program. It is read by ``torch.load(weights_only=True)``, which makes tensors and refuses all else, in a
process of its own (`duygu.engines.torch.convert`). What comes out is kept under the digest of what went in.
"""

from __future__ import annotations

import hashlib
import importlib.util
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from duygu.errors import ModelError
from duygu.files import delete_folder, file_digest, make_folder, new_folder, require_space
from duygu.models.progress import Progress
from duygu.models.weights import read_header, require_file

WEIGHTS = "model.safetensors"
NOT_WRITTEN = 3  # exit code of the converter where the pickle was fine and the disk was not
SOUND = "choose a checkpoint that has model.safetensors"


def converted(files: Sequence[Path], progress: Progress) -> Path:
    """The folder with ``model.safetensors`` made of these pickles, now or before. Raises `ModelError`."""
    from huggingface_hub import constants
    from huggingface_hub.utils import WeakFileLock

    for path in files:
        require_file(path)
    key = hashlib.sha256("".join(file_digest(path) for path in files).encode()).hexdigest()
    kept = Path(constants.HF_ASSETS_CACHE) / "duygu" / "safetensors" / key
    if _is_sound(kept):
        return kept
    _require_torch(files)
    names = ", ".join(path.name for path in files)
    progress.message(
        f"the weights are only there as {names}, a pickle: converting it once with torch.load(weights_only=True), "
        f"which reads numbers and runs nothing, into {kept}"
    )
    make_folder(kept.parent)
    with WeakFileLock(kept.with_name(f"{key}.lock")):
        if not _is_sound(kept):
            _convert(files, kept)
    return kept


def _is_sound(kept: Path) -> bool:
    """Whether the conversion is there and whole; what somebody damaged goes."""
    if not kept.exists():
        return False
    try:
        read_header(kept / WEIGHTS)
    except ModelError:
        delete_folder(kept)
        return False
    return True


def _require_torch(files: Sequence[Path]) -> None:
    if importlib.util.find_spec("torch") is None:
        problem = f"the weights are only there as {files[0].name}, and converting a pickle safely takes PyTorch"
        raise ModelError(problem, str(files[0]), f"pip install 'duygu[torch]', or {SOUND}")


def _convert(files: Sequence[Path], kept: Path) -> None:
    from duygu.models.hub import MORE_ROOM

    size = sum(path.stat().st_size for path in files)
    require_space(kept.parent, size, MORE_ROOM, ModelError)
    with new_folder(kept, size, manifest=False) as folder:
        command = [sys.executable, "-P", "-m", "duygu.engines.torch.convert", *map(str, (folder / WEIGHTS, *files))]
        child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if child.returncode == NOT_WRITTEN:
            problem = f"the converted weights, about {size:,} bytes, cannot be written: {_reason(child)}"
            raise ModelError(problem, str(kept), MORE_ROOM)
        if child.returncode:
            raise ModelError(f"the pickle is refused: {_reason(child)}", str(files[0]), SOUND)


def _reason(child: subprocess.CompletedProcess[str]) -> str:
    """What the converter said, or what ended it."""
    if child.returncode < 0:
        return f"its reader was ended by {signal.Signals(-child.returncode).name}"
    said = child.stdout.strip() or child.stderr.strip()
    return said.rpartition("\n")[2] or f"its reader ended with exit code {child.returncode}"
