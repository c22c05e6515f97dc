"""A stage that splits into items without any model, for tests of workers: each item counts, sleeps, fails or kills."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progress_support import Reporter

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import ModelError, StageInterrupted
from gridloom.runtime.cluster.where import Where
from gridloom.runtime.execution.executor import RunOptions, execute
from gridloom.runtime.execution.stop_signal import StopFlag, stop_on_signals
from gridloom.runtime.planning.plan import make_plan
from gridloom.runtime.stage import Job, StageContext
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.records import MetricRecord
from gridloom.stores.workspace import Workspace

PLACE = "toy_split:ToySplit"


def toy_node(name: str = "toy") -> StageNode:
    """A node of the kind `toy`."""
    return StageNode(name=name, kind="toy", version=1, produces="metrics", key=f"gl1:{name}", spec={"kind": "toy"})


def toy_job(run_id: str = "r", inputs: Mapping[str, Artifact] | None = None, **shared: Any) -> Job:
    """A job of the toy stage; `shared` may have slots, fail (at loading)."""
    return Job(PLACE, toy_node(), inputs or {}, run_id, "cpu", Path(), Path(), shared)


class ToySplit:
    """Half of the stage that workers load."""

    def worker(
        self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext, shared: Mapping[str, Any]
    ) -> ToyWorker:
        """Load nothing, or fail."""
        if shared.get("fail"):
            raise ModelError("no weights here", "put some")
        return ToyWorker(node, inputs, context, shared)


class ToyWorker:
    """Doer of items `{"say": text, "sleep": seconds, "do": what}`."""

    num_loaded = 0

    def __init__(
        self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext, shared: Mapping[str, Any]
    ) -> None:
        ToyWorker.num_loaded += 1
        self.slots = int(shared.get("slots", 1))
        self._node, self._inputs, self._context = node, inputs, context

    async def do(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Do what the item says; return its number squared, and who did it."""
        until = time.monotonic() + value.get("sleep", 0.0)
        while time.monotonic() < until:
            if self._context.stop:
                raise StageInterrupted("stopped")
            await asyncio.sleep(0.005)
        match value.get("do"):
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fail":
                raise ModelError(f"item {value['n']} has no answer", "ask another")
            case "bug":
                raise ZeroDivisionError("a bug")
        number = int(value["n"])
        self._context.ledger.append(
            MetricRecord(
                run_id=self._context.run_id,
                stage=self._node.name,
                step=number,
                name="square",
                value=float(number**2),
                recorded_at=time.time(),
            )
        )
        return {"square": number**2, "pid": os.getpid(), "loaded": ToyWorker.num_loaded, "inputs": sorted(self._inputs)}


def toy_graph() -> RunGraph:
    """A graph of one toy node."""
    return RunGraph(name="toy", seed=0, device="cpu", nodes=(toy_node(),), key="gl1:graph")


class ToyStage(ToySplit):
    """The whole stage: items that no earlier process of the run finished go to the crew; the artifact lists squares."""

    def __init__(self, number: int, sleep: float) -> None:
        self._number, self._sleep = number, sleep

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Hand out the items that the ledger lacks, and write what the ledger then has."""
        assert context.crew is not None
        ledger = Ledger(context.ledger.workspace)
        query = "select step, value from metrics where run_id = ? order by step"
        known = {row["step"] for row in ledger.rows(query, [context.run_id])}
        items = [str(n) for n in range(self._number) if n not in known]
        job = Job(PLACE, node, inputs, context.run_id, "cpu", context.base, context.work, {})
        context.crew.run(
            job, items, lambda item, lost: {"n": int(item), "sleep": self._sleep}, lambda item, got: None, context.stop
        )
        if context.stop:
            raise StageInterrupted("stopped")
        rows = ledger.rows(query, [context.run_id])
        (context.out / "squares.json").write_text(json.dumps([[row["step"], row["value"]] for row in rows]))


def toy_run(root: Path, workers: int, number: int, sleep: float) -> None:
    """Execute the toy graph in a workspace, on workers of this machine; their process ids lie in `pids.json`."""
    workspace = Workspace(root)
    plan = make_plan(toy_graph(), ArtifactStore(workspace))
    options = RunOptions(base=root, spec="toy.yaml", where=Where("local", workers))
    stop = StopFlag()
    with stop_on_signals(stop):
        execute(plan, workspace, options, Reporter(), stop, lambda kind: ToyStage(number, sleep))


if __name__ == "__main__":
    toy_run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
