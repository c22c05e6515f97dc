"""Fixtures that all packages' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridloom.stores.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace of its own."""
    return Workspace(tmp_path / "gridloom")
