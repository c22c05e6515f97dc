"""Views over kept figures equal views that count over all rows, whatever came in which order."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import pytest
from old_views import OLD_VIEWS
from store_cases import RIGHT, WRONG, attempt, call, pick, score, scores, small_run, task

from gridloom.stores import ingest
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import AttemptRecord, LlmCallRecord, Record, RunRecord, StageRecord, TrmStepRecord
from gridloom.stores.workspace import Workspace

GRIDS = ([], RIGHT, WRONG, [[9]])
TASKS = ("aaaa0001", "bbbb0002", "cccc0003")
COMPARED = ("places", "runs", "attempts", "tasks", "failed", "leaderboard")


def assert_equal_views(workspace: Workspace) -> None:
    """Every view equals its old definition, with names and types of its columns."""
    Ledger(workspace).ingest()
    with duckdb.connect(str(workspace.ledger_path), read_only=True) as connection:
        for name, body in OLD_VIEWS.items():
            connection.execute(f"CREATE TEMP VIEW {name} AS {body}")
        for name in COMPARED:
            old, new = (connection.sql(f"FROM {kind}_{name} ORDER BY ALL").to_arrow_table() for kind in ("old", "v"))
            assert new.schema == old.schema, name
            assert str(new.to_pylist()) == str(old.to_pylist()), name  # as text, where NaN equals NaN


def step(task_id: str, number: int, act_step: int, run_id: str, fork: int = 0) -> TrmStepRecord:
    return TrmStepRecord(
        run_id=run_id,
        stage="solve",
        task_id=task_id,
        attempt=number,
        fork=fork,
        act_step=act_step,
        q_halt=0.5,
        changed_cells=1,
    )


def some_records(rng: random.Random) -> list[Record]:
    """One append: an attempt with or without its parts, parts alone, a fork, picks, scores of this or another run."""
    run_id, task_id, number = rng.choice(("run-1", "run-2")), rng.choice(TASKS), rng.randint(1, 4)
    fork = rng.choice((0, 0, 0, 1))
    timings = rng.choice(({"reason": 0.25, "propose": 0.5}, {}, {"reason": "text"}, {"reason": None}))
    made = attempt(
        task_id,
        number,
        run_id=run_id,
        fork=fork,
        stage=rng.choice(("solve", "solve", "again")),
        grids=[rng.choice(GRIDS) for _ in range(rng.randint(0, 2))],
        verdict=rng.choice(("accepted", "rejected")),
        score=rng.choice((None, 0.25, 0.5, 1.0, float("nan"))),
        feedback=rng.choice(("", "first\nsecond", "\n")),
        checkpoint_key=rng.choice(("gl1:c4", "gl1:c5")),
        timings=timings,
    )
    called = call(task_id, number, run_id=run_id)
    steps = [step(task_id, number, index, run_id, fork) for index in range(rng.randint(0, 3))]
    other = rng.choice((None, "run-1", "run-2"))
    return rng.choice(
        (
            [made, called, *steps],
            [made, *steps],
            [made],
            [called],
            [*steps, called],
            [task(task_id, run_id=run_id, num_tests=2)],
            [pick(task_id, rng.randint(0, 1), rng.choice(GRIDS[1:]), test_index=rng.randint(0, 1), run_id=run_id)],
            [score(task_id, rng.randint(0, 1), rng.random() < 0.5, run_id=run_id, solved_by=other)],
            [RunRecord(run_id=run_id, status="done", started_at=5.0), StageRecord(run_id=run_id, stage="solve")],
            [attempt(task_id, number, run_id=run_id, latent="no bytes"), called],  # the attempt is rejected
        )
    )


@pytest.mark.parametrize("seed", range(2))
def test_views_equal_their_old_definitions_at_every_step(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(ingest, "BATCH_BYTES", (3_000, 1 << 20)[seed % 2])
    rng = random.Random(seed)
    with LedgerWriter(workspace, "run-1") as one, LedgerWriter(workspace, "run-2") as two:
        for _ in range(2):
            for _ in range(20):
                rng.choice((one, two)).append(*some_records(rng))
            assert_equal_views(workspace)
    workspace.ledger_path.unlink()
    assert_equal_views(workspace)


@pytest.mark.parametrize("elsewhere", [None, "run-1"])
def test_scores_that_come_later_reach_every_attempt(workspace: Workspace, elsewhere: str | None) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run())
        assert_equal_views(workspace)
        writer.append(*scores("run-2" if elsewhere else "run-1", solved_by=elsewhere))
        assert_equal_views(workspace)
        writer.append(attempt("aaaa0001", 3, grids=[RIGHT]), attempt("bbbb0002", 1, fork=1, grids=[WRONG]))
        assert_equal_views(workspace)
    solved = Ledger(workspace).rows("SELECT solved FROM v_attempts WHERE attempt_id = 'aaaa0001.3'")
    assert solved == [{"solved": True}]


def test_parts_that_come_before_and_after_their_attempt_are_counted(workspace: Workspace) -> None:
    for group in (
        [step("aaaa0001", 1, 0, "run-1")],
        [attempt("aaaa0001", 1), attempt("aaaa0001", 2), step("aaaa0001", 2, 0, "run-1")],
        [step("aaaa0001", 1, 1, "run-1"), call("aaaa0001", 1)],
        [step("aaaa0001", 1, 1, "run-1"), step("aaaa0001", 1, 2, "run-1"), call("aaaa0001", 2)],
    ):
        with LedgerWriter(workspace, "run-1") as writer:
            writer.append(*group)
        assert_equal_views(workspace)
    rows = Ledger(workspace).rows("SELECT trm_steps, llm_tokens FROM v_attempts ORDER BY attempt")
    assert rows == [{"trm_steps": 3, "llm_tokens": 120}, {"trm_steps": 1, "llm_tokens": 120}]


def test_places_grow_by_a_digit_where_two_begin_alike(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "many") as writer:
        for first in range(0, 600, 200):
            writer.append(*(attempt(run_id=f"run-{number}") for number in range(first, first + 200)))
            assert_equal_views(workspace)
    lengths = Ledger(workspace).rows("SELECT DISTINCT len(place) AS n FROM v_places")
    assert lengths == [{"n": 5}]


def older(path: Path) -> None:
    """Make a ledger one of a gridloom that kept no figures."""
    with duckdb.connect(str(path)) as connection:
        for name in ("v_leaderboard", "v_failed", "v_tasks", "v_attempts", "v_runs", "v_places"):
            connection.execute(f"DROP VIEW {name}")
        for name in ("places", "task_figures", "early_parts"):
            connection.execute(f"DROP TABLE {name}")
        for column in connection.execute("DESCRIBE attempts").fetchall():
            if column[0].startswith("v_"):
                connection.execute(f"ALTER TABLE attempts DROP COLUMN {column[0]}")
        connection.execute("UPDATE meta SET layout = 'of an older gridloom'")


def test_an_older_ledger_gets_its_figures(workspace: Workspace) -> None:
    rng = random.Random(9)
    with LedgerWriter(workspace, "run-1") as writer:
        for _ in range(40):
            writer.append(*some_records(rng))
        Ledger(workspace).ingest()
        older(workspace.ledger_path)
        assert_equal_views(workspace)
        writer.append(step("aaaa0001", 1, 9, "run-1"), attempt("aaaa0001", 9), *scores())
        assert_equal_views(workspace)


def test_a_repeated_record_changes_no_figure(workspace: Workspace) -> None:
    records = small_run()
    with LedgerWriter(workspace, "run-1") as writer:
        for _ in range(2):
            writer.append(*records, *records)
            assert_equal_views(workspace)
    kinds = (AttemptRecord, LlmCallRecord, TrmStepRecord)
    for kind in kinds:
        expected = sum(isinstance(record, kind) for record in records)
        assert len(Ledger(workspace).read(kind)) == expected
