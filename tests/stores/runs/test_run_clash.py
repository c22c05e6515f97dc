"""Run ids: they sort by time and do not collide; two runs with one id in merged journals are refused."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridloom.errors import StoreError
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import MetricRecord, RunRecord
from gridloom.stores.runs import clock_id as ids
from gridloom.stores.runs.clock_id import clock_id, names_second_only
from gridloom.stores.workspace import Workspace

OLD, NEW = "2026-11-21T16-18-02", "2026-11-21T16-18-02-4k9q2x7m"
T = 1_795_277_882.0


def test_ids_made_at_once_differ_and_are_short() -> None:
    made = [clock_id() for _ in range(2000)]
    assert len(set(made)) == len(made)
    assert {len(one) for one in made} == {28}
    assert not any(map(names_second_only, (*made, "2026-11-30T19-45-03-48392071")))
    assert names_second_only(OLD)
    assert names_second_only(f"{OLD}-2")


@given(st.lists(st.integers(0, 2**60), min_size=2, max_size=6))
def test_ids_sort_as_the_clock(times_ns: list[int]) -> None:
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for now in times_ns:
            patch.setattr(ids.time, "time_ns", lambda now=now: now)
            found[now] = clock_id()
    ordered = sorted(times_ns)
    for earlier, later in pairwise(ordered):
        if later - earlier > 10**9 / 1024 + 1:
            assert found[earlier] < found[later]


def start(root: Path, run_id: str, started: float, ended: float | None = None, **columns: object) -> Path:
    """A journal of its own with one process of a run."""
    with LedgerWriter(Workspace(root), run_id) as writer:
        fields: dict[str, object] = {"graph_key": "gl1:a", "host": "one", "pid": 7, "status": "started"} | columns
        writer.append(RunRecord(run_id=run_id, started_at=started, **fields))  # type: ignore[arg-type]
        writer.append(MetricRecord(run_id=run_id, stage="s", step=1, name="loss", value=started, recorded_at=started))
        if ended is not None:
            writer.append(RunRecord(run_id=run_id, status="done", ended_at=ended))
        assert writer.journal_path is not None
        return writer.journal_path


CLASHES = [
    (OLD, {"host": "two", "pid": 7}, T + 0.4),
    (OLD, {"pid": 8}, T + 0.4),
    (OLD, {"graph_key": "gl1:b"}, T + 0.4),
    (OLD, {"graph_key": "gl1:b"}, T + 4000),
    (NEW, {"graph_key": "gl1:b"}, T + 4000),
]


@pytest.mark.parametrize(("run_id", "other", "started"), CLASHES)
@pytest.mark.parametrize("ingested_first", [True, False])
def test_another_run_of_one_id_is_refused_and_nothing_of_it_is_read(
    tmp_path: Path, run_id: str, other: dict[str, object], started: float, ingested_first: bool
) -> None:
    start(tmp_path / "a", run_id, T, T + 100)
    foreign = start(tmp_path / "b", run_id, started, started + 50, **other)
    ledger = Ledger(Workspace(tmp_path / "a"))
    if ingested_first:
        ledger.ingest()
    merged = tmp_path / "a" / "journal" / foreign.name
    shutil.copy(foreign, merged)
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"journal {merged} has another run with the id {run_id}: in it host"):
            ledger.rows("from runs")
    merged.unlink()
    assert ledger.rows("select value from metrics") == [{"value": T}]
    assert Ledger(Workspace(tmp_path / "b")).rows("select value from metrics") == [{"value": started}]


@pytest.mark.parametrize(
    ("run_id", "other", "started", "ended"),
    [
        (OLD, {"pid": 8}, T + 60, T + 50),  # resumed
        (OLD, {"pid": 8}, T + 60, None),  # resumed after a kill
        (OLD, {"host": "two", "pid": 7}, T + 600, None),  # resumed on another host
        (OLD, {"pid": 8}, T + 0.9, T + 0.5),  # resumed at once
        (OLD, {}, T + 0.9, None),  # by the same process
        (NEW, {"pid": 8}, T + 0.4, None),
    ],
)
def test_a_resumed_run_is_no_other_run(
    tmp_path: Path, run_id: str, other: dict[str, object], started: float, ended: float | None
) -> None:
    start(tmp_path, run_id, T, ended)
    start(tmp_path, run_id, started, started + 50, **other)
    (row,) = Ledger(Workspace(tmp_path)).rows("select *, epoch(started_at) as began from runs")
    assert row["began"] == T
