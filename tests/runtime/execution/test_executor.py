"""The executor: planned equals executed, finished stages are skipped, failures and interruptions lose nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import run_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from run_cases import TWO, Body, Recorder, graph, node, run

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import DataError, StageError, StageInterrupted, StoreError
from gridloom.runtime.execution.run_outcome import MAX_LISTED, RunFailed
from gridloom.runtime.execution.stop_signal import StopFlag, stop_on_signals
from gridloom.runtime.planning.plan import make_plan
from gridloom.runtime.stage import StageContext
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.keeping.artifacts import list_artifacts, remove_artifacts
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace


def test_executed_stages_are_the_planned_ones(workspace: Workspace) -> None:
    stages = Recorder()
    for wanted in (["first", "second"], []):
        plan = make_plan(TWO, ArtifactStore(workspace))
        planned = [stage.node.name for stage in plan.stages if stage.state == "run"]
        result = run(TWO, workspace, stages)
        assert planned == list(result.executed) == wanted
    assert stages.ran == ["first", "second"]


def test_a_stage_gets_its_inputs_by_the_field_that_names_them(workspace: Workspace) -> None:
    result = run(TWO, workspace, Recorder())
    assert (result.artifacts["second"].path / "made.txt").read_text() == "secondmodel"


def test_a_failed_stage_publishes_nothing_and_keeps_what_came_before(workspace: Workspace) -> None:
    def fail(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        if node.name == "second":
            raise DataError("task 0934a4d8 is broken", "mend it")

    with pytest.raises(RunFailed, match="second failed: task 0934a4d8 is broken"):
        run(TWO, workspace, Recorder(fail))
    store = ArtifactStore(workspace)
    assert store.find("gl1:1") is not None
    assert store.find("gl1:2") is None
    stages = {row["stage"]: row for row in Ledger(workspace).rows("from stages")}
    assert stages["second"]["status"] == "failed"
    assert "0934a4d8" in stages["second"]["error"]
    assert Ledger(workspace).rows("from runs")[0]["status"] == "failed"


TREE = graph(
    node("data", "d"),
    node("left", "l", {"data": "data"}),
    node("left_end", "le", {"model": "left"}),
    node("right", "r", {"data": "data"}),
    node("right_end", "re", {"model": "right"}),
    node("both", "b", {"one": "left_end", "two": "right_end"}),
    node("alone", "a"),
)


def fails(*names: str, error: Callable[[str], BaseException] = lambda name: DataError(f"{name} is broken")) -> Body:
    def body(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        if node.name in names:
            raise error(node.name)

    return body


def test_what_does_not_depend_on_a_failed_stage_goes_on(workspace: Workspace) -> None:
    stages = Recorder(fails("left"))
    with pytest.raises(RunFailed) as stop:
        run(TREE, workspace, stages)
    result = stop.value.result
    assert stages.ran == ["data", "left", "right", "right_end", "alone"]
    assert result.executed == ("data", "right", "right_end", "alone")
    assert result.failed == {"left": "left is broken"}
    assert result.blocked == {"left_end": ("left",), "both": ("left",)}
    for wanted in ("4 done, 0 cached, 1 failed, 2 blocked", "left failed: left is broken", "both is blocked by left"):
        assert wanted in str(stop.value)
    rows = {row["stage"]: (row["status"], row["error"]) for row in Ledger(workspace).rows("from stages")}
    assert rows["both"] == ("blocked", "blocked by left")
    assert rows["right_end"] == ("done", None)
    (listed,) = Ledger(workspace).runs()
    assert (listed["status"], listed["failed"], listed["blocked"]) == ("failed", 1, 2)


def test_the_summary_of_many_failures_names_some_and_how_to_see_all(workspace: Workspace) -> None:
    many = graph(*(node(f"n{i}", f"k{i}") for i in range(20)))
    with pytest.raises(RunFailed) as stop:
        run(many, workspace, Recorder(fails(*(one.name for one in many.nodes))))
    assert len(stop.value.result.failed) == 20
    said = str(stop.value)
    assert "0 done, 0 cached, 20 failed, 0 blocked" in said
    assert said.count(" is broken") == MAX_LISTED
    query = said.splitlines()[-1].split('"')[1]
    assert len(Ledger(workspace).rows(query)) == 20


def test_planned_stages_are_executed_failed_or_blocked_and_no_others(workspace: Workspace) -> None:
    plan = make_plan(TREE, ArtifactStore(workspace))
    with pytest.raises(RunFailed) as stop:
        run(TREE, workspace, Recorder(fails("left", "right_end")))
    result = stop.value.result
    planned = {stage.node.name for stage in plan.stages if stage.state == "run"}
    assert {*result.executed, *result.failed, *result.blocked} == planned
    assert result.blocked["both"] == ("left", "right_end")


@st.composite
def graphs_with_failures(draw: st.DrawFn) -> tuple[RunGraph, set[str]]:
    """Draw up to seven stages that read any before them, and which of them are broken."""
    names = [f"n{i}" for i in range(draw(st.integers(2, 7)))]
    reads = [draw(st.sets(st.sampled_from(names[:i]), max_size=2)) if i else set() for i in range(len(names))]
    nodes = [node(name, name, {f"in_{r}": r for r in sorted(read)}) for name, read in zip(names, reads, strict=True)]
    return graph(*nodes), draw(st.sets(st.sampled_from(names), min_size=1))


@settings(max_examples=8, deadline=None)
@given(graphs_with_failures())
def test_a_stage_is_blocked_exactly_by_the_broken_ones_it_depends_on(drawn: tuple[RunGraph, set[str]]) -> None:
    made, broken = drawn
    with tempfile.TemporaryDirectory() as folder, pytest.raises(RunFailed) as stop:
        run(made, Workspace(Path(folder)), Recorder(fails(*broken)))
    result = stop.value.result
    behind: dict[str, set[str]] = {}
    for one in made.nodes:
        behind[one.name] = set().union(*({name} | behind[name] for name in one.inputs.values()))
    free = [one.name for one in made.nodes if not behind[one.name] & broken]
    assert list(result.executed) == [name for name in free if name not in broken]
    assert list(result.failed) == [name for name in free if name in broken]
    assert result.blocked == {
        name: tuple(sorted(root for root in above if root in result.failed))
        for name, above in behind.items()
        if above & broken
    }


def test_running_again_takes_only_what_failed_and_what_it_blocked(workspace: Workspace) -> None:
    with pytest.raises(RunFailed) as stop:
        run(TREE, workspace, Recorder(fails("left")))
    stages = Recorder()
    result = run(TREE, workspace, stages)
    assert stages.ran == ["left", "left_end", "both"]
    assert result.run_id == stop.value.result.run_id
    rows = {row["stage"]: (row["status"], row["error"]) for row in Ledger(workspace).rows("from stages")}
    assert set(rows.values()) == {("done", None)}


def test_a_bug_in_a_stage_is_told_with_its_traceback_and_blocks_only_its_dependents(workspace: Workspace) -> None:
    with pytest.raises(RunFailed, match="Traceback") as stop:
        run(TREE, workspace, Recorder(fails("left", error=lambda name: ZeroDivisionError("a bug"))))
    assert "ZeroDivisionError: a bug" in str(stop.value)
    assert "alone" in stop.value.result.executed


@pytest.mark.parametrize(
    "error",
    [
        lambda name: KeyboardInterrupt(),
        lambda name: StageInterrupted(f"{name} stopped by SIGTERM"),
        lambda name: StoreError("cannot append to the journal", "free some space"),
        lambda name: OSError(errno.EFBIG, "File too large"),
        lambda name: RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
    ids=["second ctrl-c", "stop", "store", "file size limit", "disk full in a library"],
)
def test_what_is_no_failure_of_a_stage_stops_everything_at_once(
    workspace: Workspace, error: Callable[[str], BaseException]
) -> None:
    stages = Recorder(fails("left", error=error))
    with pytest.raises((KeyboardInterrupt, StageInterrupted, StoreError)):
        run(TREE, workspace, stages)
    assert stages.ran == ["data", "left"]
    assert ArtifactStore(workspace).find("gl1:d") is not None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_stops_everything_and_names_the_folder(workspace: Workspace) -> None:
    def write(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        if node.name == "left":
            Path("/dev/full").write_text("anything")

    stages = Recorder(write)
    with pytest.raises(StoreError, match=r"cannot write in .*No space left on device"):
        run(TREE, workspace, stages)
    assert stages.ran == ["data", "left"]
    statuses = {row["stage"]: row["status"] for row in Ledger(workspace).rows("from stages")}
    assert statuses == {"data": "done", "left": "failed"}


def test_a_stage_that_runs_out_of_memory_is_told_what_to_lower_and_the_others_go_on(workspace: Workspace) -> None:
    body = fails("first", error=lambda _: MemoryError())
    with pytest.raises(RunFailed) as caught:
        run(graph(node("first", "1", kind="solve_nothing"), node("other", "2")), workspace, Recorder(body))
    assert "free some memory, or run it on a larger device" in str(caught.value)
    assert "other" in caught.value.result.executed


def test_a_stop_is_seen_between_stages_that_never_look(workspace: Workspace) -> None:
    stop = StopFlag()

    def set_stop(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        stop.set("SIGTERM")
        raise DataError("and it fails, too")

    with pytest.raises(StageInterrupted, match="stopped by SIGTERM before second"):
        run(graph(node("first", "1"), node("second", "2")), workspace, Recorder(set_stop), stop)
    assert Ledger(workspace).rows("select status from runs") == [{"status": "interrupted"}]


def test_a_damaged_input_takes_down_its_readers_alone(workspace: Workspace) -> None:
    run(graph(node("first", "1")), workspace, Recorder())
    artifact = ArtifactStore(workspace).find("gl1:1")
    assert artifact is not None
    (artifact.path / "made.txt").write_text("other!")
    with pytest.raises(RunFailed, match=r"second failed: .*made\.txt") as stop:
        run(graph(*TWO.nodes, node("third", "3")), workspace, Recorder())
    assert stop.value.result.executed == ("third",)


def test_running_again_after_a_failure_continues_the_same_run(workspace: Workspace) -> None:
    broken = True

    def fail_once(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        if node.name == "second" and broken:
            raise DataError("broken")

    stages = Recorder(fail_once)
    with pytest.raises(RunFailed):
        run(TWO, workspace, stages)
    broken = False
    run(TWO, workspace, stages)
    assert stages.ran == ["first", "second", "second"]
    rows = Ledger(workspace).rows("from runs")
    assert [row["status"] for row in rows] == ["done"]


def test_an_interrupted_stage_keeps_its_work_folder_and_finds_it_again(workspace: Workspace) -> None:
    seen: list[list[str]] = []

    def interruptible(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        seen.append(sorted(path.name for path in context.work.iterdir()))
        if len(seen) == 1:
            (context.work / "state.json").write_text("{}")
            raise StageInterrupted("first stopped at step 1 of 3: SIGTERM")

    one = graph(node("first", "1"))
    with pytest.raises(StageInterrupted):
        run(one, workspace, Recorder(interruptible))
    assert make_plan(one, ArtifactStore(workspace)).stages[0].why == "resumes where it was interrupted"
    result = run(one, workspace, Recorder(interruptible))
    assert seen == [[], ["state.json"]]
    assert Ledger(workspace).rows("select status from runs") == [{"status": "done"}]
    assert list(workspace.work_dir.iterdir()) == []
    assert result.executed == ("first",)


def test_plan_names_the_changed_field_with_old_and_new_value(workspace: Workspace) -> None:
    run(graph(node("first", "1")), workspace, Recorder())
    changed = node("first", "9").model_copy(update={"spec": {"kind": "train", "steps": 5}})
    assert make_plan(graph(changed), ArtifactStore(workspace)).stages[0].why == "steps: 3 -> 5"


def test_a_stage_that_another_process_runs_is_refused(workspace: Workspace) -> None:
    def nested(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        other = graph(node, key="gl1:other")
        with pytest.raises(StageError, match="being run by another process"):
            run(other, workspace, Recorder())

    run(graph(node("first", "1")), workspace, Recorder(nested))


def test_no_artifact_is_removed_under_a_run_and_one_removed_before_it_is_missed(workspace: Workspace) -> None:
    run(TWO, workspace, Recorder())
    changed = graph(TWO.nodes[0], node("second", "3", {"model": "first"}))
    plan = make_plan(changed, ArtifactStore(workspace))
    assert [stage.state for stage in plan.stages] == ["cached", "run"]
    remove_artifacts(workspace, list_artifacts(workspace))
    with pytest.raises(StoreError, match=r"the artifact of stage 'first' \(gl1:1\) was removed while the run began"):
        run(changed, workspace, Recorder(), plan=plan)

    def removes(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        if node.name == "second":
            with pytest.raises(StoreError, match="a run is going on"):
                remove_artifacts(workspace, list_artifacts(workspace))

    assert run(changed, workspace, Recorder(removes)).executed == ("first", "second")


def test_a_signal_sets_the_stop_and_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals(StopFlag()) as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        assert stop.reason == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def test_walltime_sets_the_stop() -> None:
    assert StopFlag(0.0)
    assert not StopFlag(60.0)


def test_a_killed_run_is_taken_over_under_its_own_id(workspace: Workspace) -> None:
    script = textwrap.dedent(
        f"""
        import sys; sys.path.insert(0, {str(Path(run_cases.__file__).parent)!r})
        import os, signal
        from pathlib import Path
        import run_cases as t
        from gridloom.stores.workspace import Workspace
        def die(node, inputs, context):
            if node.name == "second":
                os.kill(os.getpid(), signal.SIGKILL)
        t.run(t.TWO, Workspace(Path({str(workspace.root)!r})), t.Recorder(die))
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    stages = Recorder()
    result = run(TWO, workspace, stages)
    assert stages.ran == ["second"]
    rows = Ledger(workspace).rows("from runs")
    assert [(row["run_id"], row["status"]) for row in rows] == [(result.run_id, "done")]


@pytest.mark.parametrize("leftover", ["journal", "locks", "artifacts"])
def test_a_workspace_whose_process_was_killed_at_the_start_is_used(workspace: Workspace, leftover: str) -> None:
    (workspace.root / leftover).mkdir(parents=True)
    assert run(TWO, workspace, Recorder()).executed == ("first", "second")
    assert Ledger(workspace).rows("select status from runs") == [{"status": "done"}]


def test_a_lost_ledger_without_journals_is_begun_anew(workspace: Workspace) -> None:
    run(graph(node("first", "1")), workspace, Recorder())
    assert len(Ledger(workspace).prune_journals()) == 1
    workspace.ledger_path.rename(workspace.ledger_path.with_suffix(".damaged"))
    assert run(TWO, workspace, Recorder()).executed == ("second",)
    stages = Ledger(workspace).rows("select stage, status from stages order by stage")
    assert [(row["stage"], row["status"]) for row in stages] == [("first", "cached"), ("second", "done")]


def test_notes_and_start_of_a_stage_stand_in_the_manifest(workspace: Workspace) -> None:
    def note(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        context.notes.update(share=np.float32(0.5), counts=np.arange(2), hardware="box")

    result = run(graph(node("first", "1")), workspace, Recorder(note))
    made = result.artifacts["first"].manifest["producer"]
    assert made["notes"] == {"share": 0.5, "counts": [0, 1], "hardware": "box"}
    (row,) = Ledger(workspace).rows("select notes, epoch(started_at) as s, epoch(ended_at) as e from stages")
    assert json.loads(row["notes"]) == made["notes"]
    assert row["s"] == pytest.approx(made["started_at"], abs=1e-5)
    assert row["e"] == pytest.approx(result.artifacts["first"].manifest["created_at"], abs=1e-5)


def test_an_artifact_of_a_run_that_this_ledger_does_not_know_is_no_record_of_it(workspace: Workspace) -> None:
    run(graph(node("first", "1")), workspace, Recorder())
    other = Workspace(workspace.root.with_name("other"))
    shutil.copytree(workspace.artifact_dir, other.ensure() / "artifacts")
    result = run(TWO, other, Recorder())
    assert {row["run_id"] for row in Ledger(other).rows("select run_id from stages")} == {result.run_id}
