"""A ledger for tests of the viewer: two runs of the same tasks, one of them with hostile texts, and answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from starlette.testclient import TestClient
from store_cases import EPOCH, RIGHT, attempt, pick, score, scores, small_run

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.runtime.data.arc.answers import save_answers
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.evaluation_records import (
    DifficultyRecord,
    EvaluationRecord,
    HaltingStudyRecord,
    PredictionRecord,
    PuzzlePredictionRecord,
)
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import CandidateRecord, EstimateRecord, MetricRecord, Record, RunRecord, StageRecord
from gridloom.stores.workspace import Workspace
from gridloom.view.server.app import make_app
from gridloom.view.server.guard import Access

SCRIPT = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"
LINK = "javascript:alert(1)"
ESCAPE = "\x1b[31mred\x1b[0m\u202e"
HOSTILE = f"{SCRIPT} {LINK} {ESCAPE}"
"""Text that acts on a page or a terminal that does not escape it."""


def node(name: str, kind: str, **fields: object) -> StageNode:
    """A stage of a recorded graph."""
    made = {"produces": "attempts", "spec": {"kind": kind}, "version": 1, "key": f"gl1:{name}"} | fields
    return StageNode(name=name, kind=kind, **made)


def graph(steps: int = 10) -> RunGraph:
    """A graph of a training, a solve stage and its score; another number of steps changes the training's key."""
    nodes = (
        node("arc1", "arc", produces="dataset"),
        node("arc1.answers", "arc_answers", produces="answers"),
        node(
            "pretrain",
            "train",
            produces="checkpoint",
            spec={"kind": "train", "steps": steps},
            inputs={"data": "arc1"},
            key=f"gl1:pretrain{steps}",
        ),
        node("solve", "solve", inputs={"with": "pretrain", "data": "arc1"}, key=f"gl1:solve{steps}"),
        node(
            "score", "score", produces="report", inputs={"attempts": "solve", "answers": "arc1.answers"},
            key=f"gl1:score{steps}",
        ),
        node("count.votes", "vote", produces="votes", inputs={"data": "arc1", "of": "pretrain"}),
        node("parity", "parity", produces="sequences"),
        node("lengths", "evaluate", produces="report", inputs={"data": "parity", "with": "pretrain"}),
        node("count", "count_votes", produces="report", inputs={"votes": "count.votes", "answers": "arc1.answers"}),
    )  # fmt: skip
    return RunGraph(name="quickstart", seed=0, device="cpu", nodes=nodes, key=f"gl1:graph{steps}")


def fill(workspace: Workspace) -> Workspace:
    """Record run-1 (scored) and run-2 (scored, one task more solved, hostile texts), with curves and answers."""
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run("run-1"), *scores("run-1"))
        writer.append(RunRecord(run_id="run-1", graph=graph(10).to_json()))
        writer.append(
            *(
                MetricRecord(
                    run_id="run-1", stage="pretrain", step=step, name="loss", value=2.0 / step, recorded_at=EPOCH
                )
                for step in range(1, 40)
            ),
            EstimateRecord(
                run_id="run-1", stage="pretrain", parameters=7, frozen_parameters=0, flops={"fp32": 1.0}, step="step",
                num_steps=10, peak_bytes=1000, seconds=2.0, assumes=[],
            ),
        )  # fmt: skip
    with LedgerWriter(workspace, "run-2") as writer:
        writer.append(*small_run("run-2"))
        writer.append(RunRecord(run_id="run-2", graph=graph(20).to_json(), error=HOSTILE))
        writer.append(
            *(
                MetricRecord(
                    run_id="run-2", stage="pretrain", step=step, name=name, value=1.0 / step, recorded_at=EPOCH
                )
                for step in range(1, 20)
                for name in ("loss", "lr")
            ),
            StageRecord(run_id="run-2", stage="solve", error=HOSTILE),
            StageRecord(run_id="run-2", stage="pretrain", status="done", started_at=EPOCH, ended_at=EPOCH + 9),
        )
        writer.append(
            attempt(
                "bbbb0002", 3, run_id="run-2", prompt=HOSTILE, text=HOSTILE, feedback=HOSTILE, grids=[RIGHT],
                verdict="accepted", score=0.95,
            ),
            CandidateRecord(
                run_id="run-2", stage="solve", task_id="bbbb0002", attempt=3, test_index=0, rank=0, source="search",
                grid=RIGHT, votes=1, num_views=1, confidence=None, program=f"crop # {HOSTILE}", fits=2, shown=2, cost=3,
            ),
            pick("bbbb0002", 1, RIGHT, run_id="run-2"),
            *(one for one in scores("run-2") if getattr(one, "task_id", "") != "bbbb0002"),
            score("bbbb0002", 1, True, run_id="run-2"),
        )  # fmt: skip
    for run_id in ("run-1", "run-2"):
        with LedgerWriter(workspace, run_id) as writer:
            writer.append(*evaluations(run_id))
    store, answers = (
        ArtifactStore(workspace),
        {t: [RIGHT] for t in ("aaaa0001", "bbbb0002")} | {"cccc0003": [RIGHT] * 2},
    )
    with store.writing("gl1:arc1.answers") as out:
        save_answers(out, {task: [np.array(grid, dtype=np.uint8) for grid in made] for task, made in answers.items()})
        producer = {"stage": "arc1.answers", "run_id": "run-1"}
        store.publish(out, key="gl1:arc1.answers", type="answers", kind="arc_answers", producer=producer, inputs={})
    return workspace


def fill_third(workspace: Workspace) -> None:
    """Record run-3 of the tasks of run-1, not scored, with evaluations of its own and a curve."""
    with LedgerWriter(workspace, "run-3") as writer:
        writer.append(*small_run("run-3"), *evaluations("run-3"))
        writer.append(
            RunRecord(run_id="run-3", graph=graph(30).to_json(), started_at=EPOCH + 50),
            StageRecord(run_id="run-3", stage="pretrain", status="done", started_at=EPOCH, ended_at=EPOCH + 9),
            *(
                MetricRecord(
                    run_id="run-3", stage="pretrain", step=step, name="loss", value=3.0 / step, recorded_at=EPOCH
                )
                for step in range(1, 10)
            ),
        )


def evaluations(run_id: str) -> list[Record]:
    """Evaluations of a run on sudokus, on ARC tests by votes, and on sequences; run-2 is right where run-1 is not."""
    is_better = run_id == "run-2"
    solved, question = "1234341221434321", "1234............"
    wrong = "1134341221434321"
    found: list[Record] = []
    for puzzle in range(3):
        right = is_better or puzzle == 0
        found.append(
            PuzzlePredictionRecord(
                run_id=run_id, stage="judge", puzzle=puzzle, kind="sudoku", size=4, question=question,
                prediction=solved if right else wrong, exact=right, cells_right=16 if right else 15, num_cells=16,
                valid=right, act_steps=4 - is_better, q_halt=0.5, checkpoint_key="gl1:c4",
            )
        )  # fmt: skip
    for test in range(2):
        rank = 0 if is_better else (2 if test else None)
        found.append(
            EvaluationRecord(
                run_id=run_id, stage="count", vote_stage="count.votes", task_id="aaaa0001", test_index=test,
                rank=rank,
                votes=0 if rank is None else 1 if rank else 3,
                num_candidates=3, num_views=4, num_cast=4, shape_match=True, cell_accuracy=0.5,
            )
        )  # fmt: skip
        for view in range(4):
            found.append(
                PredictionRecord(
                    run_id=run_id, stage="count.votes", task_id="aaaa0001", test_index=test, view_index=view,
                    view=f"t{view}", grid=RIGHT if view < 3 else [[7]], q_halt=0.1,
                )
            )  # fmt: skip
    for difficulty in (1, 2):
        found.append(
            DifficultyRecord(
                run_id=run_id, stage="lengths", kind="parity", difficulty=difficulty, num_rows=10, num_scored=10,
                num_right=9 - 4 * difficulty * (not is_better), num_places=10, num_places_right=5, mean_steps=2.0,
                checkpoint_key="gl1:rnn",
            )
        )  # fmt: skip
    return found


@contextmanager
def client_of(workspace: Workspace, access: Access | None = None) -> Iterator[TestClient]:
    """A client of the viewer of a workspace, whose connection is closed afterwards."""
    app = make_app(workspace, access or Access(frozenset({"testserver"})))
    try:
        yield TestClient(app, follow_redirects=False)
    finally:
        app.state.viewer.reader.close()


def halting_rows(run_id: str) -> list[HaltingStudyRecord]:
    """A halting study of four allowed steps, with one row or more of every part that is drawn."""
    found = []
    for part, series in (
        ("steps", "fixed"), ("steps", "own"), ("threshold", "score"), ("gain", "own"), ("difficulty", "path_length"),
        ("reliability", "q"), ("residual", "right"), ("calibration", "q.ece"),
    ):  # fmt: skip
        for place in range(1 if part == "calibration" else 4):
            share = 0.2 + 0.2 * place
            found.append(
                HaltingStudyRecord(
                    run_id=run_id, stage="study", part=part, series=series, place=place, x=place + 1.0, n=20,
                    exact=share, cell_accuracy=share, mean_steps=place + 1.0, operations=1e6, value=share,
                    low=share - 0.1, high=share + 0.1, checkpoint_key="gl1:c4",
                )
            )  # fmt: skip
    return found
