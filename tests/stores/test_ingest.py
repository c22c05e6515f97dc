"""Ingestion: exactly once, whatever was damaged, in whatever order, and nothing dropped without a word."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import RIGHT, attempt, call, small_run, task

from gridloom.errors import StoreError
from gridloom.stores import ingest as ingest_module
from gridloom.stores.evaluation_records import EVALUATION_TABLES
from gridloom.stores.ingest import ingest_journals
from gridloom.stores.journal import encode_line
from gridloom.stores.layout import lay_out_empty
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.reading import read_records
from gridloom.stores.records import (
    TABLES,
    AttemptRecord,
    LlmCallRecord,
    MetricRecord,
    Record,
    RunRecord,
    StageRecord,
    TaskRecord,
    as_dict,
)
from gridloom.stores.schema import FIGURES
from gridloom.stores.workspace import Workspace


def write(workspace: Workspace, *batches: list[Record]) -> Path:
    """Append each batch as one unit to a fresh journal; return its path."""
    with LedgerWriter(workspace, "run-1") as writer:
        for batch in batches:
            writer.append(*batch)
    assert writer.journal_path is not None
    return writer.journal_path


def count(ledger: Ledger, table: str) -> int:
    return int(ledger.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"])


def test_every_record_reads_back_as_it_was_appended(workspace: Workspace, ledger: Ledger) -> None:
    records = small_run()
    write(workspace, records)
    for kind in {type(record) for record in records}:
        appended = sorted((record for record in records if type(record) is kind), key=repr)
        assert sorted(ledger.read(kind), key=repr) == appended


def test_two_ingestions_take_every_record_once(workspace: Workspace, ledger: Ledger) -> None:
    write(workspace, small_run())
    assert ledger.ingest().num_records == len(small_run())
    assert ledger.ingest().num_records == 0
    assert count(ledger, "attempts") == 5


def test_an_ingestion_continues_where_the_last_one_stopped(workspace: Workspace, ledger: Ledger) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        for number in range(1, 6):
            writer.append(call(number=number))
            assert ledger.ingest().num_records == 1
    assert count(ledger, "llm_calls") == 5


def test_a_record_appended_twice_is_one_row_and_the_first_one_counts(workspace: Workspace, ledger: Ledger) -> None:
    write(workspace, [attempt(text="first")], [attempt(text="second")])
    ledger.ingest()
    write(workspace, [attempt(text="third")])
    assert [record.text for record in ledger.read(AttemptRecord)] == ["first"]


@pytest.mark.parametrize("between", [True, False], ids=["ingested between", "in one batch"])
def test_later_fields_of_a_run_win_and_missing_ones_stay(workspace: Workspace, ledger: Ledger, between: bool) -> None:
    write(workspace, [RunRecord(run_id="run-1", name="a", status="started", overrides=["x=1"], started_at=5.0)])
    if between:
        ledger.ingest()
    write(workspace, [RunRecord(run_id="run-1", status="done", ended_at=9.5)])
    (run,) = ledger.read(RunRecord)
    assert (run.name, run.status, run.overrides, run.started_at, run.ended_at) == ("a", "done", ["x=1"], 5.0, 9.5)


@pytest.mark.parametrize("between", [True, False], ids=["ingested between", "in one batch"])
def test_a_run_that_starts_again_and_ends_well_keeps_no_error_of_before(
    workspace: Workspace, ledger: Ledger, between: bool
) -> None:
    write(workspace, [RunRecord(run_id="run-1", status="interrupted", ended_at=9.0, error="SIGINT")])
    if between:
        ledger.ingest()
    write(workspace, [RunRecord(run_id="run-1", status="started", started_at=10.0)])
    if between:
        (run,) = ledger.read(RunRecord)
        assert (run.status, run.ended_at, run.error) == ("started", None, None)
    write(workspace, [RunRecord(run_id="run-1", status="done", ended_at=20.0)])
    (run,) = ledger.read(RunRecord)
    assert (run.status, run.ended_at, run.error) == ("done", 20.0, None)


@pytest.mark.parametrize("between", [True, False], ids=["ingested between", "in one batch"])
def test_a_stage_made_by_a_run_stays_done_when_the_resumed_run_finds_it_cached(
    workspace: Workspace, ledger: Ledger, between: bool
) -> None:
    write(workspace, [StageRecord(run_id="r", stage="s", kind="train", status="done", started_at=1.0, ended_at=2.0)])
    if between:
        ledger.ingest()
    write(workspace, [StageRecord(run_id="r", stage="s", kind="train", status="cached")])
    (stage,) = ledger.read(StageRecord)
    assert (stage.status, stage.started_at, stage.ended_at) == ("done", 1.0, 2.0)


def test_a_half_written_last_line_is_left_until_it_is_whole(workspace: Workspace, ledger: Ledger) -> None:
    path = write(workspace, [call(number=1)], [call(number=2)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert count(ledger, "llm_calls") == 1
    path.write_bytes(whole)
    assert count(ledger, "llm_calls") == 2
    assert ledger.warnings == []


def test_damaged_lines_are_skipped_counted_and_reported_once(workspace: Workspace, ledger: Ledger) -> None:
    path = write(workspace, *([call(number=number)] for number in range(1, 7)))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:30] + b"?" + lines[2][31:]
    lines[4] = lines[4][:-1]  # its newline is gone: two lines become one that is damaged
    path.write_bytes(b"".join(lines))
    report = ledger.ingest()
    assert len(report.warnings) == 1
    assert f"journal {path}: 3 damaged line(s)" in report.warnings[0]
    assert ledger.ingest().warnings == []
    assert [row["attempt"] for row in ledger.rows("FROM llm_calls ORDER BY attempt")] == [1, 3, 6]
    assert ledger.rows("SELECT lost_lines FROM journals") == [{"lost_lines": 3}]


def test_a_journal_without_its_header_is_still_read(workspace: Workspace, ledger: Ledger) -> None:
    path = write(workspace, [call()])
    data = path.read_bytes()
    path.write_bytes(b"?" + data[1:])
    assert count(ledger, "llm_calls") == 1
    assert "1 damaged line(s)" in ledger.warnings[0]


def test_a_record_that_its_table_cannot_hold_is_set_aside_and_the_rest_is_kept(
    workspace: Workspace, ledger: Ledger
) -> None:
    bad_grid = attempt(number=2, grids=[[[1, 300]]])
    bad_text = attempt(number=3, prompt=7)
    no_key = MetricRecord(run_id="run-1", stage="s", step=None, name="loss", value=1.0, recorded_at=1.0)  # type: ignore[arg-type]
    write(workspace, [attempt(), bad_grid, bad_text, no_key])
    report = ledger.ingest()
    assert count(ledger, "attempts") == 1
    assert len(report.warnings) == 3
    assert all("was set aside in the table 'rejected'" in warning for warning in report.warnings)
    rejected = ledger.rows("SELECT table_name, reason, record->>'attempt_id' AS id FROM rejected ORDER BY id")
    assert [(row["table_name"], row["id"]) for row in rejected] == [
        ("attempts", "aaaa0001.2"),
        ("attempts", "aaaa0001.3"),
        ("metrics", None),
    ]
    assert "key is not complete" in rejected[2]["reason"]


def test_odd_text_and_numbers_are_kept(workspace: Workspace, ledger: Ledger) -> None:
    write(
        workspace,
        [
            attempt(text="null\x00 byte, half a pair \ud83d, \u2603", plan={"loss": math.nan, "deep": [math.inf]}),
            MetricRecord(run_id="run-1", stage="s", step=1, name="loss", value=math.nan, recorded_at=1.0),
        ],
    )
    (row,) = ledger.rows("SELECT text, plan->>'loss' AS loss FROM attempts")
    assert row == {"text": "null\x00 byte, half a pair \\ud83d, \u2603", "loss": "nan"}
    assert math.isnan(ledger.read(MetricRecord)[0].value)


def test_columns_have_types_that_make_sql_pleasant(workspace: Workspace, ledger: Ledger) -> None:
    write(workspace, [attempt(grids=[RIGHT]), task("aaaa0001")])
    (row,) = ledger.rows(
        "SELECT grids[1][2][1] AS cell, substr(plan->'views'->>0, 2, 1)::INT AS dihedral, "
        "timings->>'reason' AS reason_s, "
        "epoch(ended_at - started_at) AS took_s, octet_length(latent) AS width, len(t.demos) AS demos, "
        "t.demos[1].output[1][2] AS demo_cell FROM attempts JOIN tasks t USING (run_id, stage, task_id)"
    )
    assert (row["cell"], row["dihedral"], row["reason_s"], row["width"], row["demos"], row["demo_cell"]) == (
        3,
        3,
        "0.3",
        256,
        2,
        2,
    )
    assert row["took_s"] == 0.5


def test_a_journal_of_a_newer_gridloom_stops_ingestion_and_changes_nothing(
    workspace: Workspace, ledger: Ledger
) -> None:
    path = write(workspace, [call()])
    path.write_bytes(path.read_bytes() + encode_line({"s": 2, "r": [{"t": "dreams", "r": {"run_id": "x"}}]}))
    with pytest.raises(StoreError, match="table 'dreams', which this gridloom does not know") as caught:
        ledger.ingest()
    assert "upgrade" in caught.value.remedy
    path.write_bytes(path.read_bytes().replace(b'"dreams"', b'"DREAMS"'))  # now damaged: the rest can be read
    assert count(ledger, "llm_calls") == 1


def test_a_column_of_a_newer_gridloom_stops_ingestion(workspace: Workspace, ledger: Ledger) -> None:
    path = write(workspace, [call()])
    columns = {"run_id": "r", "stage": "s", "mood": 1}
    path.write_bytes(path.read_bytes() + encode_line({"s": 2, "r": [{"t": "stages", "r": columns}]}))
    with pytest.raises(StoreError, match=r"column stages\.mood"):
        ledger.ingest()


def test_a_journal_that_shrank_is_skipped_with_a_warning(workspace: Workspace, ledger: Ledger) -> None:
    path = write(workspace, [call(number=1)], [call(number=2)])
    ledger.ingest()
    path.write_bytes(path.read_bytes()[:-20])
    write(workspace, [call(number=3)])
    assert "is shorter" in ledger.ingest().warnings[0]
    assert count(ledger, "llm_calls") == 3


def test_journals_of_other_machines_are_ingested_with_the_rest(
    workspace: Workspace, ledger: Ledger, tmp_path: Path
) -> None:
    other = Workspace(tmp_path / "other")
    path = write(other, [call(number=2)])
    write(workspace, [call(number=1)])
    ledger.ingest()
    for _ in range(2):  # collected twice: known by name
        shutil.copy(path, workspace.journal_dir)
        assert count(ledger, "llm_calls") == 2


def test_progress_counts_bytes_up_to_all_of_them(
    workspace: Workspace, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "BATCH_BYTES", 1000)
    path = write(workspace, *([attempt(number=number)] for number in range(1, 20)))
    seen: list[tuple[int, int]] = []
    ledger.ingest(lambda done, total: seen.append((done, total)))
    size = path.stat().st_size
    assert len(seen) > 5
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert count(ledger, "attempts") == 19


def test_spent_journals_of_dead_processes_are_pruned_and_nothing_is_lost(workspace: Workspace, ledger: Ledger) -> None:
    spent = write(workspace, small_run())
    damaged = write(workspace, [call(number=9)], [call(number=8)])
    damaged.write_bytes(damaged.read_bytes().replace(b'"attempt":9', b'"attempt":7'))
    with LedgerWriter(workspace, "run-2") as living:
        living.append(call(number=10))
        assert ledger.prune_journals() == [spent]
        living.append(call(number=11))
    assert sorted(workspace.journal_dir.iterdir()) == sorted(p for p in (damaged, living.journal_path) if p)
    assert count(ledger, "attempts") == 5
    assert [row["attempt"] for row in ledger.rows("FROM llm_calls WHERE attempt > 2 ORDER BY ALL")] == [8, 10, 11]


def test_pruning_an_empty_workspace_does_nothing(ledger: Ledger) -> None:
    assert ledger.prune_journals() == []


def test_a_lost_ledger_is_rebuilt_from_the_journals(workspace: Workspace, ledger: Ledger) -> None:
    write(workspace, small_run())
    before = ledger.query("FROM v_attempts ORDER BY attempt_id")
    workspace.ledger_path.unlink()
    assert ledger.query("FROM v_attempts ORDER BY attempt_id").equals(before)


SMALL_TEXT = st.text(max_size=8)
SMALL_GRID = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1, max_size=3)
CALLS = st.builds(
    LlmCallRecord,
    run_id=st.just("r"),
    stage=st.just("s"),
    task_id=SMALL_TEXT,
    attempt=st.integers(1, 3),
    fork=st.integers(0, 1),
    model=SMALL_TEXT,
    prompt_tokens=st.integers(0, 2**40),
    new_tokens=st.integers(0, 9),
    prefix_tokens=st.just(0),
    dropped_demos=st.just(0),
    temperature=st.floats(allow_nan=False),
    seed=st.integers(0, 99),
    duration_s=st.floats(0, 10),
)
TASKS = st.builds(
    TaskRecord,
    run_id=st.just("r"),
    stage=st.just("s"),
    task_id=SMALL_TEXT,
    subset=SMALL_TEXT,
    tests=st.lists(SMALL_GRID, max_size=2),
    demos=st.lists(st.fixed_dictionaries({"input": SMALL_GRID, "output": SMALL_GRID}), max_size=2),
    check_demos=st.lists(st.integers(0, 5), max_size=2),
)
RUNS = st.builds(
    RunRecord,
    run_id=SMALL_TEXT,
    name=st.none() | SMALL_TEXT,
    overrides=st.none() | st.lists(SMALL_TEXT, max_size=2),
    graph=st.none() | SMALL_TEXT.map(json.dumps),
    pid=st.none() | st.integers(0, 9),
    device=st.none() | SMALL_TEXT,
)
BATCHES = st.lists(st.lists(CALLS | TASKS | RUNS, min_size=1, max_size=4), max_size=5)


def expected(batches: list[list[Record]]) -> dict[str, dict[object, dict[str, object]]]:
    """What the tables hold after these batches: first record of a key, later fields for runs."""
    rows: dict[str, dict[object, dict[str, object]]] = {}
    for record in (record for batch in batches for record in batch):
        kept = {name: value for name, value in as_dict(record).items() if value is not None}
        key = tuple(kept[name] for name in record.KEY)
        held = rows.setdefault(record.TABLE, {})
        if key not in held:
            held[key] = kept
        elif record.UPDATES:
            held[key] |= kept
    return rows


def stored(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[object, dict[str, object]]]:
    rows: dict[str, dict[object, dict[str, object]]] = {}
    for kind in (LlmCallRecord, TaskRecord, RunRecord):
        for record in read_records(connection, kind, {}):
            kept = {name: value for name, value in as_dict(record).items() if value is not None}
            rows.setdefault(kind.TABLE, {})[tuple(kept[name] for name in kind.KEY)] = kept
    return rows


@pytest.fixture(scope="module")
def in_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    """Tables of a ledger without a file: emptied by each example, since making them takes longer than the example."""
    with duckdb.connect(config={"python_enable_replacements": "false"}) as connection:
        lay_out_empty(connection)
        yield connection


def empty(connection: duckdb.DuckDBPyConnection) -> None:
    for table in ("llm_calls", "tasks", "runs", "journals", "rejected"):
        connection.execute(f"DELETE FROM {table}")


@settings(max_examples=15, deadline=None)
@given(batches=BATCHES, cut_at=st.floats(0, 1))
def test_a_journal_cut_anywhere_yields_a_prefix_of_whole_batches(
    in_memory: duckdb.DuckDBPyConnection, batches: list[list[Record]], cut_at: float
) -> None:
    empty(in_memory)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        path = write(workspace, [call()], *batches)  # a first append, so that there always is a file
        whole = path.read_bytes()
        cut = round(cut_at * len(whole))
        path.write_bytes(whole[:cut])
        num_whole = max(0, whole[:cut].count(b"\n") - 1)
        assert ingest_journals(in_memory, workspace.journal_dir).warnings == []
        assert stored(in_memory) == expected([[call()], *batches][:num_whole])
        path.write_bytes(whole)
        ingest_journals(in_memory, workspace.journal_dir)
        assert stored(in_memory) == expected([[call()], *batches])


@settings(max_examples=15, deadline=None)
@given(batches=BATCHES, steps=st.lists(st.booleans(), min_size=5, max_size=5))
def test_when_ingestion_happens_does_not_matter(
    in_memory: duckdb.DuckDBPyConnection, batches: list[list[Record]], steps: list[bool]
) -> None:
    empty(in_memory)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        with LedgerWriter(workspace, "run-1") as writer:
            writer.append(call())
            for batch, now in zip(batches, steps, strict=False):
                writer.append(*batch)
                if now:
                    ingest_journals(in_memory, workspace.journal_dir)
        ingest_journals(in_memory, workspace.journal_dir)
        assert stored(in_memory) == expected([[call()], *batches])


def test_every_record_type_has_a_table_with_its_fields_and_key(workspace: Workspace, ledger: Ledger) -> None:
    write(workspace, [call()])
    ledger.ingest()
    with duckdb.connect(str(workspace.ledger_path), read_only=True) as connection:
        for kind in (*TABLES, *EVALUATION_TABLES):
            info = connection.execute(f"PRAGMA table_info('{kind.TABLE}')").fetchall()
            counted = [*FIGURES.get(kind.TABLE, ())]  # by ingestion
            assert [row[1] for row in info] == [field.name for field in fields(kind)] + counted
            assert {row[1] for row in info if row[3]} == set(kind.KEY)  # not null
            assert {row[1] for row in info if row[5]} == (set(kind.KEY) if kind.UPDATES else set())
