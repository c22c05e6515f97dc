"""What an attempt's record says of how to run it again: task, LLaMA's step, device, threads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from gridloom.runtime.data.tasks import Grid, Pair, Task
from gridloom.solvers.types import Candidate, Entry, Reasoning
from gridloom.stores.ledger import Ledger
from gridloom.stores.records import AttemptRecord


def recorded_reasoning(row: Mapping[str, Any]) -> Reasoning | None:
    """The LLaMA's step as it was recorded; None for a TRM alone."""
    if row["prompt"] is None:
        return None
    return Reasoning(
        prompt=row["prompt"],
        text=row["text"],
        latent=row["latent"],
        prefix=row["prefix"],
        prompt_tokens=0,
        new_tokens=0,
    )


def shortened(row: Mapping[str, Any]) -> dict[str, int]:
    """What the record says was left out of an attempt's prompt, and how far it is over its limit."""
    call = row.get("llm_call") or {}
    return {name: call.get(name) or 0 for name in ("dropped_demos", "dropped_attempts", "over_budget")}


def recorded_task(row: Mapping[str, Any]) -> Task:
    def grid(cells: Any) -> Grid:
        return np.array(cells, dtype=np.uint8)

    return Task(
        task_id=row["task_id"],
        subset=row["subset"],
        demos=tuple(Pair(grid(pair["input"]), grid(pair["output"])) for pair in row["demos"]),
        tests=tuple(grid(cells) for cells in row["tests"]),
        check=tuple(row["check_demos"]),
    )


def place(geometry: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the device to replay on, and what may keep the bits from being equal."""
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


def recorded_history(ledger: Ledger, row: Mapping[str, Any]) -> list[Entry]:
    """Rebuild what the prompt tells of the attempts before this one."""
    where = {"run_id": row["run_id"], "stage": row["stage"], "task_id": row["task_id"], "fork": 0}
    entries = []
    for attempt in sorted(ledger.read(AttemptRecord, **where), key=lambda record: record.attempt):
        if attempt.attempt < row["attempt"]:
            proposed = tuple(
                (Candidate(grid=grid, source="trm", votes=0, num_views=0),) if grid else ()
                for grid in attempt.grids
            )
            entries.append(
                Entry(
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


@contextmanager
def recorded_threads(geometry: Mapping[str, Any], notes: list[str]) -> Iterator[None]:
    """Use the recorded number of threads: sums are split by it, so the bits depend on it."""
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
    began = time.perf_counter()
    yield
    timings[node] = time.perf_counter() - began
