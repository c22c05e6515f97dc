"""Large ledgers: the synthetic journals, and what is done with many rows."""

from __future__ import annotations

from pathlib import Path

from big_ledger import NUM_METRICS, RECORDS_AN_ATTEMPT, write_journals

from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace


def test_synthetic_journals_hold_the_attempts_asked_for_and_equal_seeds_are_equal(tmp_path: Path) -> None:
    tables = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (journal,) = write_journals(tmp_path / name, 30, seed)
        assert journal.parent == tmp_path / name / "journal"
        ledger = Ledger(Workspace(tmp_path / name))
        tables.append(ledger.query("FROM attempts ORDER BY ALL"))
        assert ledger.warnings == []
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    (row,) = Ledger(Workspace(tmp_path / "a")).rows(
        "SELECT (SELECT count(*) FROM attempts) AS attempts, (SELECT sum(num_records) FROM journals) AS records, "
        "(SELECT count(*) FROM rejected) AS rejected, (SELECT count(*) FROM v_tasks WHERE solved) > 0 AS is_scored"
    )
    assert row["attempts"] == 30
    assert row["records"] > 30 * RECORDS_AN_ATTEMPT + NUM_METRICS
    assert row["rejected"] == 0
    assert row["is_scored"]
