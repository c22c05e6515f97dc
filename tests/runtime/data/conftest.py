"""Fixtures of the data tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# the first call of a kernel may compile it
settings.register_profile("kernels", deadline=None)
settings.load_profile("kernels")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write JSON below the temporary folder and return its path."""

    def put(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return put
