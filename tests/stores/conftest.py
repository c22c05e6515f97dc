"""A ledger over the test's workspace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_cases import STARTED

from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace


@pytest.fixture
def ledger(workspace: Workspace) -> Ledger:
    return Ledger(workspace)


@pytest.fixture(autouse=True)
def _end_processes() -> Iterator[None]:
    """Leave no process behind, whatever became of the test."""
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
