"""Weights that exist only as pickles: the numbers survive, whatever else is in the pickle does not run."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import read
from safetensors.numpy import load_file
from small_models import LABELS
from test_hub import NAME, Heard

from duygu.engines.torch.convert import read_numbers, reason
from duygu.errors import ModelError
from duygu.models.folder import open_model, weights_digest
from duygu.models.source import copy_model, find_model

WORD = "bert.embeddings.word_embeddings.weight"


class Bomb:
    """What a pickle can do: run a command where it is opened."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def tables(folder: Path) -> dict[str, torch.Tensor]:
    """The folder's weights as old checkpoints have them: old names of norms, a tied and a sliced tensor."""
    found = {name: torch.from_numpy(tensor) for name, tensor in load_file(folder / "model.safetensors").items()}
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in found.items()
    }
    tied = {"cls.predictions.decoder.weight": renamed[WORD], "cls.predictions.part": renamed[WORD][:, ::2]}
    return {**renamed, **tied, "bert.embeddings.position_ids": torch.arange(16)[None]}


@pytest.fixture
def pickled(handmade: Path, tmp_path: Path) -> tuple[Path, str]:
    """A folder whose weights are a pickle, and the digest of their numbers."""
    digest = weights_digest(open_model(handmade, LABELS, 1, list).tensors.items())
    folder = tmp_path / "pickled"
    handmade.rename(folder)
    torch.save(tables(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder, digest


def numbers(source: str | Path, heard: Heard | None = None) -> str:
    return weights_digest(open_model(source, LABELS, 1, list, heard or Heard()).tensors.items())


def test_a_pickle_in_a_folder_is_converted_once_and_says_so(pickled, monkeypatch, tmp_path):
    folder, digest = pickled
    (folder / "optimizer.pt").write_bytes(b"never opened")
    before, heard = read(folder), Heard()
    assert numbers(folder, heard) == digest
    (said,) = heard.messages
    assert "pytorch_model.bin, a pickle: converting it once with torch.load(weights_only=True)" in said
    assert read(folder) == before  # what is converted is kept elsewhere
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # and needs no torch any more
    heard = Heard()
    model = open_model(folder, LABELS, 1, list, heard)
    assert weights_digest(model.tensors.items()) == digest
    assert heard.messages == []
    assert [text for text in model.warnings if "never opened" in text] == [
        "never opened, since such files can hold code: optimizer.pt"
    ]
    copy = tmp_path / "copy"
    copy.mkdir()
    copy_model(find_model(folder, Heard()), copy)
    assert sorted(path.name for path in copy.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"
    ]  # fmt: skip
    assert numbers(copy) == digest


def test_a_hub_model_of_pickles_is_converted(hub, pickled, monkeypatch):
    from huggingface_hub import constants

    folder, digest = pickled
    repo = hub.add(NAME, folder)
    heard = Heard()
    assert numbers(NAME, heard) == digest
    assert len(heard.messages) == 1
    assert "converting it once" in heard.messages[0]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert numbers(NAME) == digest
    assert numbers(f"{NAME}@{repo.refs['main']}") == digest


def test_shards_of_pickles_are_converted_together(pickled):
    folder, digest = pickled
    table = tables_of(folder / "pytorch_model.bin")
    names = list(table)
    places: dict[str, str] = {}
    for shard, part in (("pytorch_model-1.bin", names[::2]), ("pytorch_model-2.bin", names[1::2])):
        torch.save({name: table[name] for name in part}, folder / shard)
        places |= dict.fromkeys(part, shard)
    (folder / "pytorch_model.bin").unlink()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert numbers(folder) == digest


def tables_of(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def test_safetensors_beside_a_pickle_are_what_is_read(handmade):
    (handmade / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(handmade / "exploded")))
    heard = Heard()
    numbers(handmade, heard)
    assert heard.messages == []
    assert not (handmade / "exploded").exists()


def test_a_hostile_pickle_is_refused_and_does_nothing(pickled):
    folder, _ = pickled
    torch.save({"weights": Bomb(folder / "exploded")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError) as caught:
        numbers(folder)
    assert caught.value.problem == "the pickle is refused: it asks for the code posix.system, which no weights need"
    assert caught.value.where == str(folder / "pytorch_model.bin")
    assert "model.safetensors" in caught.value.fix
    assert not (folder / "exploded").exists()


def test_a_config_that_is_refused_leaves_the_pickle_closed(pickled):
    folder, _ = pickled
    (folder / "config.json").write_text('{"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}')
    heard = Heard()
    with pytest.raises(ModelError, match="auto_map"):
        numbers(folder, heard)
    assert heard.messages == []


def test_without_torch_it_is_said_how_to_get_it(pickled, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as caught:
        numbers(pickled[0])
    assert "pip install 'duygu[torch]'" in caught.value.fix


def test_a_reader_that_dies_is_an_error(pickled, monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -SEGV $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(ModelError, match="its reader was ended by SIGSEGV"):
        numbers(pickled[0])


def test_a_conversion_that_was_damaged_is_made_again(pickled, tmp_path):
    folder, digest = pickled
    assert numbers(folder) == digest
    kept = find_model(folder, Heard()).weights
    os.truncate(kept / "model.safetensors", 1000)
    heard = Heard()
    assert numbers(folder, heard) == digest
    assert "converting it once" in heard.messages[0]
    (kept / "model.safetensors").unlink()
    assert numbers(folder) == digest


def test_too_small_a_disk_is_refused_before_the_conversion(pickled, monkeypatch):
    folder, _ = pickled
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3))
    monkeypatch.setattr(sys, "executable", "/no/such/python")  # it is not started
    with pytest.raises(ModelError) as caught:
        numbers(folder)
    size = (folder / "pytorch_model.bin").stat().st_size
    assert f"{size:,} bytes are needed, 3 are free" in caught.value.problem
    assert "HF_HOME" in caught.value.fix


def test_a_disk_that_fills_up_is_not_blamed_on_the_pickle(pickled, tmp_path):
    """The limit of file sizes stands for the disk; the converter inherits it."""
    folder, digest = pickled
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        with pytest.raises(ModelError) as caught:
            numbers(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "the converted weights, about" in caught.value.problem
    assert "cannot be written" in caught.value.problem
    assert "HF_HOME" in caught.value.fix
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert numbers(folder) == digest


@pytest.mark.parametrize("kind", ["missing", "a pipe", "a folder"])
def test_a_shard_that_is_no_file_is_named(pickled, kind):
    folder, _ = pickled
    (folder / "pytorch_model.bin").unlink()
    shard = folder / "pytorch_model-1.bin"
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {WORD: shard.name}}))
    if kind == "a pipe":
        os.mkfifo(shard)
    elif kind == "a folder":
        shard.mkdir()
    with pytest.raises(ModelError) as caught:
        numbers(folder)
    assert caught.value.where == str(shard)


def test_the_process_itself_never_imports_torch_and_nothing_comes_from_where_it_stands(pickled, tmp_path):
    folder, digest = pickled
    for name in ("torch.py", "json.py", "numpy.py", "safetensors.py", "duygu.py"):
        (folder / name).write_text(f"open({str(folder / 'exploded')!r}, 'w')")
    program = """
import sys
from duygu.models.folder import open_model, weights_digest
model = open_model(".", ("düşüş", "yükseliş"), 1, list)
print(weights_digest(model.tensors.items()), "torch" in sys.modules)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{digest} False\n"
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_are_those_that_were_saved_in_either_format(tmp_path, zipped):
    table = {"a": torch.randn(3, 4), "b": torch.randn(5).bfloat16(), "c": torch.nn.Parameter(torch.randn(2))}
    table["d"] = table["a"].T
    torch.save(table, tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    found = read_numbers(tmp_path / "x.bin")
    assert found.keys() == table.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in table.items())
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in found.values())
    assert len({tensor.data_ptr() for tensor in found.values()}) == len(found)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([torch.zeros(3)], "it holds a list"),
        ({}, "it holds a dict"),
        ({"model": {"a": torch.zeros(3)}}, "'model': dict"),
        ({3: torch.zeros(3)}, "3: Tensor"),
        ({"a": torch.zeros(3).to_sparse()}, "sparse"),
        ({"a": torch.zeros(3, device="meta")}, "empty of numbers"),
        ({"a": torch.zeros(1).expand(10**9)}, "its tensors would take 4,000,000,000 bytes"),
    ],
)
def test_what_is_no_table_of_tensors_is_refused(tmp_path, content, why):
    torch.save(content, tmp_path / "x.bin")
    with pytest.raises(ValueError, match=why):
        read_numbers(tmp_path / "x.bin")


@pytest.mark.parametrize("damage", [b"", b"x", b"\x80\x02.", "cut", "cut in half"])
def test_damaged_pickles_end_in_an_error_with_a_reason(tmp_path, damage):
    path = tmp_path / "x.bin"
    torch.save({"a": torch.zeros(300)}, path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-1], "cut in half": whole[: len(whole) // 2]}.get(damage, damage))
    with pytest.raises((RuntimeError, EOFError, ValueError, IndexError, pickle.UnpicklingError)) as caught:
        read_numbers(path)
    assert reason(caught.value).startswith("it is damaged, or no file of torch.save (")
    assert "\n" not in reason(caught.value)
