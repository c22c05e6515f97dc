"""Playback: the answer of an attempt after each of its ACT steps, by running its network again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gridloom.errors import ReplayError
from gridloom.runtime.data.arc.tokens import crop_batch
from gridloom.runtime.data.files.grids import rows as grid_rows
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.steps import Rows
from gridloom.solvers.parts.proposer import TrmAnswer, TrmCall, TrmProposer
from gridloom.solvers.parts.runners import run_rows
from gridloom.solvers.parts.search_proposer import WithSearch
from gridloom.solvers.replay.record import recorded_reasoning, recorded_task, recorded_threads, replay_device
from gridloom.solvers.replay.replay import Replayer
from gridloom.solvers.types import Plan

GridRows = list[list[int]]


@dataclass(frozen=True, slots=True)
class PlayedTest:
    """Answer to one test input, step by step, under the view whose answer is the attempt's proposal."""

    test_index: int
    view: str
    """Name of the view; the identity where no view gave the proposal."""
    grids: tuple[GridRows, ...]
    """Grid after each ACT step with the view inverted; empty where the tokens hold no grid."""
    q_halt: tuple[float, ...]
    """Halting logit after each step."""
    changed: tuple[int, ...]
    """Token positions that changed in each step."""
    is_proposed: bool
    """Whether the last grid is the recorded proposal."""


@dataclass(frozen=True, slots=True)
class Playback:
    """Steps of an attempt's network."""

    tests: tuple[PlayedTest, ...]
    notes: tuple[str, ...]
    """Differences of this machine from that of the record, which may change bits."""


class StepRunner:
    """Runner of one attempt's call that also runs one row of each test input for 1, 2, ... ACT steps.

    Args:
        grids: recorded proposal of each test input, empty where there is none.
    """

    def __init__(self, network: Network, grids: list[GridRows]) -> None:
        self.network, self.grids = network, grids
        self.tests: tuple[PlayedTest, ...] = ()

    async def submit(self, call: TrmCall) -> TrmAnswer:
        """Run the call in a batch of its own, then its chosen rows step by step."""
        (answer,) = run_rows(self.network, [call])
        self.tests = tuple(self._played(call, answer, test) for test in range(call.rows.num_tests))
        return answer

    def _played(self, call: TrmCall, answer: TrmAnswer, test: int) -> PlayedTest:
        rows, results = call.rows, answer.results
        first, wanted = rows.first_row(test), self.grids[test] if test < len(self.grids) else []
        crops = crop_batch(results.tokens[first : first + len(rows.views)], rows.canvas)
        found = [
            [] if crop is None else grid_rows(view.inverse(crop)) for view, crop in zip(rows.views, crops, strict=True)
        ]
        chosen = found.index(wanted) if wanted and wanted in found else 0
        row, view = first + chosen, rows.views[chosen]
        made = len(results.q_halt) if results.made is None else int(results.made[row])
        device = self.network.device
        inputs = torch.from_numpy(rows.inputs[row : row + 1]).to(device)
        ids = torch.from_numpy(rows.puzzle_ids[row : row + 1]).to(device)
        shapes = None if rows.shapes is None else torch.from_numpy(rows.shapes[row : row + 1])
        grids, before = [], None
        changed = []
        q_halt: np.ndarray[Any, Any] = np.zeros(0)
        for steps in range(1, made + 1):
            trace = self.network.trace(Rows(inputs, ids, shapes=shapes), call.injection, steps)
            tokens = trace.tokens.cpu().numpy()
            q_halt = trace.q_halt[:, 0].float().cpu().numpy()
            (crop,) = crop_batch(tokens, rows.canvas)
            grids.append([] if crop is None else grid_rows(view.inverse(crop)))
            changed.append(int(tokens.size if before is None else (tokens != before).sum()))
            before = tokens
        return PlayedTest(
            test_index=test,
            view=view.name("").lstrip("|") or "identity",
            grids=tuple(grids),
            q_halt=tuple(map(float, q_halt)),
            changed=tuple(changed),
            is_proposed=bool(wanted) and grids[-1] == wanted,
        )


def play(replayer: Replayer, attempt_id: str) -> Playback:
    """Run the network of a recorded attempt again, from the recorded latent, and return its answers step by step.

    A row is run alone where the attempt ran it in a batch, so the last bits of its halting logits may differ.

    Raises:
        ReplayError: unknown or ambiguous attempt; no network ran in it; the record or the checkpoint is missing.
    """
    recorded = replayer.recorded_attempt(attempt_id)
    row = recorded.row
    if "batch_rows" not in row.geometry:
        raise ReplayError(
            f"no network with ACT steps ran in attempt {attempt_id}", "a search or a language model has no ACT steps"
        )
    stage, node, run = replayer.stage_of(row.run_id, row.stage)
    device, notes = replay_device(row.geometry)
    services = replayer.load(row, stage, node, run, device, False)
    whole = services.proposer
    proposer = whole.inner if isinstance(whole, WithSearch) else whole
    if not isinstance(proposer, TrmProposer):
        raise ReplayError(f"the proposer of attempt {attempt_id} has no network", "it has no ACT steps to play")
    runner = StepRunner(proposer.bundle.network, row.grids)
    reasoning = recorded_reasoning(row)
    task, plan = recorded_task(recorded.task), Plan.model_validate(row.plan)
    with recorded_threads(row.geometry, notes):
        asyncio.run(proposer.through(runner).propose(task, plan, reasoning.latent if reasoning else None))
    return Playback(runner.tests, tuple(notes))
