"""A ledger over the test's workspace."""

from __future__ import annotations

import pytest

from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace


@pytest.fixture
def ledger(workspace: Workspace) -> Ledger:
    return Ledger(workspace)
