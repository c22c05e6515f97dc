"""Queries that the end of a run suggests: each answers, also where every task was accepted and none was scored."""

from __future__ import annotations

from pathlib import Path

from store_cases import small_run

from gridloom.cli.show.run_results import QUERIES
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.workspace import Workspace


def test_suggested_queries_answer_after_a_run_without_scores_or_failures(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*(one for one in small_run("run-1") if getattr(one, "task_id", "aaaa0001") == "aaaa0001"))
    ledger = Ledger(workspace)
    assert ledger.rows("from v_failed") == []
    for query in QUERIES:
        if "from verdicts" not in query:  # this run records none
            assert ledger.rows(query), query
