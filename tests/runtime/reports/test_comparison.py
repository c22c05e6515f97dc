"""Results side by side, from what runs recorded."""

from __future__ import annotations

from typing import Any

import pytest

from gridloom.compiler.compile import compile_spec
from gridloom.compiler.graph import Cost, RunGraph, StageNode
from gridloom.errors import GridloomError
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.runtime.reports.comparison import Metric, Result, compare_runs
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import MetricRecord, RunRecord, StageRecord
from gridloom.stores.workspace import Workspace

COST = Cost(parameters=1000, flops={"fp32": 10}, num_steps=5, step="optimizer step", peak_bytes=1)


def graph(steps: int = 3, log_every: int = 10, report: bool = True, key: str = "1") -> RunGraph:
    """A train stage and the evaluation of its checkpoint."""
    learn = StageNode(
        name="learn",
        kind="train",
        version=1,
        produces="checkpoint",
        key=f"gl1:learn{key}",
        cost=COST,
        spec={"kind": "train", "model": "trm", "steps": steps, "log_every": log_every},
        models={"trm": {"kind": "trm", "hidden_size": 8}},
    )
    judge = StageNode(
        name="judge",
        kind="evaluate",
        version=1,
        produces="report",
        key=f"gl1:judge{key}",
        spec={"kind": "evaluate", "with": "learn"},
        inputs={"with": "learn"},
    )
    return RunGraph(name="small", seed=0, device="cpu", key=f"gl1:{key}", nodes=(learn, judge) if report else (learn,))


def record(workspace: Workspace, run_id: str, graph: RunGraph, steps: int = 5, **stages: str) -> None:
    """Record a run whose stages ended as told; a done train stage took 2 s, an evaluation 1 s."""
    with LedgerWriter(workspace, run_id) as ledger:
        ledger.append(
            RunRecord(
                run_id=run_id, name="small", graph_key=graph.key, status="done", graph=graph.to_json(), started_at=1.0
            )
        )
        for name, status in stages.items():
            node = graph.node(name)
            notes: dict[str, Any] = {"steps": steps}
            if name == "judge":
                notes = {"exact": 0.5, "num_puzzles": 10, "cell_accuracy": 0.75, "pass100": 0.25, "num_tasks": 4}
            ended = 102.0 if name == "learn" else 101.0
            made = {"started_at": 100.0, "ended_at": ended, "notes": notes} if status == "done" else {}
            ledger.append(StageRecord(run_id=run_id, stage=name, kind=node.kind, key=node.key, status=status, **made))
            if name == "learn" and status == "done":
                ledger.append(
                    *(
                        MetricRecord(
                            run_id=run_id, stage=name, step=step, name="loss", value=1.0 / step, recorded_at=1.0
                        )
                        for step in (1, 2)
                    )
                )


def compare(workspace: Workspace, *run_ids: str) -> list[Result]:
    return list(compare_runs(run_ids, workspace))


def test_a_result_has_metrics_with_intervals_loss_cost_and_the_time_of_all_behind_it(workspace: Workspace) -> None:
    record(workspace, "a", graph(), learn="done", judge="done")
    (only,) = compare(workspace, "a")
    exact = only.metrics["exact"]
    assert ((exact.low, exact.high), exact.num_cases) == (wilson(0.5, 10), 10)
    assert only.metrics["pass100"].num_cases == 4
    assert only.metrics["cell_accuracy"].low is None
    assert only.metrics["loss"].value == 0.5
    assert (only.parameters, only.flops, only.seconds) == (1000, 50, 3.0)


def test_operations_are_of_the_steps_that_a_budget_left_to_a_training(workspace: Workspace) -> None:
    record(workspace, "a", graph(), steps=2, learn="done", judge="done")
    record(workspace, "b", graph(key="2"), learn="failed", judge="blocked")
    assert [one.flops for one in compare(workspace, "a", "b")] == [20, 50], "what was not made is as it was estimated"


def test_runs_differ_in_fields_that_can_change_a_result_and_in_no_others(workspace: Workspace) -> None:
    record(workspace, "a", graph(), learn="done", judge="done")
    record(workspace, "b", graph(steps=4, log_every=1, key="2"), learn="done", judge="done")
    assert [one.differs for one in compare(workspace, "a", "b")] == [
        {"stages.learn.steps": 3},
        {"stages.learn.steps": 4},
    ]


def test_what_a_run_found_cached_has_the_scores_of_the_run_that_made_it(workspace: Workspace) -> None:
    record(workspace, "a", graph(), learn="done", judge="done")
    record(workspace, "b", graph(), learn="cached", judge="cached")
    first, second = compare(workspace, "a", "b")
    assert (second.status, second.metrics, second.seconds) == ("done", first.metrics, first.seconds)


def test_a_result_that_was_not_made_is_a_row_with_its_state(workspace: Workspace) -> None:
    record(workspace, "a", graph(), learn="done", judge="done")
    record(workspace, "b", graph(key="2"), learn="failed", judge="blocked")
    record(workspace, "c", graph(key="3"), learn="failed")
    assert [(one.run_id, one.status) for one in compare(workspace, "a", "b", "c")] == [
        ("a", "done"),
        ("b", "blocked"),
        ("c", "not reached"),
    ]


def test_runs_without_scores_are_refused_with_the_way_on(workspace: Workspace) -> None:
    record(workspace, "bare", graph(report=False), learn="done")
    record(workspace, "early", graph(key="2"), learn="failed", judge="blocked")
    message = r"no stage that scores anything \(its stages: learn\)\n.*v_metrics_latest where run_id like '%"
    with pytest.raises(GridloomError, match=message):
        compare(workspace, "bare")
    with pytest.raises(GridloomError, match=r"early has no scores yet: judge blocked\n.*run the spec again"):
        compare(workspace, "early")


def test_an_unknown_run_is_refused_with_the_nearest(workspace: Workspace) -> None:
    record(workspace, "2026-11-21T16-01-38", graph(), learn="done", judge="done")
    with pytest.raises(GridloomError, match="did you mean '2026-11-21T16-01-38'"):
        compare(workspace, "2026-11-21T16-01-33")


def test_hybrid_and_its_two_baselines_stand_in_one_table_with_intervals(workspace: Workspace) -> None:
    facts = LocalFacts()
    for number, recipe in enumerate(("hybrid", "baseline-trm", "baseline-llm"), start=1):
        made = compile_spec(recipe, facts=facts).graph
        with LedgerWriter(workspace, recipe) as ledger:
            ledger.append(
                RunRecord(
                    run_id=recipe,
                    name=recipe,
                    graph_key=made.key,
                    status="done",
                    started_at=number,
                    graph=made.to_json(),
                )
            )
            for node in made.nodes:
                notes = {"pass1": 0.1 * number, "pass2": 0.2 * number, "num_tasks": 40} if node.kind == "score" else {}
                ledger.append(
                    StageRecord(
                        run_id=recipe,
                        stage=node.name,
                        kind=node.kind,
                        key=node.key,
                        status="done",
                        started_at=100.0,
                        ended_at=101.0,
                        notes=notes,
                    )
                )
    results = compare(workspace, "hybrid", "baseline-trm", "baseline-llm")
    assert [one.metrics["pass2"] for one in results] == [
        Metric(0.2 * number, *wilson(0.2 * number, 40), 40) for number in (1, 2, 3)
    ]
    assert [one.differs["stages.solve.with"] for one in results] == ["joint", "trunk", "llama"]
    assert results[2].parameters is None
    same = {"stages.solve.solver.max_attempts", "stages.solve.solver.reason.max_new_tokens", "data.arc1.select.limit"}
    assert not same & set(results[0].differs), "one budget, one set of tasks"


def test_one_sweep_tables_trm_llama_hybrid_and_shuffled_latents_at_equal_budget(workspace: Workspace) -> None:
    made = compile_spec("equal-budget", facts=LocalFacts()).graph
    with LedgerWriter(workspace, "run") as ledger:
        ledger.append(
            RunRecord(
                run_id="run",
                name="equal-budget",
                graph_key=made.key,
                status="done",
                started_at=1.0,
                graph=made.to_json(),
            )
        )
        for node in made.nodes:
            notes = {"pass1": 0.25, "pass2": 0.5, "num_tasks": 40} if node.kind == "score" else {}
            ledger.append(
                StageRecord(
                    run_id="run",
                    stage=node.name,
                    kind=node.kind,
                    key=node.key,
                    status="done",
                    started_at=100.0,
                    ended_at=101.0,
                    notes=notes,
                )
            )
    results = compare(workspace, "run")
    assert [(one.differs["stages.solve.with"], one.differs["stages.solve.solver.latents"]) for one in results] == [
        ("trunk", "own"),
        ("llama", "own"),
        ("joint", "own"),
        ("joint", "shuffled"),
    ]
    assert all(one.metrics["pass2"].low is not None for one in results)
    assert "stages.solve.solver.max_attempts" not in results[0].differs
