"""How TRM calls are executed: in shared batches, or at a recorded place in a batch of recorded size."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gridloom.runtime.models.recursive import Injection, RecursiveNetwork
from gridloom.solvers.batch import RowResults
from gridloom.solvers.hub import Desk, Hub
from gridloom.solvers.proposer import TrmAnswer, TrmCall


def trm_desk(trm: RecursiveNetwork, hub: Hub, max_rows: int) -> Desk[TrmCall, TrmAnswer]:
    """Return a desk whose batches hold up to `max_rows` rows of whole attempts."""
    return Desk(
        hub,
        lambda calls: run_rows(trm, calls),
        kind=lambda call: (call.act_steps, call.injection is None),
        size=lambda call: len(call.rows),
        max_size=max_rows,
    )


class PlacedRunner:
    """Runs a call at a given place in a batch of a given size, for replays: what stood beside it is blank.

    The bits of a row depend on the batch's shape and the row's place in it, not on what the other rows hold.
    """

    def __init__(self, trm: RecursiveNetwork, batch_rows: int, first_row: int) -> None:
        self.trm = trm
        self.batch_rows = batch_rows
        self.first_row = first_row

    async def ask(self, call: TrmCall) -> TrmAnswer:
        """Run the rows at their place."""
        return self.answer(call)

    def answer(self, call: TrmCall) -> TrmAnswer:
        """Run the rows among blank ones; a call that does not fit the recorded batch runs alone."""
        after = self.batch_rows - self.first_row - len(call.rows)
        if after < 0:
            return run_rows(self.trm, [call])[0]
        calls = [part for part in (_blank(call, self.first_row), call, _blank(call, after)) if len(part.rows)]
        return run_rows(self.trm, calls)[1 if self.first_row else 0]


def run_rows(trm: RecursiveNetwork, calls: list[TrmCall]) -> list[TrmAnswer]:
    """Run calls of equal ACT steps in one batch, one after the other in the order given."""
    began = time.perf_counter()
    inputs = torch.cat([torch.from_numpy(call.rows.inputs) for call in calls]).to(trm.device)
    ids = torch.cat([torch.from_numpy(call.rows.puzzle_ids) for call in calls]).to(trm.device)
    trace = trm.run(inputs, ids, _joined(calls), calls[0].act_steps)
    tokens, q_halt, changed = (part.cpu().numpy() for part in (trace.tokens, trace.q_halt, trace.changed))
    seconds = time.perf_counter() - began
    answers, start = [], 0
    for call in calls:
        end = start + len(call.rows)
        answers.append(
            TrmAnswer(
                results=RowResults(tokens[start:end], q_halt[:, start:end], changed[:, start:end]),
                z_H=trace.carry.z_H[start:end],
                z_L=trace.carry.z_L[start:end],
                geometry={**geometry(trm), "rows": len(call.rows), "batch_rows": len(inputs), "first_row": start},
                seconds=seconds * len(call.rows) / len(inputs),
            )
        )
        start = end
    return answers


def geometry(trm: RecursiveNetwork) -> dict[str, Any]:
    """Return what the bits of a TRM run depend on beside weights and inputs."""
    return {
        "device": str(trm.device),
        "device_name": torch.cuda.get_device_name(trm.device) if trm.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": trm.spec.precision,
        "canvas": trm.canvas,
    }


def _blank(call: TrmCall, number: int) -> TrmCall:
    """A call of as many blank rows."""
    rows = replace(
        call.rows,
        inputs=np.zeros((number, call.rows.inputs.shape[1]), dtype=np.uint8),
        puzzle_ids=np.zeros(number, dtype=np.int64),
    )
    return replace(call, rows=rows)


def _joined(calls: list[TrmCall]) -> Injection | None:
    """Repeat each call's injection over its rows."""
    first = calls[0].injection
    if first is None:
        return None
    if len(calls) == 1:
        return first  # one row, broadcast over all

    def join(name: str) -> torch.Tensor | None:
        if getattr(first, name) is None:
            return None
        parts = [getattr(call.injection, name).expand(len(call.rows), -1, -1) for call in calls]
        return torch.cat(parts)

    return Injection(z_H=join("z_H"), z_L=join("z_L"), term=join("term"))
