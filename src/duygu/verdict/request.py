"""What a comparison was asked for, recorded in its folder, so that it can go on without being asked again.

`request.json` is written before the first run. A comparison that is resumed takes from there what it is not told, and
refuses what differs: other texts, another margin or fewer seeds would be another comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from duygu.data.corpus import Corpus
from duygu.data.sources import BY_DEFAULT, DataFormat
from duygu.engines import ENGINES, EngineName
from duygu.errors import FolderError, UserError
from duygu.files import delete_folder, make_folder, on_disk, read_json, read_text, write_json, write_text
from duygu.models.presets import PRESETS
from duygu.recipe import Recipe
from duygu.verdict.names import identity, short_names
from duygu.verdict.page import PAGE
from duygu.verdict.stats import MARGIN

PROTOCOLS = ("report-2024",)
LARGEST_MARGIN = 0.5
OWN_FILES = (
    "request.json", "split.json", "splits", "recipe.toml", "recipes", "comparison.json", "report.md", PAGE, "runs",
    "start",
)  # fmt: skip
AGAIN = "repeat the command as it was, or add --overwrite"
RECORDED = ("engines", "folds", "split_seed", "margin", "threads")  # fields that request.json holds as they are


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model of a comparison: what it is, the short name of its runs ("" where it is the only one), its recipe."""

    name: str
    source: str
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What to compare; ``recipe.precision`` "auto" is resolved once for all runs, ``recipe.seed`` is not used."""

    data: str
    model: str | tuple[str, ...]
    out: Path
    recipe: Recipe | tuple[Recipe, ...]  # of every model, or one for each
    engines: tuple[EngineName, ...] = ENGINES
    seeds: tuple[int, ...] = (13,)
    split: str | None = None
    split_seed: int = 0
    threads: int = 0  # of each run; 0 shares the cores among those that run at a time
    resume: bool = False
    overwrite: bool = False
    format: DataFormat = BY_DEFAULT
    folds: int = 0  # 0 for one test part
    margin: float = MARGIN  # of accuracy, within which engines count as equivalent
    ensemble: bool = False
    jobs: int = 0  # runs at a time; 0 for what suits the machine
    protocol: str | None = None
    track: tuple[str, ...] = ()  # tools that follow every run
    texts: bool = True  # whether report and comparison.json may quote the data

    def __post_init__(self) -> None:
        several = (self.model,) if isinstance(self.model, str) else tuple(map(identity, self.model))
        for option, values in (("--engines", self.engines), ("--seeds", self.seeds), ("--model", several)):
            if not values or len(set(values)) != len(values):
                raise UserError("each must be named once", f"{option} {','.join(map(str, values))}", "as in 13,42")
        for engine in self.engines:
            if engine not in ENGINES:
                raise UserError(f"there is no engine {engine!r}", "--engines", f"choose from: {', '.join(ENGINES)}")
        if self.folds and self.split:
            raise UserError("folds are splits of their own", "--folds --split", "give one of the two")
        require_conclusion(self.margin, self.protocol)

    @property
    def models(self) -> list[ModelRequest]:
        """The models with their short names and recipes."""
        sources = (self.model,) if isinstance(self.model, str) else self.model
        recipes = (self.recipe,) * len(sources) if isinstance(self.recipe, Recipe) else self.recipe
        names = short_names(sources) if len(sources) > 1 else [""]
        return [ModelRequest(*one) for one in zip(names, sources, recipes, strict=True)]


def require_conclusion(margin: float, protocol: str | None) -> None:
    """Raise `UserError` for a margin that decides nothing and for a protocol that is not known."""
    if not 0 < margin <= LARGEST_MARGIN:
        where = f"--margin {margin * 100:g}"
        raise UserError(f"the margin must be above 0 and at most {LARGEST_MARGIN * 100:.0f} points", where, "as in 1.5")
    if protocol not in (None, *PROTOCOLS):
        problem = f"there is no protocol {protocol!r}"
        raise UserError(problem, "--protocol", f"choose from: {', '.join(PROTOCOLS)}")


def recipe_file(out: Path, name: str) -> Path:
    """Where the recipe of the model with this short name is kept."""
    return out / "recipes" / f"{name}.toml" if name else out / "recipe.toml"


def write_recipe(out: Path, model: ModelRequest) -> None:
    """Keep the recipe of a model's runs."""
    path = recipe_file(out, model.name)
    make_folder(path.parent)
    write_text(path, model.recipe.to_toml())


def recorded(out: Path) -> dict[str, Any]:
    """The fields of the request that ``out`` was begun with, as far as it says."""
    path = out / "request.json"
    was = read_json(path) if path.exists() else {}
    kept: dict[str, Any] = {name: was[name] for name in ("data", "model", *RECORDED) if name in was}
    kept |= {name: tuple(was[name]) for name in ("engines", "seeds") if name in was}
    if "format" in was:
        kept["format"] = DataFormat(**was["format"])
    if was.get("no_texts"):
        kept["texts"] = False
    model = was.get("model", "")
    if isinstance(model, list):
        kept["model"] = tuple(cast(list[str], model))
    recipes = [kept_recipe(out, name) for name in (short_names(kept["model"]) if isinstance(model, list) else [""])]
    if None not in recipes:
        kept["recipe"] = tuple(recipes) if isinstance(model, list) else recipes[0]
    return kept


def kept_recipe(out: Path, name: str) -> Recipe | None:
    """The recipe that a model's runs began with; None before the first."""
    path = recipe_file(out, name)
    return Recipe.from_toml(read_text(path), str(path)) if path.exists() else None


def claim(request: CompareRequest) -> None:
    """Make ``out`` this comparison's own: empty, resumed, or emptied of an earlier comparison and of nothing else."""
    out = request.out
    found = [path for path in out.iterdir() if path.name != ".lock"]
    if not found or request.resume:
        return
    strangers = sorted(path.name for path in found if path.name not in OWN_FILES)
    if strangers:
        fix = "choose another --out"
        raise FolderError(f"holds what no comparison wrote: {', '.join(strangers[:5])}", str(out), fix)
    if not request.overwrite:
        raise FolderError("holds a comparison already", str(out), "add --resume or --overwrite")
    for path in found:
        with on_disk(path):
            delete_folder(path) if path.is_dir() else path.unlink()


def keep(request: CompareRequest, corpus: Corpus, jobs: int) -> CompareRequest:
    """Record the request, or hold a resumed comparison to the one it began with; the request as it now stands.

    Seeds may be added, which is recorded as such where results had been seen by then.
    """
    path = request.out / "request.json"
    asked: dict[str, Any] = {
        "data": str(Path(request.data).absolute()),
        "model": _lasting(request.model) if isinstance(request.model, str) else list(map(_lasting, request.model)),
        "texts": corpus.digest,
        "format": request.format.as_dict(),
        "seeds": list(request.seeds),
        "added_seeds": [],
        "jobs": jobs,
        **{name: getattr(request, name) for name in RECORDED},
        "engines": list(request.engines),
        **({} if request.texts else {"no_texts": True}),
    }
    if path.exists():
        asked = _held(asked, read_json(path), request.out)
    write_json(path, asked)
    return replace(request, threads=asked["threads"])


def added_seeds(out: Path) -> list[int]:
    """Seeds that were added after a first comparison had been seen."""
    path = out / "request.json"
    return read_json(path).get("added_seeds", []) if path.exists() else []


def most_jobs(out: Path) -> int:
    """How many runs of the comparison went on at a time at most."""
    path = out / "request.json"
    return read_json(path).get("jobs", 1) if path.exists() else 1


def keep_recipes(request: CompareRequest) -> None:
    """Raise `FolderError` where a resumed comparison is asked for another recipe than it began with."""
    for model in request.models:
        kept = kept_recipe(request.out, model.name)
        if kept is None:
            continue
        was, now = kept.as_dict(), model.recipe.as_dict()
        free = {"seed"} | ({"precision"} if model.recipe.precision == "auto" else set())
        changed = [name for name in now if name not in free and was[name] != now[name]]
        if changed:
            whose = f" for {model.name}" if model.name else ""
            problem = f"was begun with another {', '.join(changed)}{whose}"
            raise FolderError(problem, str(request.out), AGAIN)


def _lasting(model: str) -> str:
    """A model's name that holds in any folder."""
    folder = Path(model)
    return str(folder.resolve()) if model not in PRESETS and folder.is_dir() else model


def _held(asked: dict[str, Any], was: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """What was asked now, where it does not contradict what was asked first."""
    threads = asked["threads"] or was.get("threads", 0)
    now = {**asked, "threads": threads}
    fixed = [name for name in ("model", "texts", "format", *RECORDED) if name in was]
    changed = [name.replace("_", " ") for name in fixed if was[name] != now[name]]
    seeds = was.get("seeds", now["seeds"])
    more = [seed for seed in now["seeds"] if seed not in seeds]
    if set(seeds) - set(now["seeds"]):
        changed.append("seeds")
    if changed:
        raise FolderError(f"was begun with other {' and '.join(changed)}", str(out), AGAIN)
    seen = more if (out / "comparison.json").exists() else []
    jobs = max(now["jobs"], was.get("jobs", 1))  # at any time, since all runs' times stand in one table
    return {**now, "jobs": jobs, "added_seeds": [*was.get("added_seeds", []), *seen]}
