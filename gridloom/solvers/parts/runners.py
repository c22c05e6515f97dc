"""Execution of TRM calls: in shared batches, or at recorded rows of a batch of recorded size."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gridloom.runtime.data.arc.tokens import same_grids
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.steps import Rows
from gridloom.solvers.parts.batch import RowResults
from gridloom.solvers.parts.call_scheduler import CallQueue, CallScheduler
from gridloom.solvers.parts.proposer import TrmAnswer, TrmCall


def trm_queue(trm: Network, scheduler: CallScheduler, max_rows: int) -> CallQueue[TrmCall, TrmAnswer]:
    """Return a queue whose batches hold up to `max_rows` rows; the rows of an attempt are never split."""
    return CallQueue(
        scheduler,
        lambda calls: run_rows(trm, calls),
        kind=lambda call: (call.act_steps, call.halting, call.injection is None, call.rows.canvas),
        size=lambda call: len(call.rows),
        max_size=max_rows,
    )


@dataclass(frozen=True, slots=True, eq=False)
class PlacedCall:
    """Call with the size of its recorded batch and its first row there."""

    call: TrmCall
    batch_rows: int
    first_row: int


class PlacedRunner:
    """Runner of a replayed attempt's calls at their recorded rows; attempts of one frame share batches."""

    def __init__(self, queue: CallQueue[PlacedCall, TrmAnswer], batch_rows: int, first_row: int) -> None:
        self._queue = queue
        self.batch_rows = batch_rows
        self.first_row = first_row

    async def submit(self, call: TrmCall) -> TrmAnswer:
        """Run the call's rows at their recorded place."""
        return await self._queue.submit(PlacedCall(call, self.batch_rows, self.first_row))


def placed_queue(trm: Network, scheduler: CallScheduler) -> CallQueue[PlacedCall, TrmAnswer]:
    """Return a queue for replays: calls with disjoint recorded rows and the same batch size share a batch."""
    return CallQueue(
        scheduler,
        lambda calls: run_placed(trm, calls),
        kind=lambda placed: (
            placed.batch_rows,
            placed.call.act_steps,
            placed.call.halting,
            placed.call.injection is None,
            placed.call.rows.canvas,
        ),
        size=lambda placed: 1,
        max_size=sys.maxsize,
    )


def run_placed(trm: Network, placed: Sequence[PlacedCall]) -> list[TrmAnswer]:
    """Run calls of one kind at their places in batches of the recorded size; the rows between calls are blank.

    The bits of a row depend on the batch's shape and the row's place in it, not on the content of other rows. So calls
    may share a batch in the replay that did not share one when they were recorded.
    """
    answers: dict[int, TrmAnswer] = {}
    spans = [(call.first_row, call.first_row + len(call.call.rows)) for call in placed]
    for frame in frames(spans):
        size = placed[frame[0]].batch_rows
        if trm.packed:  # recorded alone, each in a batch of its own rows
            answers.update((index, run_rows(trm, [placed[index].call])[0]) for index in frame)
            continue
        if spans[frame[-1]][1] > size:  # more rows than recorded, as in a fork with more views: a batch of its own
            alone = frame.pop()
            answers[alone] = run_rows(trm, [placed[alone].call])[0]
        calls, owners, row = [], [], 0
        for index in frame:
            if spans[index][0] > row:
                calls.append(_blank(placed[index].call, spans[index][0] - row))
                owners.append(-1)
            calls.append(placed[index].call)
            owners.append(index)
            row = spans[index][1]
        if calls and row < size:
            calls.append(_blank(calls[0], size - row))
            owners.append(-1)
        if calls:
            answers.update((owner, answer) for owner, answer in zip(owners, run_rows(trm, calls), strict=True))
    return [answers[index] for index in range(len(placed))]


def frames(spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the indices of half-open spans in groups without overlap, by first fit in the order of their starts."""
    found: list[list[int]] = []
    ends: list[int] = []
    for index in sorted(range(len(spans)), key=lambda index: spans[index]):
        start, end = spans[index]
        frame = next((number for number, taken in enumerate(ends) if taken <= start), len(found))
        if frame == len(found):
            found.append([])
            ends.append(0)
        found[frame].append(index)
        ends[frame] = end
    return found


def run_rows(trm: Network, calls: list[TrmCall]) -> list[TrmAnswer]:
    """Run calls with equal ACT steps in one batch, with their rows in the given order.

    Where rows halt, each call is a batch of its own: halted rows leave the batch and so move the others, and a replay,
    which runs the call alone, must give the same bits. Packed rows, too, are rounded by the sizes of their neighbours.
    """
    if calls[0].halting.when != "none":
        return [_run_halting(trm, call) for call in calls]
    if trm.packed and len(calls) > 1:
        return [answer for call in calls for answer in run_rows(trm, [call])]
    began = time.perf_counter()
    inputs = torch.cat([torch.from_numpy(call.rows.inputs) for call in calls]).to(trm.device)
    ids = torch.cat([torch.from_numpy(call.rows.puzzle_ids) for call in calls]).to(trm.device)
    shapes = None if not trm.packed else torch.from_numpy(np.concatenate([_shapes_of(call) for call in calls]))
    traced = trm.trace(Rows(inputs, ids, shapes=shapes), _joined(calls), calls[0].act_steps)
    tokens, q_halt, changed = (part.cpu().numpy() for part in (traced.tokens, traced.q_halt, traced.changed))
    seconds = time.perf_counter() - began
    answers, start = [], 0
    for call in calls:
        end = start + len(call.rows)
        answers.append(
            TrmAnswer(
                results=RowResults(tokens[start:end], q_halt[:, start:end], changed[:, start:end]),
                z_H=_rows_of(traced.carry, "z_H", start, end),
                z_L=_rows_of(traced.carry, "z_L", start, end),
                geometry={
                    **geometry(trm),
                    "canvas": call.rows.canvas,
                    "rows": len(call.rows),
                    "batch_rows": len(inputs),
                    "first_row": start,
                },
                seconds=seconds * len(call.rows) / len(inputs),
            )
        )
        start = end
    return answers


def _rows_of(carry: Any, state: str, start: int, end: int) -> torch.Tensor | None:
    """Return the rows start to end of a state [B, S, D] of the carry; None for a family without that state."""
    found = getattr(carry, state, None)
    return None if found is None else found[start:end]


def _shapes_of(call: TrmCall) -> NDArray[np.int64]:
    assert call.rows.shapes is not None, "rows for a network with packed rows have shapes"
    return call.rows.shapes


def _run_halting(trm: Network, call: TrmCall) -> TrmAnswer:
    began = time.perf_counter()
    inputs = torch.from_numpy(call.rows.inputs).to(trm.device)
    ids = torch.from_numpy(call.rows.puzzle_ids).to(trm.device)
    shapes = torch.from_numpy(_shapes_of(call)) if trm.packed else None
    traced = trm.trace_halting(
        Rows(inputs, ids, shapes=shapes), call.halting, call.injection, call.act_steps, same_grids
    )
    tokens, q_halt, changed, made = (
        part.cpu().numpy() for part in (traced.tokens, traced.q_halt, traced.changed, traced.steps)
    )
    return TrmAnswer(
        results=RowResults(tokens, q_halt, changed, made),
        z_H=traced.z_H,
        z_L=traced.z_L,
        geometry={
            **geometry(trm),
            "canvas": call.rows.canvas,
            "rows": len(call.rows),
            "batch_rows": len(call.rows),
            "first_row": 0,
        },
        seconds=time.perf_counter() - began,
    )


def geometry(trm: Network) -> dict[str, Any]:
    """Return the conditions, beside weights and inputs, that the bits of a TRM run depend on."""
    return {**machine(trm.device), "precision": trm.spec.precision, "canvas": trm.canvas}


def machine(device: torch.device) -> dict[str, Any]:
    """Return the conditions, beside model, inputs and batch, that the bits of any model's run depend on."""
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _blank(call: TrmCall, number: int) -> TrmCall:
    """Return a call with `number` blank rows."""
    rows = replace(
        call.rows,
        inputs=np.zeros((number, call.rows.inputs.shape[1]), dtype=np.uint8),
        puzzle_ids=np.zeros(number, dtype=np.int64),
    )
    return replace(call, rows=rows)


def _joined(calls: list[TrmCall]) -> Injection | None:
    """Return the calls' injections repeated over their rows, [N, S, D]; None without injections."""
    first = calls[0].injection
    if first is None:
        return None
    if len(calls) == 1:
        return first  # one row, which is broadcast

    def join(name: str) -> torch.Tensor | None:
        if getattr(first, name) is None:
            return None
        parts = [getattr(call.injection, name).expand(len(call.rows), -1, -1) for call in calls]
        return torch.cat(parts)

    return Injection(z_H=join("z_H"), z_L=join("z_L"), term=join("term"))
