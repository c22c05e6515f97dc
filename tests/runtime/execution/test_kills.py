"""A run killed before any of its file operations: the next run completes it with the records of an unkilled run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from file_steps import FileSteps
from rich.console import Console

from gridloom.cli.show.progress import Reporter
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.runtime.execution.executor import RunOptions, execute
from gridloom.runtime.execution.stop_signal import StopFlag
from gridloom.runtime.planning.plan import make_plan
from gridloom.runtime.stage import StageContext
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.records import MetricRecord
from gridloom.stores.workspace import Workspace


def node(name: str, inputs: dict[str, str]) -> StageNode:
    return StageNode(
        name=name,
        kind="train",
        version=1,
        produces="checkpoint",
        spec={"kind": "train"},
        inputs=inputs,
        key=f"gl1:{name}",
    )


TWO = RunGraph(
    name="test",
    seed=0,
    device="cpu",
    nodes=(node("first", {}), node("second", {"model": "first"})),
    key="gl1:graph",
)


class Making:
    """Stages that record a metric, keep a state, write a file and note a figure."""

    def __call__(self, kind: str) -> Making:
        return self

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        context.ledger.append(
            MetricRecord(run_id=context.run_id, stage=node.name, step=1, name="loss", value=0.5, recorded_at=1.0)
        )
        (context.work / "state").write_text("1")
        (context.out / "made.txt").write_text(node.name)
        context.notes["figure"] = len(inputs)


def run(workspace: Workspace) -> None:
    plan = make_plan(TWO, ArtifactStore(workspace))
    options = RunOptions(base=Path(), spec="test.yaml")
    execute(plan, workspace, options, Reporter(Console(quiet=True), False), StopFlag(), Making())


def in_child(work: Callable[[], Any]) -> Any:
    """Fork, call `work` and return its JSON result; None if the child was killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            with os.fdopen(write, "w") as out:
                json.dump(work(), out)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as result:
        text = result.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert status == 0
    return json.loads(text)


def steps(workspace: Workspace, kill_at: int | None = None) -> list[str] | None:
    """Run in a child that is killed before a step; return the steps of a child that was not."""

    def work() -> list[str]:
        watch = FileSteps(workspace.root.parent, kill_at)
        run(workspace)
        return watch.steps

    found: list[str] | None = in_child(work)
    return found


def records(workspace: Workspace) -> dict[str, Any]:
    """Return what the ledger and the artifact store have of the first run, without times and random names."""
    ledger, store = Ledger(workspace), ArtifactStore(workspace)
    artifacts = store.all()
    for artifact in artifacts:
        store.verify(artifact)
    first, *later = ledger.rows(
        "select run_id, graph_key, status, error, ended_at >= started_at as ended from v_runs order by started_at"
    )
    return {
        "later runs": [run["status"] for run in later],
        "run": first | {"run_id": ""},
        "stages": ledger.rows(
            "select stage, kind, key, status, error, notes, ended_at >= started_at as ended from stages "
            "where run_id = ? order by stage",
            [first["run_id"]],
        ),
        "artifacts": ledger.rows("select key, type, kind, stage, bytes > 0 as sized from artifacts order by key"),
        "owned": ledger.rows("select count(*) as n from artifacts where run_id = ?", [first["run_id"]]),
        "metrics": ledger.rows("select stage, step, name, value from metrics order by stage"),
        "published": {artifact.key: (artifact.path / "made.txt").read_text() for artifact in artifacts},
        "work": [path.name for path in workspace.work_dir.iterdir()],
        "warnings": ledger.warnings,
        "kept out of version control": (workspace.root / ".gitignore").read_text(),
    }


def again(workspace: Workspace) -> dict[str, Any]:
    """Run in a child that nothing kills; return the records."""

    def work() -> dict[str, Any]:
        run(workspace)
        return records(workspace)

    found: dict[str, Any] = in_child(work)
    return found


ASIDE = "w/artifacts/.writing/gl1-first.*"
DURABLE = (
    # (step, what a kill before it leaves)
    ("mkdir .gridloom.*.new", "nothing"),
    ("rename .gridloom.*.new to w", "a folder beside, which nobody takes for a workspace"),
    ("mkdir w/locks", "an empty workspace"),
    ("open w/locks/run.lock", "no run: a lock alone is none"),
    ("mkdir w/journal", "as before"),
    ("open w/journal/*", "a folder for journals without one: nothing is recorded"),
    ("write header", "an empty journal"),
    ("write runs started", "a journal without records"),
    ("write run_processes started", "a run without a process"),
    ("open w/locks/stage-gl1-first.lock", "a run without stages"),
    ("write stages running", "as before"),
    ("write stage_processes running", "a stage that runs"),
    (f"mkdir {ASIDE}", "a stage that runs and has nothing"),
    ("mkdir w/work/gl1-first", "a folder aside, which gc removes"),
    ("write metrics", "as before"),
    ("open w/work/gl1-first/state", "figures of a step that is made again: first record wins"),
    (f"open {ASIDE}/made.txt", "a state to go on from"),
    ("fsync w/journal/*", "a folder aside"),
    (f"rename {ASIDE}/.manifest.json.* to {ASIDE}/manifest.json", "a folder aside without a manifest"),
    (f"rename {ASIDE} to w/artifacts/gl1-first", "a folder aside with a manifest, under no key"),
    ("write stage_processes done", "an artifact that is not recorded, in a process that has not ended its stage"),
    ("write stages done, artifacts", "an artifact that is not recorded: who finds it records it"),
    ("rmdir w/work/gl1-first", "work that nobody needs: who finds the artifact removes it"),
    ("open w/locks/stage-gl1-second.lock", "a stage done, the other not begun"),
    (
        "write runs done, run_processes done",
        "all stages done in a run that is not ended: it is resumed, all cached",
    ),
    ("open w/ledger.lock", "a journal that the next reader ingests"),
    ("rename w/ledger.*.new to w/ledger.duckdb", "a ledger under another name, which the next ingestion removes"),
)
"""The durable steps of a run of two stages in their order; those of the second stage are like those of the first."""
TRIED = (
    "open w/journal/*",
    "write runs started",
    f"rename {ASIDE} to w/artifacts/gl1-first",
    "write stages done, artifacts",
    "write runs done, run_processes done",
    "rename w/ledger.*.new to w/ledger.duckdb",
)
"""Steps that every test run kills before; the slow test takes all."""


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, Any]]:
    """Steps and records of a run that nothing killed."""
    import duckdb  # noqa: F401  loaded before the forks
    import pyarrow  # noqa: F401

    workspace = Workspace(tmp_path_factory.mktemp("unkilled") / "w")
    made = steps(workspace)
    assert made is not None
    found = in_child(lambda: records(workspace))
    assert found["run"]["status"] == "done"
    return made, found


def test_the_durable_steps_come_in_the_order_that_the_table_gives(
    unkilled: tuple[list[str], dict[str, Any]],
) -> None:
    made, _ = unkilled
    places = [made.index(step) for step, _ in DURABLE]
    assert places == sorted(places)


def complete(folder: Path, made: list[str], kill_at: int, wanted: dict[str, Any]) -> None:
    workspace = Workspace(folder / "w")
    assert steps(workspace, kill_at) is None
    # a run whose end was recorded is not resumed: the next is another one, with everything cached
    later = ["done"] if kill_at > made.index("write runs done, run_processes done") else []
    assert again(workspace) == wanted | {"later runs": later}


@pytest.mark.parametrize("step", TRIED)
def test_the_run_after_a_kill_completes_the_records(
    step: str, unkilled: tuple[list[str], dict[str, Any]], tmp_path: Path
) -> None:
    made, wanted = unkilled
    complete(tmp_path, made, made.index(step), wanted)


def test_a_kill_before_the_last_stage_is_recorded_is_completed_though_nothing_is_left_to_run(
    unkilled: tuple[list[str], dict[str, Any]], tmp_path: Path
) -> None:
    made, wanted = unkilled
    last = len(made) - 1 - made[::-1].index("write stages done, artifacts")
    complete(tmp_path, made, last, wanted)


@pytest.mark.slow
def test_the_run_after_a_kill_at_any_step_completes_the_records(
    unkilled: tuple[list[str], dict[str, Any]], tmp_path: Path
) -> None:
    made, wanted = unkilled
    for kill_at in range(len(made)):
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        complete(folder, made, kill_at, wanted)
