"""Journals of a large synthetic ledger: real records, appended through the journal writer one attempt at a time.

An attempt has 13 records in five tables: itself, a call of the language model, two candidates, three verdicts and six
ACT steps. A run has at most `ATTEMPTS_A_RUN` attempts at `TASKS_A_RUN` tasks, and per task its picks and scores.
The same seed gives the same records; names and headers of the journals differ.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gridloom.stores.attempt import Attempt
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import (
    AttemptRecord,
    CandidateRecord,
    EstimateRecord,
    LlmCallRecord,
    MetricRecord,
    PickRecord,
    Record,
    RunRecord,
    ScoreRecord,
    StageRecord,
    TaskRecord,
    TrmStepRecord,
    VerdictRecord,
)
from gridloom.stores.workspace import Workspace

ATTEMPTS_A_RUN = 100_000
TASKS_A_RUN = 400
RECORDS_AN_ATTEMPT = 13
"""Number of records of one attempt, over all tables."""
NUM_METRICS = 200
EPOCH = 1_790_000_000.0
VERIFIERS = ("agreement", "form", "leave_one_out")
Grid = list[list[int]]


def write_journals(root: Path, attempts: int, seed: int) -> list[Path]:
    """Write the journals of `attempts` attempts into the workspace `root`; return their paths, one a run."""
    workspace, paths = Workspace(root), []
    for number, first in enumerate(range(0, attempts, ATTEMPTS_A_RUN)):
        rng = random.Random(f"{seed}/{number}")
        run_id = f"big-{seed}-{number:04d}"
        with LedgerWriter(workspace, run_id) as writer:
            for records in run_records(run_id, min(ATTEMPTS_A_RUN, attempts - first), EPOCH + 1e5 * number, rng):
                writer.append(*records)
            if writer.journal_path is not None:
                paths.append(writer.journal_path)
    return paths


def run_records(run_id: str, attempts: int, started: float, rng: random.Random) -> Iterator[list[Record]]:
    """Yield the records of a run, a list per append: its start, its attempts task by task, its scores, its end."""
    yield _start(run_id, started)
    yield [
        MetricRecord(run_id=run_id, stage="pretrain", step=step, name=name, value=rng.random(), recorded_at=started)
        for step in range(NUM_METRICS)
        for name in ("loss", "exact_match")
    ]
    num_tasks = min(TASKS_A_RUN, attempts)
    clock, solved = started, []
    for index in range(num_tasks):
        task_id = f"{rng.getrandbits(32):08x}"
        share = attempts // num_tasks + (index < attempts % num_tasks)
        grids = [_grid(rng) for _ in range(8)]
        yield [_task(run_id, task_id, grids)]
        for number in range(1, share + 1):
            clock += 0.5
            yield _attempt(run_id, task_id, number, clock, grids, rng).records()
        is_right = rng.random() < 0.4
        yield [
            PickRecord(
                run_id=run_id,
                stage="solve",
                task_id=task_id,
                test_index=0,
                rank=rank,
                grid=grids[rank],
                weight=2.0 - rank,
                attempt=1 + rank,
                accepted=is_right,
                num_attempts=share,
            )
            for rank in range(2)
        ]
        solved.append((task_id, is_right))
    yield [
        ScoreRecord(
            run_id=run_id,
            stage="score",
            solve_stage="solve",
            task_id=task_id,
            test_index=0,
            rank=rank,
            exact_match=is_right and rank == 0,
            shape_match=True,
            cell_accuracy=1.0 if is_right and rank == 0 else 0.75,
        )
        for task_id, is_right in solved
        for rank in range(2)
    ]
    yield [
        StageRecord(run_id=run_id, stage="solve", status="done", ended_at=clock, notes={"seconds": clock - started}),
        RunRecord(run_id=run_id, status="done", ended_at=clock + 1),
    ]


def _start(run_id: str, started: float) -> list[Record]:
    """Return the records of a run that has started: itself, its stages, and what the solve stage will cost."""
    return [
        RunRecord(
            run_id=run_id,
            name="synthetic",
            graph_key=f"gl1:{run_id}",
            status="started",
            spec="synthetic.yaml",
            overrides=[],
            graph='{"nodes": []}',
            device="cpu",
            host="synthetic",
            pid=1,
            gridloom_version="0.1.0",
            started_at=started,
        ),
        StageRecord(run_id=run_id, stage="pretrain", kind="train", key=f"gl1:p-{run_id}", status="cached"),
        StageRecord(
            run_id=run_id, stage="solve", kind="solve", key=f"gl1:s-{run_id}", status="running", started_at=started
        ),
        EstimateRecord(
            run_id=run_id,
            stage="solve",
            parameters=7_000_000,
            frozen_parameters=0,
            flops={"fp32 ACT": 1e9},
            step="attempt",
            num_steps=1000,
            peak_bytes=1 << 30,
            seconds=100.0,
            assumes=[],
        ),
    ]


def _grid(rng: random.Random) -> Grid:
    height, width = rng.randint(3, 12), rng.randint(3, 12)
    return [rng.choices(range(10), k=width) for _ in range(height)]


def _task(run_id: str, task_id: str, grids: list[Grid]) -> TaskRecord:
    return TaskRecord(
        run_id=run_id,
        stage="solve",
        task_id=task_id,
        subset="evaluation",
        demos=[{"input": grids[i], "output": grids[i + 1]} for i in (2, 4)],
        check_demos=[0],
        tests=[grids[6]],
    )


def _attempt(run_id: str, task_id: str, number: int, clock: float, grids: list[Grid], rng: random.Random) -> Attempt:
    key: dict[str, Any] = {"run_id": run_id, "stage": "solve", "task_id": task_id, "attempt": number}
    proposed, other = rng.sample(grids, 2)
    score = rng.random()
    text = "\n".join(" ".join(map(str, row)) for row in proposed)
    seed = rng.getrandbits(31)
    return Attempt(
        row=AttemptRecord(
            **key,
            attempt_id=f"{task_id}.{number}",
            plan={"views": [f"t{rng.randrange(8)}|||0213456789" for _ in range(4)], "temperature": 0.7, "seed": seed},
            prompt=f"Task {task_id}, attempt {number}\ninput\n{text}\noutput\n",
            text=text,
            latent=rng.randbytes(64),
            grids=[proposed],
            verdict="accepted" if score > 0.9 else "rejected",
            score=score,
            feedback="" if score > 0.9 else f"{round(4 * score)} of 4 demonstrations \u2192 wrong",
            stage_key=f"gl1:s-{run_id}",
            checkpoint_key=f"gl1:p-{run_id}",
            geometry={"batch": 4, "device": "cpu"},
            started_at=clock,
            ended_at=clock + 0.5,
            timings={"reason": 0.3, "propose": 0.1, "verify": score / 10},
        ),
        llm_call=LlmCallRecord(
            **key,
            model="synthetic",
            prompt_tokens=rng.randrange(100, 2000),
            new_tokens=rng.randrange(10, 200),
            prefix_tokens=4,
            dropped_demos=0,
            temperature=0.7,
            seed=seed,
            duration_s=0.3,
        ),
        candidates=tuple(
            CandidateRecord(
                **key, test_index=0, rank=rank, source="trm", grid=grid, votes=3 - rank, num_views=4, confidence=score
            )
            for rank, grid in enumerate((proposed, other))
        ),
        verdicts=tuple(
            VerdictRecord(**key, verifier=name, score=None if name == "form" and number % 7 == 0 else score)
            for name in VERIFIERS
        ),
        trm_steps=tuple(
            TrmStepRecord(**key, act_step=step, q_halt=score - step, changed_cells=rng.randrange(50), num_rows=4)
            for step in range(6)
        ),
    )
