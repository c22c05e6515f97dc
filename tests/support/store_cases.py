"""Records of a small run, and helpers to run and kill real processes that record."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gridloom.stores.records import (
    AttemptRecord,
    CandidateRecord,
    LlmCallRecord,
    PickRecord,
    Record,
    RunRecord,
    ScoreRecord,
    StageRecord,
    TaskRecord,
    TrmStepRecord,
    VerdictRecord,
)

RIGHT = [[1, 2], [3, 4]]
WRONG = [[1, 2], [3, 5]]
EPOCH = 1_795_000_000.25


def attempt(task_id: str = "aaaa0001", number: int = 1, *, run_id: str = "run-1", **changes: object) -> AttemptRecord:
    """An attempt with every replay field set; `changes` replace fields."""
    fork = int(str(changes.get("fork", 0)))
    fields: dict[str, object] = {
        "run_id": run_id,
        "stage": "solve",
        "task_id": task_id,
        "attempt": number,
        "attempt_id": f"{task_id}.{number}" + (f"+{fork}" if fork else ""),
        "plan": {"views": ["t3|||0213456789", "t5|||0123456789"], "temperature": 0.7, "seed": 5},
        "prompt": "Examples:\n1 2\n3 4\n",
        "text": "swap the colours \u2192 then flip",
        "latent": bytes(range(256)),
        "prefix": b"\x00\xff",
        "grids": [WRONG],
        "verdict": "rejected",
        "score": 0.25,
        "feedback": "shape rule broken: 2x2 shown 3x3\nsecond line",
        "stage_key": "gl1:5a",
        "checkpoint_key": "gl1:c4",
        "geometry": {"batch": 4, "device": "cpu"},
        "started_at": EPOCH + number,
        "ended_at": EPOCH + number + 0.5,
        "timings": {"reason": 0.3, "propose": 0.1},
    }
    return AttemptRecord(**(fields | changes))  # type: ignore[arg-type]


def call(task_id: str = "aaaa0001", number: int = 1, *, run_id: str = "run-1") -> LlmCallRecord:
    return LlmCallRecord(
        run_id=run_id,
        stage="solve",
        task_id=task_id,
        attempt=number,
        model="smollm2-135m",
        prompt_tokens=100,
        new_tokens=20,
        prefix_tokens=4,
        dropped_demos=0,
        temperature=0.7,
        seed=5,
        duration_s=0.3,
    )


def task(task_id: str, *, run_id: str = "run-1", num_tests: int = 1) -> TaskRecord:
    return TaskRecord(
        run_id=run_id,
        stage="solve",
        task_id=task_id,
        subset="training",
        check_demos=[0],
        demos=[{"input": [[1]], "output": RIGHT}, {"input": [[2]], "output": WRONG}],
        tests=[[[0]]] * num_tests,
    )


def pick(task_id: str, rank: int, grid: list[list[int]], *, test_index: int = 0, run_id: str = "run-1") -> PickRecord:
    return PickRecord(
        run_id=run_id,
        stage="solve",
        task_id=task_id,
        test_index=test_index,
        rank=rank,
        grid=grid,
        weight=1.5,
        attempt=1,
        accepted=True,
        num_attempts=2,
    )


def score(
    task_id: str, rank: int, exact: bool, *, test_index: int = 0, run_id: str = "run-1", solved_by: str | None = None
) -> ScoreRecord:
    return ScoreRecord(
        run_id=run_id,
        stage="score",
        solve_stage="solve",
        solve_run_id=solved_by,
        task_id=task_id,
        test_index=test_index,
        rank=rank,
        exact_match=exact,
        shape_match=True,
        cell_accuracy=1.0 if exact else 0.75,
    )


def small_run(run_id: str = "run-1") -> list[Record]:
    """A finished run of three tasks: one solved at its second attempt, one failed, one half right (two tests)."""
    return [
        RunRecord(
            run_id=run_id,
            name="quickstart",
            graph_key="gl1:99",
            status="done",
            spec="quickstart",
            overrides=["a=1"],
            graph='{"nodes": []}\n',
            device="cpu",
            host="box",
            pid=1,
            gridloom_version="0.1.0",
            started_at=EPOCH,
            ended_at=EPOCH + 60,
        ),
        StageRecord(run_id=run_id, stage="pretrain", kind="train", key="gl1:c4", status="cached"),
        StageRecord(
            run_id=run_id,
            stage="solve",
            kind="solve",
            key="gl1:5a",
            status="done",
            started_at=EPOCH,
            ended_at=EPOCH + 50,
            notes={"peak_bytes": 10, "tasks_per_s": 0.5},
        ),
        task("aaaa0001", run_id=run_id),
        task("bbbb0002", run_id=run_id),
        task("cccc0003", run_id=run_id, num_tests=2),
        attempt("aaaa0001", 1, run_id=run_id),
        attempt("aaaa0001", 2, run_id=run_id, grids=[RIGHT], verdict="accepted", score=0.9, feedback=""),
        attempt("bbbb0002", 1, run_id=run_id, score=0.1),
        attempt("bbbb0002", 2, run_id=run_id, score=0.6, feedback="palette rule broken"),
        attempt("cccc0003", 1, run_id=run_id, grids=[RIGHT, WRONG]),
        *(call(task_id, number, run_id=run_id) for task_id in ("aaaa0001", "bbbb0002") for number in (1, 2)),
        CandidateRecord(
            run_id=run_id,
            stage="solve",
            task_id="aaaa0001",
            attempt=2,
            test_index=0,
            rank=0,
            source="trm",
            grid=RIGHT,
            votes=3,
            num_views=4,
            confidence=0.8,
        ),
        *(
            VerdictRecord(run_id=run_id, stage="solve", task_id="aaaa0001", attempt=2, verifier=name, score=value)
            for name, value in (("form", 1.0), ("leave_one_out", None))
        ),
        *(
            TrmStepRecord(
                run_id=run_id,
                stage="solve",
                task_id="aaaa0001",
                attempt=2,
                act_step=step,
                q_halt=-1.0 + step,
                changed_cells=8 - step,
            )
            for step in range(3)
        ),
        pick("aaaa0001", 0, WRONG, run_id=run_id),
        pick("aaaa0001", 1, RIGHT, run_id=run_id),
        pick("bbbb0002", 0, WRONG, run_id=run_id),
        pick("cccc0003", 0, RIGHT, run_id=run_id),
        pick("cccc0003", 0, WRONG, test_index=1, run_id=run_id),
    ]


def scores(run_id: str = "run-1", solved_by: str | None = None) -> list[Record]:
    """What the score stage says of `small_run`."""
    return [
        score("aaaa0001", 0, False, run_id=run_id, solved_by=solved_by),
        score("aaaa0001", 1, True, run_id=run_id, solved_by=solved_by),
        score("bbbb0002", 0, False, run_id=run_id, solved_by=solved_by),
        score("cccc0003", 0, True, run_id=run_id, solved_by=solved_by),
        score("cccc0003", 0, False, test_index=1, run_id=run_id, solved_by=solved_by),
    ]


STARTED: list[subprocess.Popen[str]] = []
"""Processes of the current test; a fixture ends those that are left."""

PREAMBLE = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from store_cases import *
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.workspace import Workspace
workspace = Workspace(Path({root!r}))
"""


def start(root: Path, code: str) -> subprocess.Popen[str]:
    """Start a Python process with `workspace` and the names of this module at hand; its stdout is a pipe of lines."""
    script = PREAMBLE.format(tests=str(Path(__file__).parent), root=str(root)) + code
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    STARTED.append(process)
    return process


def finish(process: subprocess.Popen[str], timeout_s: float = 60) -> str:
    """Wait for a process to succeed; return what it printed."""
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, err
    return out
