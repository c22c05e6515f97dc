"""The managed language model, loaded once a test session from the user's cache; pulled where it is not there yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from gridloom.runtime.models.llama import Llama
from gridloom.specs.models import LlamaModel


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def smollm2() -> Llama:
    """smollm2-135m in fp32."""
    return Llama.load(LlamaModel(weights="smollm2-135m"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, for tests that write there."""
    monkeypatch.setenv("GRIDLOOM_CACHE", str(tmp_path / "cache"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert os.environ["GRIDLOOM_CACHE"]
    return tmp_path / "cache"
