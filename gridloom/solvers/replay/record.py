"""Inputs of a re-execution, read from an attempt's record: task, LLaMA's result, device, threads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from langchain_core.runnables import RunnableConfig

from gridloom.errors import ReplayError
from gridloom.runtime.data.tasks import Grid, Pair, Task
from gridloom.solvers.loop.graph import thread_id
from gridloom.solvers.types import Ask, Candidate, FinishedAttempt, Proposal, Reasoning
from gridloom.stores.attempt import Attempt, columns_of_node
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import AttemptRecord, TaskRecord
from gridloom.stores.threads.checkpointer import DuckDBSaver
from gridloom.stores.workspace import Workspace


def recorded_reasoning(row: AttemptRecord) -> Reasoning | None:
    """Return the recorded result of the LLaMA; None for an attempt without one."""
    if row.prompt is None:
        return None
    columns = {name: getattr(row, name) for name in columns_of_node("reason")}
    return Reasoning(**columns, prompt_tokens=0, new_tokens=0)


def recorded_asks(row: AttemptRecord) -> tuple[Ask, ...]:
    """Return the recorded questions that confirmed the attempt or not, with their answers."""
    return tuple(Ask.model_validate(ask) for ask in (row.confirmation or {}).get("asks", ()))


def dropped_from_prompt(attempt: Attempt) -> dict[str, int]:
    """Return the recorded numbers of dropped demonstrations and attempts, and the tokens above the prompt's limit."""
    call = attempt.llm_call
    return {name: getattr(call, name, None) or 0 for name in ("dropped_demos", "dropped_attempts", "over_budget")}


def recorded_task(row: TaskRecord) -> Task:
    """Return the task of a record; grids are uint8 [rows, columns]."""

    def grid(cells: Any) -> Grid:
        return np.array(cells, dtype=np.uint8)

    return Task(
        task_id=row.task_id,
        subset=row.subset,
        demos=tuple(Pair(grid(pair["input"]), grid(pair["output"])) for pair in row.demos),
        tests=tuple(grid(cells) for cells in row.tests),
        check=tuple(row.check_demos),
    )


def replay_device(geometry: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the device to replay on, and notes on differences of the machine that may change the bits.

    Raises:
        ReplayError: the attempt's proposer recorded no machine.
    """
    if missing := [name for name in ("device", "device_name", "threads", "torch") if name not in geometry]:
        raise ReplayError(
            f"the attempt's geometry has no {', '.join(missing)}, which its proposer must record",
            "Proposal.geometry begins with gridloom.solvers.parts.runners.machine(device)",
        )
    device, notes = str(geometry["device"]), []
    if geometry["torch"] != torch.__version__:
        notes.append(f"recorded with torch {geometry['torch']}, this is {torch.__version__}: bits may differ")
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            notes.append(f"recorded on {device} ({geometry['device_name']}), replayed on cpu: bits may differ")
            return "cpu", notes
        if torch.cuda.get_device_name(device) != geometry["device_name"]:
            notes.append(f"recorded on {geometry['device_name']}, this is another GPU: bits may differ")
    return device, notes


def recorded_history(ledger: Ledger, row: AttemptRecord) -> list[FinishedAttempt]:
    """Return the attempts before this one, with the fields that a prompt shows."""
    where = {"run_id": row.run_id, "stage": row.stage, "task_id": row.task_id, "fork": 0}
    entries = []
    for attempt in sorted(ledger.read(AttemptRecord, **where), key=lambda record: record.attempt):
        if attempt.attempt < row.attempt:
            proposed = tuple(
                (Candidate(grid=grid, source="trm", votes=0, num_views=0),) if grid else () for grid in attempt.grids
            )
            entries.append(
                FinishedAttempt(
                    attempt=attempt.attempt,
                    only=attempt.plan["focus"] if attempt.text is not None and attempt.latent is None else None,
                    text=attempt.text or "",
                    candidates=proposed,
                    weights=(),
                    score=attempt.score or 0.0,
                    accepted=attempt.verdict == "accepted",
                    feedback=attempt.feedback,
                )
            )
    return entries


def recorded_tokens(ledger: Ledger, row: AttemptRecord) -> int:
    """Return the tokens that the attempts before this one read and wrote, questions of `confirm` included."""
    attempts = ledger.whole_attempts(row.run_id, stage=row.stage, task_id=row.task_id, fork=0)
    calls = [one.llm_call for one in attempts if one.llm_call is not None and one.row.attempt < row.attempt]
    return sum(call.prompt_tokens + call.new_tokens for call in calls)


@contextmanager
def recorded_threads(geometry: Mapping[str, Any], notes: list[str]) -> Iterator[None]:
    """Set torch's number of threads to the recorded one, since sums are split by threads and so the bits depend on it.

    Appends a note where this machine has fewer cores, and then leaves the number unchanged.
    """
    wanted, here = int(geometry["threads"]), torch.get_num_threads()
    if wanted > (os.cpu_count() or 1):
        notes.append(f"recorded with {wanted} threads, this machine has {os.cpu_count()} cores: bits may differ")
        wanted = here
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(here)


@contextmanager
def timed(timings: dict[str, float], node: str) -> Iterator[None]:
    """Set `timings[node]` to the duration of the block, s."""
    began = time.perf_counter()
    yield
    timings[node] = time.perf_counter() - began


NODES = ("reason", "adapt", "propose", "verify")
"""Nodes that a replay can start at, in the order of the loop."""


def check_from_node(node: str | None, row: AttemptRecord, live: bool, overrides: Sequence[str]) -> bool:
    """Return whether the replay runs the LLaMA.

    Raises:
        ReplayError: the replay cannot start at the node, or the node contradicts `live` or `overrides`.
    """
    if node is None:
        return live
    if node not in NODES:
        raise ReplayError(f"no replay begins at '{node}'", f"these can: {', '.join(NODES)}")
    if live and node != "reason":
        raise ReplayError(f"--live runs the LLaMA, which --from-node {node} leaves out", "give one of the two options")
    if node == "reason" and row.prompt is None:
        raise ReplayError(f"attempt {row.attempt_id} was made without a LLaMA", "begin at propose or verify")
    if node == "adapt" and row.latent is None:
        raise ReplayError(f"attempt {row.attempt_id} adapted no latent", "begin at propose or verify")
    if node == "verify" and overrides:
        raise ReplayError(
            "--set changes the proposal, which --from-node verify takes from the record", "begin at an earlier node"
        )
    return node == "reason"


def recorded_proposal(workspace: Workspace, ledger: Ledger, row: AttemptRecord) -> Proposal:
    """Return the attempt's proposal from the loop's checkpoint after `propose`. Raises ReplayError without one."""
    thread = thread_id(row.run_id, row.stage, row.task_id)
    config: RunnableConfig = {"configurable": {"thread_id": thread}}
    with LedgerWriter(workspace, row.run_id) as writer:
        for found in DuckDBSaver(writer, ledger=ledger).list(config) if row.fork == 0 else ():
            values = found.checkpoint["channel_values"]
            planned, timings = values.get("planned") or {}, values.get("timings") or {}
            if planned.get("attempt") == row.attempt and "propose" in timings and "proposal" in values:
                return Proposal.model_validate(values["proposal"])
    raise ReplayError(
        f"no checkpoint of attempt {row.attempt_id} is kept: of an accepted task the last attempt's alone, of forks "
        "none",
        f"begin one node earlier: gridloom replay {row.attempt_id} --from-node propose",
    )
