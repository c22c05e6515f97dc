"""What the loop, its checkpoints and the ledger add to an attempt, with models that take no time.

    python benchmarks/loop_overhead.py [--tasks 12] [--attempts 16]

Runs real ARC tasks through the graph with scripted models, and beside it the same graph with LangGraph's own
checkpointer in memory and no ledger. Prints medians over tasks, in milliseconds an attempt: of the wall clock, and of
the process.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from processor import conditions

from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.loop.graph import Graph, TaskRun, build_graph, run_graph, thread_id
from gridloom.solvers.loop.nodes import Nodes
from gridloom.solvers.loop.policies import make_policy
from gridloom.solvers.loop.recording import AttemptScope
from gridloom.solvers.parts.scripted import ScriptedProposer, ScriptedReasoner
from gridloom.solvers.parts.services import Services
from gridloom.specs.data import ArcData, ArcSelect
from gridloom.specs.solver import Solver
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.threads.checkpointer import DuckDBSaver
from gridloom.stores.workspace import Workspace

LATENT_WIDTH = 576
"""That of SmolLM2-135M."""


MODEL_TIME = [0.0]
"""Seconds that the scripted models took, which are no overhead.

Of the clock, for both figures: asking for the process's time costs up to 0.6 ms where threads run, more than the
models take.
"""


def on_the_clock(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a model's coroutine function that adds its time to MODEL_TIME."""

    async def timed(*args: Any) -> Any:
        began = time.perf_counter()
        try:
            return await function(*args)
        finally:
            MODEL_TIME[0] += time.perf_counter() - began

    return timed


class Reasoner(ScriptedReasoner):
    """A scripted LLaMA on the clock."""

    reason = on_the_clock(ScriptedReasoner.reason)


class Proposer(ScriptedProposer):
    """A scripted TRM on the clock."""

    propose = on_the_clock(ScriptedProposer.propose)

    def adapt(self, latent: Any) -> Any:
        """Map the latent, on the clock."""
        began = time.perf_counter()
        try:
            return super().adapt(latent)
        finally:
            MODEL_TIME[0] += time.perf_counter() - began


def run_task(task: Task, attempts: int, graph: Graph, append: Callable[..., None]) -> tuple[float, float]:
    """Run a task to the end of its attempts; milliseconds an attempt of the clock and of the process."""
    # of a side that no grid of the tasks has: the verifiers never accept it
    wrong = [[[0] * 2] for _ in task.tests]
    settings = Solver(max_attempts=attempts, early_stop=False)
    nodes = Nodes(
        task,
        settings=settings,
        seed=0,
        policy=make_policy("fixed"),
        append=append,
        services=Services(
            Proposer({task.task_id: [wrong]}, checks_right=False), Reasoner(("no grid",), hidden_size=LATENT_WIDTH)
        ),
        scope=AttemptScope("run-1", "solve", task.task_id, "gl1:a", "gl1:b"),
    )
    MODEL_TIME[0] = 0.0
    began, used = time.perf_counter(), time.process_time()
    thread = thread_id("run-1", "solve", task.task_id)
    state = asyncio.run(run_graph(graph, TaskRun(nodes), task.task_id, thread, attempts))
    spent = time.perf_counter() - began - MODEL_TIME[0], time.process_time() - used - MODEL_TIME[0]
    if state is None or len(state["history"]) != attempts:
        raise SystemExit(f"{task.task_id} did not make {attempts} attempts")
    return 1000 * spent[0] / attempts, 1000 * spent[1] / attempts


def main() -> None:
    """Measure both, task by task in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--attempts", type=int, default=16)
    options = parser.parse_args()
    spec = ArcData(holdout=("evaluation",), check_demos=1, select=ArcSelect(max_side=10, limit=options.tasks + 1))
    tasks = read_arc(spec, Path()).tasks
    times: dict[str, list[tuple[float, float]]] = {"in memory, no ledger": [], "gridloom": []}
    home = tempfile.TemporaryDirectory()
    with home as folder, LedgerWriter(Workspace(Path(folder) / "gridloom"), "run-1") as writer:
        ways: dict[str, tuple[Graph, Callable[..., None]]] = {
            "in memory, no ledger": (build_graph(InMemorySaver()), lambda *_: None),
            "gridloom": (build_graph(DuckDBSaver(writer, one_task_a_step=True)), writer.append),
        }
        for number, task in enumerate(tasks):
            for name, (graph, append) in ways.items():
                spent = run_task(task, options.attempts, graph, append)
                if number:  # the first pays for imports
                    times[name].append(spent)
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    for name, (wall, process) in medians.items():
        print(f"{name:<22} {wall:6.2f} ms an attempt, {process:6.2f} ms of the process")
    print(conditions())
    print(f"{'ratio':<22} {medians['gridloom'][1] / medians['in memory, no ledger'][1]:6.2f}")


if __name__ == "__main__":
    main()
