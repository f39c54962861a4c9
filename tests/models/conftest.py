"""Small model folders: one made by hand with numpy, and transformers' own as the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, running_hub
from small_models import LABELS, SIZES, write_model_folder, write_tokenizer

from duygu.models.spec import ModelSpec, read_spec


@pytest.fixture
def spec() -> ModelSpec:
    return read_spec({"model_type": "bert", **SIZES}, LABELS, "config.json")


@pytest.fixture
def handmade(tmp_path: Path) -> Path:
    """A sound folder of an encoder without head."""
    return write_model_folder(tmp_path / "handmade")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """A function (transformers class name, config values, save options) -> its folder and its state_dict in numpy."""

    def make(kind: str, config: dict[str, Any] | None = None, **options: Any) -> tuple[Path, dict[str, Any]]:
        import torch
        import transformers

        torch.manual_seed(1)
        model = getattr(transformers, kind)(transformers.BertConfig(**{**SIZES, **(config or {})}))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.to(options.pop("dtype", torch.float32))
        folder = tmp_path / kind
        model.save_pretrained(folder, **options)
        write_tokenizer(folder)
        return folder, {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}

    return make


@pytest.fixture(autouse=True)
def no_other_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of this test alone, and no hub but the one that a test starts."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "cache" / "assets"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "cache" / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A local hub that this process takes for the hub; pauses between attempts are left out."""
    from huggingface_hub import close_session, constants

    from duygu.models import download

    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        monkeypatch.setattr(download, "PAUSE_S", 0.01)
        yield hub
        close_session()
