"""Fixtures shared by the solver's tests."""

from __future__ import annotations

import pytest
from mirror_task import mirror_task

from gridloom.runtime.data.tasks import Task


@pytest.fixture
def task() -> Task:
    return mirror_task()
