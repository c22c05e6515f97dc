"""Traced runs that may halt: the answers of `answer`, the bits of `trace` where no row halts, and true steps."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from rounding import spread
from test_inference import ROWS, batch, network

from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.recursive.halting import trace_halting
from gridloom.runtime.models.recursive.inference import answer, trace
from gridloom.runtime.models.steps import Halting


def same(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a[:, :1] == b[:, :1]).all(dim=1)


@pytest.mark.parametrize("patience", [1, 2])
@pytest.mark.parametrize("when", ["score", "unchanged"])
@pytest.mark.parametrize("name", ["trm", "singlez"])
def test_rows_answer_and_stop_as_in_an_evaluation(name: str, when: Any, patience: int) -> None:
    model, halting = network(name, seed=3), Halting(when, patience)
    wanted = answer(model, *batch(), steps=8, halting=halting, same=same)
    found = trace_halting(model, *batch(), halting, steps=8, same=same)
    assert torch.equal(found.tokens, wanted.tokens)
    assert found.steps.tolist() == wanted.steps.tolist()
    last = found.q_halt[found.steps.long() - 1, torch.arange(ROWS)]
    assert torch.equal(last, wanted.q_halt)


def test_where_no_row_halts_every_bit_is_that_of_the_plain_trace() -> None:
    model = network("trm", seed=3)
    term = torch.randn(1, 1, 24, generator=torch.Generator().manual_seed(0))
    plain = trace(model, *batch(), Injection(term=term), steps=5)
    found = trace_halting(model, *batch(), Halting("unchanged", 99), Injection(term=term), steps=5)
    assert found.steps.tolist() == [5] * ROWS
    for ours, theirs in (
        (found.tokens, plain.tokens),
        (found.q_halt, plain.q_halt),
        (found.changed, plain.changed),
        (found.z_H, plain.carry.z_H),
        (found.z_L, plain.carry.z_L),
    ):
        assert torch.equal(ours, theirs)


def test_a_row_says_of_its_steps_what_it_says_alone_and_nothing_behind_its_last() -> None:
    model, halting = network("trm", seed=3), Halting("unchanged", 1)
    found = trace_halting(model, *batch(), halting, steps=8, same=same)
    made = found.steps.tolist()
    assert 1 < min(made) < max(made), "some rows stop before others"
    assert len(found.q_halt) == len(found.changed) == max(made)
    inputs, ids = batch()

    def after(steps: int) -> dict[str, torch.Tensor]:
        traced = trace(model, inputs, ids, steps=steps)
        return {"q_halt": traced.q_halt[-1], "z_H": traced.carry.z_H, "z_L": traced.carry.z_L}

    # a row by itself is rounded otherwise than in a batch, and each step amplifies what the step before erred by
    bounds = [spread(model, partial(after, steps), model.spec.hidden_size) for steps in range(1, max(made) + 1)]
    for row, steps in enumerate(made):
        alone = trace(model, inputs[row : row + 1], ids[row : row + 1], steps=steps)
        assert torch.equal(found.changed[:steps, row], alone.changed[:, 0])
        assert not found.changed[steps:, row].any()
        assert not found.q_halt[steps:, row].any()
        last = bounds[steps - 1]
        for step, bound in enumerate(bounds[:steps]):
            assert abs(found.q_halt[step, row] - alone.q_halt[step, 0]) < bound["q_halt"]
        torch.testing.assert_close(found.z_H[row], alone.carry.z_H[0], atol=last["z_H"], rtol=0)
        torch.testing.assert_close(found.z_L[row], alone.carry.z_L[0], atol=last["z_L"], rtol=0)
