"""Processes of a run: each is listed, their times are summed, and the first start is kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from test_executor import TWO, Recorder, run

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageInterrupted
from gridloom.runtime.execution import process_log
from gridloom.runtime.reports.comparison import stage_runs
from gridloom.runtime.stage import StageContext
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

STEP_S = 0.05


def test_a_run_that_was_interrupted_has_the_time_of_all_its_processes(workspace: Workspace) -> None:
    def stop_or_end(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        if node.name == "second":
            time.sleep(STEP_S)
            state = context.work / "state"
            state.write_text((state.read_text() if state.exists() else "") + ".")
            if len(state.read_text()) < 4:
                raise StageInterrupted("stopped", "run again")

    starts = []
    for _ in range(3):
        starts.append(time.time())
        with pytest.raises(StageInterrupted):
            run(TWO, workspace, Recorder(stop_or_end))
        time.sleep(2 * STEP_S)  # pauses are no time of the run
    result = run(TWO, workspace, Recorder(stop_or_end))
    ledger = Ledger(workspace)
    (row,) = ledger.rows("select *, epoch(started_at) as began from v_runs")
    listed = ledger.rows("from v_processes")
    assert [one["status"] for one in listed] == ["interrupted"] * 3 + ["done"]
    assert {(one["run_id"], one["host"], one["pid"]) for one in listed} == {
        (result.run_id, socket.gethostname(), os.getpid())
    }
    assert row["processes"] == 4
    assert row["seconds"] == pytest.approx(sum(one["seconds"] for one in listed))
    assert starts[0] - 0.01 < row["began"] < starts[1]
    assert all(one["started_at"] < one["ended_at"] for one in listed)
    (second,) = ledger.rows("from v_stage_times where stage = 'second'")
    parts = ledger.rows("from stage_processes where stage = 'second' order by process")
    assert [one["status"] for one in parts] == ["interrupted"] * 3 + ["done"]
    assert all(one["seconds"] >= STEP_S for one in parts)
    assert second["seconds"] == pytest.approx(sum(one["seconds"] for one in parts))
    assert second["processes"] == 4
    assert second["seconds"] < row["seconds"]
    assert stage_runs(ledger, ["gl1:2"], ArtifactStore(workspace))["gl1:2"].seconds == pytest.approx(second["seconds"])
    before = ledger.query("from v_processes"), ledger.query("from v_runs"), ledger.query("from v_stage_times")
    workspace.ledger_path.unlink()
    assert (ledger.query("from v_processes"), ledger.query("from v_runs"), ledger.query("from v_stage_times")) == before


def test_a_killed_process_counts_up_to_its_last_sign_of_life(workspace: Workspace) -> None:
    script = textwrap.dedent(
        f"""
        import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2] / "support")]!r}
        import os, signal, time
        from pathlib import Path
        import test_executor as t
        from gridloom.runtime.execution import process_log
        from gridloom.stores.workspace import Workspace
        process_log.FIRST_SIGN_S = process_log.SIGN_EVERY_S = 0.01
        def die(node, inputs, context):
            if node.name == "second":
                time.sleep(0.2)
                os.kill(os.getpid(), signal.SIGKILL)
        t.run(t.TWO, Workspace(Path({str(workspace.root)!r})), t.Recorder(die))
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    ledger = Ledger(workspace)
    (killed,) = ledger.rows("from v_processes")
    assert (killed["status"], killed["ended_at"]) == ("crashed", None)
    assert killed["seconds"] >= 0.1
    run(TWO, workspace, Recorder())
    assert [row["status"] for row in ledger.rows("from v_processes")] == ["crashed", "done"]
    (second,) = ledger.rows("from v_stage_times where stage = 'second'")
    assert second["processes"] == 2
    assert second["seconds"] >= 0.1


def test_signs_of_life_end_with_the_process(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_log, "FIRST_SIGN_S", 0.001)

    def fail(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        time.sleep(0.02)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(TWO, workspace, Recorder(fail))
    (row,) = Ledger(workspace).rows("from v_processes")
    assert (row["status"], row["error"]) == ("interrupted", "stopped at once by a second Ctrl-C")
    (part,) = Ledger(workspace).rows("from stage_processes")
    assert part["status"] == "interrupted"
    assert part["seconds"] >= 0.02
