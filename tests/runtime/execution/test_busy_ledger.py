"""Runs whose ledger another program holds open: they go on with their journals, which are ingested later."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from gridloom.cli.show.progress import Reporter
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.runtime.execution.executor import RunOptions, execute
from gridloom.runtime.execution.run_outcome import RunResult
from gridloom.runtime.execution.stop_signal import StopFlag
from gridloom.runtime.planning.plan import make_plan
from gridloom.runtime.stage import StageContext
from gridloom.stores import ledger as ledger_module
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.records import MetricRecord
from gridloom.stores.workspace import Workspace

HOLD = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "yes")
print(connection.execute("SELECT count(*) FROM runs").fetchall(), flush=True)
sys.stdin.read()
"""


class Measuring:
    """A stage that records a metric and reads it back from the ledger."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        context.ledger.append(
            MetricRecord(run_id=context.run_id, stage=node.name, step=1, name="loss", value=0.5, recorded_at=1.0)
        )
        found = Ledger(context.ledger.workspace).read(MetricRecord, run_id=context.run_id)
        assert [metric.value for metric in found] == [0.5]
        (context.out / "made.txt").write_text("made")


def run(key: str, workspace: Workspace, console: Console) -> RunResult:
    node = StageNode(
        name="only", kind="train", version=1, produces="checkpoint", spec={"kind": "train"}, inputs={}, key=f"gl1:{key}"
    )
    graph = RunGraph(name="test", seed=0, device="cpu", nodes=(node,), key=f"gl1:graph-{key}")
    plan = make_plan(graph, ArtifactStore(workspace))
    options = RunOptions(base=Path(), spec="test.yaml")
    return execute(plan, workspace, options, Reporter(console), StopFlag(), lambda kind: Measuring())


@pytest.mark.parametrize("read_only", ["yes", "no"])
def test_a_run_whose_ledger_is_held_is_done_and_ingested_later(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, read_only: str
) -> None:
    monkeypatch.setattr(ledger_module, "FOREIGN_PATIENCE_S", 0.05)
    run("1", workspace, Console(quiet=True))
    words = [sys.executable, "-c", HOLD, str(workspace.ledger_path), read_only]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "[(1,)]\n"
        console = Console(record=True, width=400)
        result = run("2", workspace, console)
        assert result.executed == ("only",)
        shown = console.export_text()
        assert f"held by process {holder.pid}" in shown
        assert "the next command adds it to the ledger" in shown
        holder.communicate("")
    runs = Ledger(workspace).runs()
    assert [row["status"] for row in runs] == ["done", "done"]
    assert Ledger(workspace).rows("SELECT count(*) AS n FROM metrics") == [{"n": 2}]
