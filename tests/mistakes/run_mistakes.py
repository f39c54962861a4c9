"""Recipes, options and run folders: what a user asked for, and what the answer says."""

from __future__ import annotations

import atexit
import fcntl
import json
from collections.abc import Callable
from pathlib import Path

from duygu.models.presets import recipe_for
from tests.mistakes.case import Mistake
from tests.mistakes.model_mistakes import write_texts
from tests.models.small_models import write_model_folder

Make = Callable[[Path], list[str]]


def asked(*words: str) -> Make:
    """Training the tiny preset with these words more."""

    def make(folder: Path) -> list[str]:
        texts = write_texts(folder)
        return ["train", texts, "--engine", "torch", "--model", "tiny", "--out", "run", "--threads", "1", *words]

    return make


def setting(pair: str) -> Make:
    return asked("--set", pair)


def recipe(content: str | bytes, name: str = "mine.toml") -> Make:
    """Training with a recipe file of this content."""

    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return asked("--recipe", name)(folder)

    return make


def recipe_folder(folder: Path) -> list[str]:
    (folder / "mine.toml").mkdir()
    return asked("--recipe", "mine.toml")(folder)


def run_folder(*words: str, **files: str) -> Make:
    """Training into a folder that holds these files: names with ``_`` for ``.``."""

    def make(folder: Path) -> list[str]:
        (folder / "run").mkdir()
        for name, content in files.items():
            (folder / "run" / name.replace("_", ".")).write_text(content, encoding="utf-8")
        return asked("--set", "epochs=1", *words)(folder)

    return make


def run_is_a_file(folder: Path) -> list[str]:
    (folder / "run").write_text("thesis", encoding="utf-8")
    return asked()(folder)


def run_below_a_file(folder: Path) -> list[str]:
    (folder / "notes").write_text("thesis", encoding="utf-8")
    return [*asked()(folder), "--out", "notes/run"]


def run_under_way(folder: Path) -> list[str]:
    """Another run has locked the folder; a lock counts against every other opening of the file, here too."""
    (folder / "run").mkdir()
    file = (folder / "run" / ".lock").open("w+", encoding="utf-8")
    file.write("4711\n")
    file.flush()
    fcntl.flock(file, fcntl.LOCK_EX)
    atexit.register(file.close)  # held for as long as the process that made the case lives
    return asked()(folder)


def short_model(folder: Path) -> list[str]:
    write_model_folder(folder / "model")
    return [*asked()(folder), "--model", "model"]


def compared(*words: str) -> Make:
    def make(folder: Path) -> list[str]:
        return ["compare", write_texts(folder), "--model", "tiny", "--out", "out", *words]

    return make


def compared_into(name: str) -> Make:
    """Comparing into a folder that holds a file of this name already."""

    def make(folder: Path) -> list[str]:
        (folder / "out").mkdir()
        (folder / "out" / name).write_text("{}", encoding="utf-8")
        return compared("--seeds", "1")(folder)

    return make


STARTED, TINY = recipe_for("tiny").changed({"epochs": 1}).to_toml(), ("--resume",)
OTHER_RECIPE = STARTED.replace("epochs = 1", "epochs = 3")
OTHER_DATA = json.dumps({"schema": 1, "corpus": "0" * 64, "split": "0" * 64})

RECIPES = [
    ("a recipe key with a slip", setting("epoch=3"), "did you mean epochs?", "recipe field epoch"),
    ("a recipe key of another program", setting("learning_rate=2e-5"), "did you mean lr?", "learning_rate"),
    ("a setting without a value", setting("epochs"), "'epochs' is not key=value", "--set epochs"),
    ("a setting without a key", setting("=3"), "unknown recipe field ''", "recipe field"),
    ("no epochs", setting("epochs=0"), "epochs = 0 is out of range", "recipe field epochs"),
    ("half an epoch", setting("epochs=2.5"), "epochs = '2.5' is not usable", "recipe field epochs"),
    ("a word as a number", setting("epochs=many"), "epochs = 'many' is not usable", "recipe field epochs"),
    ("a rate of 0", setting("lr=0"), "lr = 0.0 is out of range", "recipe field lr"),
    ("a rate below 0", setting("lr=-2e-5"), "lr = -2e-05 is out of range", "recipe field lr"),
    ("a rate that is no number", setting("lr=nan"), "lr = 'nan' is not usable", "recipe field lr"),
    ("a rate with a decimal comma", setting("lr=0,001"), "lr = '0,001' is not usable", "recipe field lr"),
    ("an empty batch", setting("batch=0"), "batch = 0 is out of range", "recipe field batch"),
    ("texts of three tokens", setting("length=3"), "length = 3 is out of range", "recipe field length"),
    ("more tokens than the model has positions", short_model, "length = 256, but the model has 16 positions",
     "recipe field length"),
    ("warm-up as per cent", setting("warmup=10"), "warmup = 10.0 is out of range", "recipe field warmup"),
    ("dropout of everything", setting("dropout=1"), "dropout = 1.0 is out of range", "recipe field dropout"),
    ("a precision that is not known", setting("precision=fp8"), "precision = 'fp8' is out of range", "precision"),
    ("a choice that is none", setting("keep=first"), "keep = 'first' is out of range", "recipe field keep"),
    ("a seed below 0", setting("seed=-1"), "seed = -1 is out of range", "recipe field seed"),
    ("a recipe preset with a slip", asked("--recipe", "defaults"), "there is no recipe preset 'defaults'", "--recipe"),
    ("a recipe file that is not there", asked("--recipe", "absent.toml"), "cannot be read", "absent.toml"),
    ("a recipe file that is a folder", recipe_folder, "not a regular file", "mine.toml"),
    ("a recipe file in Latin-5", recipe("# öğrenme\n".encode("iso-8859-9")), "not UTF-8", "mine.toml"),
    ("a recipe file that is no TOML", recipe("epochs: 3\n"), "not valid TOML", "mine.toml"),
    ("a recipe file with a key twice", recipe("epochs = 3\nepochs = 4\n"), "not valid TOML", "mine.toml"),
    ("a recipe file with a slip", recipe("epoch = 3\n"), "did you mean epochs?", "mine.toml"),
    ("a recipe file with sections", recipe("[train]\nepochs = 3\n"), "unknown recipe field 'train'", "mine.toml"),
    ("a recipe file with a list", recipe("epochs = [3]\n"), "epochs = [3] is not usable", "mine.toml"),
    ("a recipe file with true for a number", recipe("batch = true\n"), "batch = True is not usable", "mine.toml"),
    ("a recipe file with a value out of range", recipe("lr = 3\n"), "lr = 3.0 is out of range", "mine.toml"),
]  # fmt: skip
RUNS = [
    ("an output folder that holds a run", run_folder(recipe_toml=STARTED), "the folder holds a run already", "run"),
    ("an output folder with other files", run_folder(thesis_txt="work"), "holds no run: thesis.txt", "run"),
    ("an output folder that is a file", run_is_a_file, "a file lies where a folder is wanted", "run"),
    ("an output folder below a file", run_below_a_file, "a file lies where a folder is", "notes"),
    ("a second run in the same folder", run_under_way, "another run (process 4711) is writing here", "run"),
    ("going on and starting again at once", run_folder("--resume", "--overwrite", recipe_toml=STARTED),
     "both go on and start again?", "--resume --overwrite"),
    ("going on with another recipe", run_folder(*TINY, recipe_toml=OTHER_RECIPE), "epochs was 3, now 1",
     "recipe.toml"),
    ("going on with other documents", run_folder(*TINY, recipe_toml=STARTED, data_json=OTHER_DATA),
     "this run began with another data or model: corpus", "data.json"),
    ("going on from a damaged record", run_folder(*TINY, recipe_toml=STARTED, data_json="{"), "not valid JSON",
     "data.json"),
    ("going on from a damaged recipe", run_folder(*TINY, recipe_toml="epochs ="), "not valid TOML", "recipe.toml"),
    ("going on from a recipe of a newer version", run_folder(*TINY, recipe_toml="epochs = 1\nlora = 8\n"),
     "unknown recipe field 'lora'", "recipe.toml"),
    ("an engine that is not known", asked("--engine", "tensorflow"), "there is no engine 'tensorflow'", "--engine"),
    ("comparing an engine that is not known", compared("--engines", "torch,tf"), "no engine 'tf'", "--engine"),
    ("comparing into a folder that holds a comparison", compared_into("request.json"), "already", "out"),
    ("comparing into a folder of other files", compared_into("thesis.txt"), "thesis.txt", "out"),
    ("comparing runs that are not there", lambda folder: ["compare", "first", "second"], "no", "first"),
]  # fmt: skip

MISTAKES: list[Mistake] = [
    Mistake(area, what, make, says, where)
    for area, table in (("Recipes", RECIPES), ("Runs", RUNS))
    for what, make, says, where in table
]
