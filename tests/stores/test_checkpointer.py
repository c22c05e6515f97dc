"""DuckDBSaver: LangGraph's own conformance suite, and what the suite does not ask: crashes, retention, forks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability

from gridloom.stores.checkpointer import DuckDBSaver
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.workspace import Workspace


def test_saver_passes_every_capability_of_the_conformance_suite(tmp_path: Path) -> None:
    folders = iter(range(100))

    @checkpointer_test(name="DuckDBSaver")
    async def saver() -> AsyncGenerator[BaseCheckpointSaver[str], None]:
        with LedgerWriter(Workspace(tmp_path / str(next(folders))), "run") as writer:
            yield DuckDBSaver(writer)

    report = asyncio.run(validate(saver))
    for capability in Capability:
        result = report.results[capability.value]
        assert result.detected, capability
        assert result.failures == []
        assert result.tests_passed > 0
