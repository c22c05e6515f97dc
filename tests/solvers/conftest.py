"""Fixtures shared by the solver's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from mirror_task import mirror_task
from solve_support import Place, Reporter, place, write_llama

from gridloom.runtime.data.tasks import Task
from gridloom.stores.artifacts import Artifact


@pytest.fixture
def task() -> Task:
    return mirror_task()


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random LLaMA's folder."""
    folder = tmp_path_factory.mktemp("llama") / "llama"
    write_llama(folder)
    return folder


@pytest.fixture(scope="session")
def solved(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> tuple[Place, Artifact, Reporter]:
    """A whole solve, for tests that only look."""
    made = place(tmp_path_factory.mktemp("solved") / "place", llama)
    return made, *made.solve()
