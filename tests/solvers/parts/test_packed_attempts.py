"""Attempts of a network with packed rows: rows have the shapes of the task, and a replay gives the same bits."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch
from packed_support import DATASET, PACKED

from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.steps import EVERY_STEP, Halting
from gridloom.solvers.parts.batch import make_rows, vote
from gridloom.solvers.parts.proposer import TrmCall
from gridloom.solvers.parts.runners import PlacedCall, run_placed, run_rows
from gridloom.solvers.replay.playback import StepRunner
from gridloom.solvers.types import Plan


def calls(halting: Halting = EVERY_STEP) -> list[TrmCall]:
    found = []
    for task in DATASET.tasks[:3]:
        asked = replace(task, known=(), tests=tuple(pair.input for pair in task.known))
        plan = Plan(attempt=1, views=("t1|||0123456789", "t4|||0213456789"), seed=0)
        rows = make_rows(asked, plan, DATASET.canvas, {}, packed=True)
        found.append(TrmCall(rows, None, 2, halting))
    return found


def test_rows_have_the_shapes_of_the_task_under_each_view() -> None:
    shapes = [call.rows.shapes for call in calls()]
    assert all(shape is not None for shape in shapes)
    assert [shape.tolist() for shape in shapes if shape is not None] == [
        [[2, 3], [3, 2], [2, 3]],
        [[4, 4], [4, 4], [4, 4]],
        [[6, 5], [5, 6], [6, 5]],
    ]


def test_an_attempt_replays_bit_for_bit_whatever_it_shared_a_batch_with() -> None:
    network = build_network(PACKED, DATASET.canvas, 1, generator=torch.Generator().manual_seed(0)).eval()
    network.take_packed()
    for halting in (EVERY_STEP, Halting("unchanged")):
        asked = calls(halting)
        recorded = run_rows(network, asked)
        for call, first in zip(asked, recorded, strict=True):
            geometry = first.geometry
            again = run_placed(network, [PlacedCall(call, geometry["batch_rows"], geometry["first_row"])])[0]
            assert np.array_equal(again.results.tokens, first.results.tokens)
            assert again.results.digest(b"") == first.results.digest(b"")
            assert len(vote(call.rows, first.results)) == call.rows.num_tests


def test_an_attempt_is_played_on_the_rows_that_it_had() -> None:
    network = build_network(PACKED, DATASET.canvas, 1, generator=torch.Generator().manual_seed(0)).eval()
    network.take_packed()
    torch.nn.init.normal_(network.q_head.weight, generator=torch.Generator().manual_seed(1))  # 0 in a new network
    call = calls()[0]
    runner = StepRunner(network, [[]])
    recorded = asyncio.run(runner.submit(call)).results.q_halt[:, 0]
    assert runner.tests[0].q_halt == pytest.approx(recorded.tolist(), abs=1e-5)
