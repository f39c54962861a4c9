"""Where a model's files are: all on this disk by the time this module answers.

A model is a local folder, or a name on the hub: ``owner/name``, or ``owner/name@revision``. Of a hub model the config
and the tokenizer come first, so that one which cannot be used is refused before its weights are fetched, and only the
files that duygu reads come at all.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from duygu.errors import ModelError
from duygu.files import read_json, write_json
from duygu.models.checkpoints import CHECKPOINTS, repository
from duygu.models.conversion import converted
from duygu.models.fallback import has_twin
from duygu.models.foreign import refuse_files, refuse_quantised
from duygu.models.presets import PRESETS
from duygu.models.progress import Progress
from duygu.models.spec import read_spec

if TYPE_CHECKING:
    from duygu.models.hub import Remote, Unreachable

JSON_LIMIT = 16 << 20  # bytes
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
SMALL = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json", "vocab.txt")
RUN_FILES = (".json", ".txt", ".model", ".safetensors")  # what a run may need; code and pickles stay behind
ADAPTERS = "adapter_config.json"  # in place of a model: what a PEFT folder says of its adapters
ORIGIN = "duygu-origin.json"  # beside a copied model: which commit of the hub it is
FETCH_AGAIN = "fetch the index and all shards again from the model's source"
ANY_LABELS = ("a", "b")
MISSPELT = 64  # letters of a name that are compared with those of presets
_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>\w[\w.-]*(/[\w.-]+)*))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files."""

    name: str  # as the user gave it
    folder: Path  # config.json and the tokenizer's files
    weights: Path  # model.safetensors or its index and shards: the same folder, unless they were converted
    revision: str | None  # "owner/name@commit" for a model of the hub, or a copy that duygu made of one
    converted: tuple[str, ...] = ()  # the pickles that the weights were made from


def find_model(source: str | Path, progress: Progress, engines: Sequence[str] = ()) -> Source:
    """The files of a local folder or of a hub model, fetched and converted where that is needed.

    A folder goes before a hub model of the same name. Raises `ModelError`, also for a model that one of ``engines``
    cannot compute, before its weights cost anything.
    """
    name = source.as_posix() if isinstance(source, Path) else source
    folder = _local_folder(name)
    if folder is not None:
        if engines:
            read_config(folder, engines)
        return _source(name, folder, _origin(folder), progress)
    if hub_name(name):
        return _from_hub(name, progress, engines)
    near = difflib.get_close_matches(name[:MISSPELT], (*PRESETS, *CHECKPOINTS), n=1)
    fix = "give a folder, a model of the hub as owner/name, or a preset, as duygu models lists them"
    fix = f"did you mean {near[0]}? Else {fix}" if near else fix
    raise ModelError(f"there is no model folder {name!r}", f"model {name}", fix)


def hub_name(name: str) -> tuple[str, str] | None:
    """Repository and revision, where ``name`` is a preset or can be a hub model's; ``main`` unless it says another."""
    name = repository(name)
    found = _NAME.fullmatch(name)
    if not found or ".." in name or "--" in found["repo"] or found["repo"].endswith(".git"):
        return None
    return found["repo"], found["revision"] or "main"


def pinned(name: str, revision: str | None) -> str:
    """The name to open a run's model by when it goes on: the commit it began with, if ``name`` leaves that open."""
    return revision if revision and revision.partition("@")[0] == repository(name) else name


def read_config(folder: Path, engines: Sequence[str] = ()) -> dict[str, object]:
    """``config.json`` of a family that is known here, and that all ``engines`` compute."""
    path = folder / "config.json"
    if not path.exists():
        fix = "give the folder that holds config.json, model.safetensors and the tokenizer's files"
        raise ModelError("the folder has no config.json", str(folder), fix)
    config = read_json(path, JSON_LIMIT, ModelError)
    refuse_quantised(config, str(path))
    has_twin(config, str(path), engines)
    return config


def require_engines(name: str, engines: Sequence[str]) -> None:
    """Raise `ModelError` if one of ``engines`` cannot compute the model in this folder; a hub's comes later."""
    folder = _local_folder(name) if name not in PRESETS else None
    if folder is not None:
        read_config(folder, engines)


def shard_places(index: Path) -> dict[str, str]:
    """Which shard beside ``index`` holds which tensor; a shard that is no plain file name is refused."""
    suffix = SAFETENSORS[0] if index.name == SAFETENSORS[1] else PICKLES[0]
    pattern = rf"[\w-][\w.-]*\{Path(suffix).suffix}"
    places = read_json(index, JSON_LIMIT, ModelError).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError("the index has no weight_map", str(index), FETCH_AGAIN)
    for name in cast(dict[str, object], places).values():
        if not isinstance(name, str) or not re.fullmatch(pattern, name):
            problem = f"the shard {name!r} is not a plain {Path(suffix).suffix} file name"
            raise ModelError(problem, str(index), FETCH_AGAIN)
    return cast(dict[str, str], places)


def copy_model(source: Source, target: Path) -> None:
    """Link, or where that is impossible copy, what a run reads of a model into the folder ``target``."""
    for folder in dict.fromkeys((source.folder, source.weights)):
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.suffix in RUN_FILES and path.name != ORIGIN:
                _link(path, target / path.name)
    if source.revision:
        write_json(target / ORIGIN, {"revision": source.revision})


def _local_folder(name: str) -> Path | None:
    """The folder of this name; None where there is nothing of it."""
    fix = "give a folder, or a preset, as duygu models lists them"
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            _require_inside(path)
            return path
        if path.exists():
            refuse_files([path.name], str(path))
            raise ModelError("a model is a folder, and this is a file", str(path), "give the folder around it")
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"the model folder cannot be reached: {reason}", f"model {name[:200]}", fix) from error
    return None


def _require_inside(folder: Path) -> None:
    """Refuse links that lead out of the folder: what they lead to would be copied into results.

    In the hub's cache, files are links from ``snapshots/COMMIT`` to ``blobs``, and those are the model's own.
    """
    home = folder.resolve()
    kept = home.parents[1] / "blobs" if home.parent.name == "snapshots" else home
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and path.suffix in (*RUN_FILES, ".bin"):
            target = path.resolve()
            if not (target.is_relative_to(home) or target.is_relative_to(kept)):
                problem = f"{path.name} is a link out of the model folder, to {target}"
                raise ModelError(problem, str(path), "put the file itself there, as cp -L does")


def _source(name: str, folder: Path, revision: str | None, progress: Progress) -> Source:
    """The model in ``folder``; weights that are only there as pickles are converted, others are left as they are."""
    pickles = _pickles(folder)
    if not pickles:
        return Source(name, folder, folder, revision)
    _accept(folder, str(folder / "config.json"))
    weights = converted([folder / pickle for pickle in pickles], progress)
    return Source(name, folder, weights, revision, pickles)


def _pickles(folder: Path) -> tuple[str, ...]:
    """The files to convert: none where there are safetensors."""
    whole, index = PICKLES
    if any((folder / name).exists() for name in SAFETENSORS):
        return ()
    if (folder / whole).exists():
        return (whole,)
    return tuple(sorted(set(shard_places(folder / index).values()))) if (folder / index).exists() else ()


def _accept(folder: Path, where: str, engines: Sequence[str] = ()) -> None:
    """Raise `ModelError` for a config that no model here can have, before its weights cost anything."""
    read_spec(read_config(folder, engines), ANY_LABELS, where)


def _is_complete(folder: Path) -> bool:
    """Whether a folder has all that duygu would fetch, with nothing left to convert."""
    tokenizer = any((folder / name).exists() for name in ("tokenizer.json", "vocab.txt"))
    return tokenizer and _has_weights(folder, [SAFETENSORS])


def _has_weights(folder: Path, formats: Sequence[tuple[str, str]] = (SAFETENSORS, PICKLES)) -> bool:
    """Whether weights are there, all shards of them."""
    for whole, index in formats:
        if (folder / whole).exists():
            return True
        if (folder / index).exists():
            return all((folder / shard).exists() for shard in shard_places(folder / index).values())
    return False


def _origin(folder: Path) -> str | None:
    """The hub commit that a folder is a copy of, where duygu made the copy."""
    path = folder / ORIGIN
    if not path.exists():
        return None
    revision = read_json(path, JSON_LIMIT, ModelError).get("revision")
    if not isinstance(revision, str) or not hub_name(revision):
        raise ModelError("it names no model of the hub", f"{path}: revision", "delete the file, if it is not duygu's")
    return revision


def _from_hub(name: str, progress: Progress, engines: Sequence[str]) -> Source:
    from duygu.models import hub

    repo, revision = cast(tuple[str, str], hub_name(name))
    if hub.COMMIT.fullmatch(revision) and (kept := hub.cached_folder(repo, revision)) and _is_complete(kept):
        read_config(kept, engines)
        return Source(name, kept, kept, f"{repo}@{revision}")  # a commit never changes: nobody has to be asked
    try:
        remote = hub.look_up(repo, revision)
    except hub.Unreachable as error:
        return _from_cache(name, error, progress, engines)
    return _from_commit(name, remote, progress, engines)


def _from_commit(name: str, remote: Remote, progress: Progress, engines: Sequence[str]) -> Source:
    from duygu.models import download, hub

    _, revision = cast(tuple[str, str], hub_name(name))
    if "config.json" not in remote.files:
        raise ModelError("the model has no config.json", remote.pinned, "choose a model made for transformers")
    folder = download.download(remote, [file for file in SMALL if file in remote.files], progress)
    _accept(folder, f"{remote.pinned}: config.json", engines)
    chosen = remote
    if not any(file in remote.files for file in SAFETENSORS) and (branch := hub.conversion_branch(remote)):
        progress.message(f"the weights come as safetensors from the hub's own conversion, {branch.pinned}")
        download.download(branch, [file for file in SMALL if file in branch.files], progress)
        chosen = branch
    folder = download.download(chosen, _weight_files(chosen, progress), progress)
    download.remember(remote, revision, chosen)
    return _source(name, folder, chosen.pinned, progress)


def _weight_files(remote: Remote, progress: Progress) -> list[str]:
    """The files of the weights in the best format that there is; an index is fetched to know its shards."""
    from duygu.models.download import download

    for whole, index in (SAFETENSORS, PICKLES):
        if whole in remote.files:
            return [whole]
        if index in remote.files:
            shards = set(shard_places(download(remote, [index], progress) / index).values())
            if absent := sorted(shards - remote.files.keys()):
                problem = f"the index names shards that are not there: {', '.join(absent)}"
                raise ModelError(problem, f"{remote.pinned}: {index}", "choose another revision of the model")
            return [index, *sorted(shards)]
    if ADAPTERS in remote.files:
        fix = f"fetch them with `hf download {remote.repo} --local-dir FOLDER` and predict with that folder"
        raise ModelError("the repository holds adapters, not a model", f"{remote.pinned}: {ADAPTERS}", fix)
    problem = f"the model has neither {SAFETENSORS[0]} nor {PICKLES[0]}; it has: {', '.join(sorted(remote.files))}"
    raise ModelError(problem[:1000], remote.pinned, "choose a model with PyTorch or safetensors weights")


def _from_cache(name: str, error: Unreachable, progress: Progress, engines: Sequence[str]) -> Source:
    """The model as the hub's cache has it, where the hub cannot be asked."""
    from duygu.models import hub

    repo, revision = cast(tuple[str, str], hub_name(name))
    folder = hub.cached_conversion(repo, revision) or hub.cached_folder(repo, revision)
    if folder is None or not _has_weights(folder):
        state = "is not in the cache" if folder is None else "is in the cache without its weights"
        fix = f"{error.fix}; or copy the cache of a machine that has it, or give a local folder"
        raise ModelError(f"{error.problem}, and {name} {state}", str(hub.repo_cache(repo)), fix) from error
    read_config(folder, engines)
    if not hub.is_offline():
        progress.message(f"note: {error.problem}; using the copy in the cache, commit {folder.name}")
    return _source(name, folder, f"{repo}@{folder.name}", progress)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
