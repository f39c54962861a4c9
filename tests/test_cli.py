"""The command line as its users meet it: help, answers, errors, exit codes, on real runs."""

from __future__ import annotations

import csv
import inspect
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from duygu import cli
from duygu.errors import DataError, DuyguError, GateError, Interrupted
from duygu.models.presets import recipe_preset
from duygu.options import chosen_recipe, texts_to_predict
from duygu.recipe import Recipe
from tests.test_layers import HEAVY, imported_by

VERBS = (
    "audit", "bench", "compare", "demo", "doctor", "evaluate", "models", "parity", "predict", "report", "split", "train"
)  # fmt: skip
SHARED = {"json", "help"}
FORMAT = "text-column label-column id-column date-column source-column encoding"
OPTIONS = {
    "audit": f"split model unlabelled out overwrite strict {FORMAT}",
    "bench": "workloads contenders rounds quick documents data texts model vocabulary out resume overwrite threads",
    "train": "engine model out recipe set print-recipe seed merge split split-seed resume overwrite threads fold track "
    + FORMAT,
    "compare": "model engines seeds folds margin ensemble protocol jobs out recipe set print-recipe split split-seed "
    f"resume overwrite threads track texts {FORMAT}",
    "evaluate": f"split engine precision threads {FORMAT}",
    "parity": f"steps documents seed set threads {FORMAT}",
    "predict": "engine precision threads",
    "split": f"out kind folds shares left-out seed overwrite {FORMAT}",
    "demo": "out",
    "doctor": "model recipe set engine",
    "models": "",
    "report": "texts",
}
Runs = dict[str, tuple[Path, dict[str, Any]]]
Answer = tuple[int, str, str]


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command line in this process: exit code, standard output, standard error."""

    def run(*arguments: str | Path) -> Answer:
        code = cli.main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def failing_verb() -> Iterator[Callable[[BaseException], None]]:
    """A verb ``fail`` that raises what it is told to."""

    def install(error: BaseException) -> None:
        @cli.duygu.command("fail")
        def fail() -> None:
            raise error

    yield install
    cli.duygu.commands.pop("fail", None)


def test_verbs_and_options_are_the_documented_ones() -> None:
    """A new flag is a promise: add it here when it is meant."""
    assert tuple(sorted(cli.duygu.commands)) == VERBS
    for verb, names in OPTIONS.items():
        command = cli.duygu.commands[verb]
        long = {name for option in command.params for name in option.opts if name.startswith("--")}
        assert long == {f"--{name}" for name in (*names.split(), "json")}, verb


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_and_every_option_help(verb: str) -> None:
    command = cli.duygu.commands[verb]
    assert f"Example:\n  duygu {verb}" in inspect.cleandoc(command.help or "")
    assert all(option.help for option in command.params if isinstance(option, click.Option))


@pytest.mark.parametrize("arguments", ["'--help'", "'train', '--help'", "'--version'"])
def test_help_imports_nothing_heavy(arguments: str) -> None:
    assert not imported_by(f"from duygu.cli import main; main([{arguments}])") & HEAVY


def test_help_answers_at_once(duygu: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """200 ms on an idle machine; the bound leaves room for a busy one."""
    times: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        assert duygu("--help").stdout.startswith("Usage: duygu")
        times.append(time.perf_counter() - began)
    assert min(times) < 1.0


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (DataError("no labels", "texts/", "make one folder per label"), 2, 3),
        (GateError("collapsed"), 3, 1),
        (DuyguError("the loss is not finite"), 1, 1),
        (Interrupted(2, "saved"), 130, 1),
        (Interrupted(15, "saved"), 143, 1),
        (KeyboardInterrupt(), 130, 2),  # click ends the line with ^C in it first
        (ZeroDivisionError("division by zero"), 1, 1),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, lines: int, ask: Callable[..., Answer], failing_verb: Callable[..., None]
) -> None:
    failing_verb(error)
    found, out, err = ask("fail")
    assert (found, out, len(err.splitlines())) == (code, "", lines)
    assert "Traceback" not in err


def test_traceback_is_shown_on_request(
    ask: Callable[..., Answer], failing_verb: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUYGU_TRACEBACK", "1")
    failing_verb(ZeroDivisionError("division by zero"))
    _, _, err = ask("fail")
    assert "Traceback" in err
    assert "in fail" in err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("train", "Missing argument 'DATA'"),
        ("train nowhere --engine torch --model tiny --out run", "there is no such folder"),
        ("train nowhere --engine tensorflow --model tiny --out run", "nowhere"),
        ("train nowhere --engine torch --model tiny --out run --set epochs", "not key=value"),
        ("train nowhere --engine torch --model tiny --out run --set epoch=3", "did you mean epochs?"),
        ("train nowhere --engine torch --model tiny --out run --recipe huge", "no recipe preset 'huge'"),
        ("train nowhere --engine torch --model tiny --out run --recipe huge.toml", "huge.toml"),
        ("train --print-recipe --recipe report2024", "did you mean report-2024?"),
        ("train --print-recipe --seed -1", "--seed"),
        ("doctor --model nowhere", "there is no config.json"),
        ("doctor --model tiny --set length=600", "the model has 512 positions"),
        ("doctor --model tiny --engine tf", "no engine 'tf'"),
        ("doctor --set length=600", "--model"),
        ("report nowhere", "neither comparison.json nor metrics.json"),
        ("compare nowhere", "give --model and --out with DATA"),
        ("compare run run --model tiny", "leave --model out"),
        ("compare nowhere --model tiny,./tiny,tiny --out out", "each must be named once"),
        ("compare nowhere --model tiny,,berturk --out out", "nothing between two commas"),
        ("compare --model tiny,berturk --print-recipe", "name one with --print-recipe"),
        ("compare nowhere --model tiny --out out --seeds 1,b", "not a list of whole numbers"),
        ("compare nowhere --model tiny --out out --engines torch,tf", "no engine 'tf'"),
        ("compare nowhere --model tiny --out out --margin 0", "the margin must be above 0"),
        ("compare nowhere --model tiny --out out --protocol other", "no protocol 'other'"),
        ("compare nowhere --model tiny --out out --folds 2 --split split.json", "folds are splits of their own"),
        ("compare --resume --out nowhere", "does not say what was to be compared"),
        ("predict nowhere text", "nowhere"),
        ("predict nowhere missing.txt", "missing.txt"),
    ],
)
def test_mistakes_are_named_with_exit_code_2(
    command: str, says: str, ask: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = ask(*command.split())
    assert (code, out) == (2, "")
    assert says in err


def test_control_characters_are_shown_escaped(ask: Callable[..., Answer]) -> None:
    """A name may come from anyone; none may clear the screen or turn text around."""
    _, _, err = ask("predict", "no\x1b[2Jwhere\u202e", "text")
    assert "no\\x1b[2Jwhere\\u202e" in err
    assert "\x1b" not in err


def test_train_prints_the_metrics_it_writes(tiny_runs: Runs) -> None:
    for engine, (folder, printed) in tiny_runs.items():
        assert printed == json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        assert printed["engine"] == engine
        assert not printed["collapsed"]


@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_predict_repeats_the_runs_predictions(
    engine: str, tiny_runs: Runs, texts: Path, tmp_path: Path, ask: Callable[..., Answer]
) -> None:
    """The probabilities in predictions.csv, from the same texts through a file, to the fourth digit in text."""
    folder, _ = tiny_runs[engine]
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    lines = "".join((texts / row["id"]).read_text(encoding="utf-8") + "\n\n" for row in rows)
    (tmp_path / "lines.txt").write_text(lines, encoding="utf-8")

    code, out, _ = ask("predict", folder, tmp_path / "lines.txt", "--engine", engine, "--json")
    answers = json.loads(out)["predictions"]
    assert code == 0
    assert [answer["label"] for answer in answers] == [row["predicted"] for row in rows]
    for answer, row in zip(answers, rows, strict=True):
        assert answer["probabilities"]["rise"] == pytest.approx(float(row["p(rise)"]), abs=1e-5)

    _, out, _ = ask("predict", folder / "model", tmp_path / "lines.txt", "--engine", engine)
    cells = [line.split("\t") for line in out.splitlines()]
    assert cells == [
        [row["predicted"], f"fall={answer['probabilities']['fall']:.4f}", f"rise={answer['probabilities']['rise']:.4f}"]
        for row, answer in zip(rows, answers, strict=True)
    ]


def test_predict_reads_standard_input(tiny_runs: Runs, duygu: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = duygu("predict", tiny_runs["torch"][0], "-", stdin="Record profit and strong growth.\nLoss, debt, cuts.\n")
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["rise", "fall"]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"", []),
        (b"one\r\n\r\n two \n", ["one\r", " two "]),
        ("kâr\nzarar".encode("utf-16"), ["kâr", "zarar"]),
        ("düşüş\n".encode("cp1254"), ["düşüş"]),
    ],
)
def test_file_is_one_document_a_line_in_any_encoding(content: bytes, texts: list[str], tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_bytes(content)
    assert texts_to_predict(str(tmp_path / "lines.txt")) == texts


@pytest.mark.parametrize("text", ["Profits rose.", "a" * 5000, "see notes.txt", "nul\0byte", "."])
def test_text_is_taken_as_text(text: str) -> None:
    assert texts_to_predict(text) == [text]


@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_evaluate_scores_the_test_part_as_the_run_did(
    engine: str, tiny_runs: Runs, texts: Path, ask: Callable[..., Answer]
) -> None:
    """The torch run's model in either engine; without a split the run's own test part is known."""
    folder, metrics = tiny_runs["torch"]
    code, out, err = ask("evaluate", folder, texts, "--engine", engine, "--json")
    found = json.loads(out)
    assert code == 0
    assert "test documents" in err
    assert (found["part"], found["engine"]) == ("test", engine)
    assert found["confusion"] == metrics["test"]["confusion"]
    assert found["loss"] == pytest.approx(metrics["test"]["loss"], abs=1e-5)


def test_evaluate_scores_everything_of_other_texts(
    tiny_runs: Runs, texts: Path, tmp_path: Path, ask: Callable[..., Answer]
) -> None:
    for path in sorted(texts.glob("*/0*.txt")):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    code, out, _ = ask("evaluate", tiny_runs["torch"][0], tmp_path, "--engine", "torch")
    assert code == 0
    assert "on 20 documents" in out


def test_finished_runs_are_compared(tiny_runs: Runs, tmp_path: Path, ask: Callable[..., Answer]) -> None:
    folders = [folder for folder, _ in tiny_runs.values()]
    code, out, _ = ask("compare", *folders, "--out", tmp_path / "comparison", "--json")
    found = json.loads(out)
    assert code == 0
    assert [run["engine"] for run in found["runs"]] == ["torch", "jax"]
    assert found["pairs"][0]["agreement"] == 1.0
    assert found == json.loads((tmp_path / "comparison" / "comparison.json").read_text(encoding="utf-8"))
    code, out, _ = ask("compare", *folders)
    assert code == 0
    assert "McNemar" in out
    assert "\x1b" not in out


def test_collapsed_run_ends_in_exit_code_3(
    texts: Path, tmp_path: Path, duygu: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    knobs = ("--set", "epochs=1", "--set", "lr=1e-9", "--set", "length=16", "--set", "precision=fp32")
    done = duygu("train", texts, "--engine", "torch", "--model", "tiny", "--out", tmp_path / "run", *knobs, "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["collapsed"] is True


def test_recipe_is_preset_then_settings_then_seed(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("lr = 0.5\nseed = 3\n", encoding="utf-8")
    chosen = chosen_recipe("tiny", str(tmp_path / "own.toml"), ("epochs=2", "seed=4"), 5)
    assert (chosen.lr, chosen.epochs, chosen.seed) == (0.5, 2, 5)
    assert chosen_recipe("tiny", None, ()).lr != chosen_recipe("tiny", "default", ()).lr


def test_merge_is_a_recipe_field_by_a_plain_name(ask: Callable[..., Answer]) -> None:
    """As --seed it comes after every --set; without adapters there is nothing that it could merge."""
    chosen = chosen_recipe("tiny", None, ("lora_rank=4", "lora_save=adapter"), merge=True)
    assert chosen == chosen_recipe("tiny", None, ("lora_rank=4", "lora_save=merged"))
    _, out, _ = ask("train", "--recipe", "llama-4bit", "--merge", "--print-recipe")
    assert Recipe.from_toml(out) == recipe_preset("llama-4bit").recipe.changed({"lora_save": "merged"})
    code, out, err = ask("train", "--model", "tiny", "--merge", "--print-recipe")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "there are no adapters to merge: lora_rank is 0",
        "  where: --merge",
        "  fix:   --set lora_rank=16, or leave --merge out",
    ]


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_recipe_is_printed_without_any_other_argument(verb: str, ask: Callable[..., Answer]) -> None:
    """And arguments are needed again in the next command."""
    code, out, err = ask(verb, "--recipe", "report-2024", "--set", "epochs=2", "--print-recipe")
    assert (code, err) == (0, "")
    assert Recipe.from_toml(out) == recipe_preset("report-2024").recipe.changed({"epochs": 2})
    assert "Set by hand; the preset has 3." in out
    code, out, _ = ask(verb, "texts", "--print-recipe", "--model", "tiny")
    assert (code, Recipe.from_toml(out)) == (0, recipe_preset("tiny").recipe)
    code, _, err = ask(verb)
    assert code == 2
    assert "Missing argument" in err


def test_printed_recipe_is_a_recipe_file(tmp_path: Path, ask: Callable[..., Answer]) -> None:
    _, out, _ = ask("train", "--recipe", "report-2024", "--print-recipe", "--seed", "5")
    (tmp_path / "mine.toml").write_text(out, encoding="utf-8")
    chosen = chosen_recipe("tiny", str(tmp_path / "mine.toml"), ("lr=1e-4",))
    assert chosen == recipe_preset("report-2024").recipe.changed({"seed": 5, "lr": 1e-4})


def test_runs_and_comparisons_have_a_page(tiny_runs: Runs, tmp_path: Path, ask: Callable[..., Answer]) -> None:
    """Written by train; made again, to the byte, by report."""
    for folder, _ in tiny_runs.values():
        page = (folder / "report.html").read_bytes()
        assert b"Training loss, step by step" in page
        code, out, _ = ask("report", folder)
        assert (code, out) == (0, f"{folder / 'report.html'}\n")
        assert (folder / "report.html").read_bytes() == page
    ask("compare", *(folder for folder, _ in tiny_runs.values()), "--out", tmp_path / "both")
    page = (tmp_path / "both" / "report.html").read_bytes()
    assert b"Training loss, step by step" in page
    assert len(page) < 300_000
    code, out, _ = ask("report", tmp_path / "both", "--json")
    assert json.loads(out) == {"schema": 1, "page": str(tmp_path / "both" / "report.html")}
    assert (tmp_path / "both" / "report.html").read_bytes() == page


def test_module_runs_as_the_script_does() -> None:
    done = subprocess.run([sys.executable, "-m", "duygu", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("duygu, version ")


@pytest.mark.slow
def test_parity_passes_on_the_tiny_model(texts: Path, duygu: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = duygu("parity", "tiny", texts, "--steps", "2", "--documents", "8", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True


@pytest.mark.slow
def test_demo_compares_both_engines(tmp_path: Path, duygu: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = duygu("demo", "--out", tmp_path / "demo", "--json")
    assert done.returncode == 0, done.stderr
    assert {run["engine"] for run in json.loads(done.stdout)["runs"]} == {"torch", "jax"}
    assert "next: duygu predict" in done.stderr
    assert (tmp_path / "demo" / "report.html").stat().st_size < 300_000
