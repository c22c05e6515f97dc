"""Rows followed over steps: equal to answers step by step, halting margins, confidence, noise by row and restart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.follow import follow_steps, residual_of
from gridloom.runtime.models.kind import MODELS, RowShape
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.spec import (
    HrmModel,
    TransformerModel,
    TrmHier6Model,
    TrmModel,
    TrmSingleZModel,
)
from gridloom.runtime.models.state_noise import StateNoise
from gridloom.runtime.models.steps import Halting, Rows

KINDS = [TrmModel, TrmSingleZModel, TrmHier6Model, HrmModel, TransformerModel]
SMALL = {"hidden_size": 16, "num_heads": 2, "layers": 1, "expansion": 1.0, "halt_max_steps": 3, "precision": "fp32"}


def network(kind: Any = TrmModel) -> Network:
    spec = kind(**SMALL, puzzle_embedding_len=1)
    found: Network = (
        MODELS.get(spec.kind)
        .builder()
        .for_rows(spec, RowShape(4, 16, 6), PuzzleIds.of(()), generator=torch.Generator().manual_seed(1))
    )
    with torch.no_grad():  # a fresh halting head is constant
        found.q_head.weight.normal_(generator=torch.Generator().manual_seed(2))  # type: ignore[union-attr]
        found.q_head.bias.zero_()  # type: ignore[union-attr]
    return found.eval()


def rows(number: int = 6) -> Rows:
    tokens = torch.randint(1, 6, (2, number, 16), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    return Rows(tokens[0], torch.zeros(number, dtype=torch.int64), tokens[1])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_step_is_the_answer_with_as_many_steps(kind: Any) -> None:
    net, given = network(kind), rows()
    found = net.follow(given, 5)
    for step in range(1, 6):
        answers = net.answer(given, step)
        assert torch.equal(found.tokens[step - 1], answers.tokens)
        assert torch.equal(found.q_halt[step - 1], answers.q_halt)
        assert answers.loss is not None
        assert found.loss is not None
        torch.testing.assert_close(found.loss[step - 1], answers.loss)
    halted = net.answer(given, 5, Halting("score"))
    wants = found.margin[:4] > 0
    first = torch.where(wants.any(dim=0), wants.int().argmax(dim=0) + 1, 5)
    assert torch.equal(first.int(), halted.steps)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_steps_of_the_interface_give_the_same_beyond_the_limit(kind: Any) -> None:
    net, given = network(kind), rows()
    found, plain = net.follow(given, 5), follow_steps(net, given, 5)
    assert torch.equal(found.tokens, plain.tokens)
    torch.testing.assert_close(found.margin, plain.margin)
    torch.testing.assert_close(found.confidence_all, plain.confidence_all)
    assert found.residual is not None
    assert plain.residual is not None
    assert bool(plain.residual[0].isnan().all()), "the states before the first step are not seen"
    torch.testing.assert_close(found.residual[1:], plain.residual[1:])


def packed(kind: Any) -> Network:
    """A network that reads packed rows of canvases of side 4."""
    spec = kind(**SMALL, puzzle_embedding_len=1, positions="rope_2d")
    net = build_network(spec, 4, 2, generator=torch.Generator().manual_seed(1)).eval()
    with torch.no_grad():
        net.puzzle_emb.weights.normal_(generator=torch.Generator().manual_seed(4))
        net.q_head.weight.normal_(generator=torch.Generator().manual_seed(2))
        net.q_head.bias.zero_()  # type: ignore[union-attr]
    net.take_packed()
    return net


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_packed_rows_are_followed_as_they_are_answered(kind: Any) -> None:
    net, given = packed(kind), rows(5)
    shapes = torch.tensor([[4, 4], [2, 3], [1, 1], [3, 4], [2, 3]])
    ids = torch.tensor([0, 1, 0, 1, 1])
    for with_labels in (True, False):
        one = Rows(given.inputs, ids, given.labels if with_labels else None, shapes=shapes)
        found = net.follow(one, 4)
        for step in range(1, 5):
            answers = net.answer(one, step)
            assert torch.equal(found.tokens[step - 1], answers.tokens)
            assert torch.equal(found.q_halt[step - 1], answers.q_halt)
        alone = net.follow(one.part(torch.tensor([1])), 4)
        torch.testing.assert_close(found.confidence[:, 1:2], alone.confidence)
        torch.testing.assert_close(found.residual[:, 1:2], alone.residual)  # type: ignore[index]
        assert bool((found.tokens[:, 2, 1:] == 0).all()), "cells outside a rectangle have no token"


def test_packed_rows_of_the_whole_canvas_are_followed_like_canvases() -> None:
    net, given = packed(TrmModel), rows(3)
    full = net.follow(Rows(given.inputs, given.puzzle_ids, shapes=torch.full((3, 2), 4)), 3)
    net.packed = False
    plain = net.follow(Rows(given.inputs, given.puzzle_ids), 3)
    assert torch.equal(full.tokens, plain.tokens)
    for name in ("q_halt", "margin", "confidence", "confidence_all", "residual"):
        torch.testing.assert_close(getattr(full, name), getattr(plain, name))


def test_packed_rows_take_no_noise() -> None:
    given = rows(1)
    with pytest.raises(ModelError, match="without noise"):
        packed(TrmModel).follow(
            Rows(given.inputs, given.puzzle_ids, shapes=torch.full((1, 2), 4)),
            2,
            StateNoise(1.0, 0, 1, np.zeros(1, np.int64)),
        )


def test_confidence_is_of_the_scored_positions() -> None:
    net, given = network(), rows()
    assert given.labels is not None
    given.labels[:, 1:] = 0
    found = net.follow(given, 1)
    torch.testing.assert_close(found.confidence, found.confidence_all)
    given.labels[2] = 0
    unknown, plain = net.follow(given, 1), net.follow(Rows(given.inputs, given.puzzle_ids), 1)
    torch.testing.assert_close(unknown.confidence_all[:, 2], plain.confidence_all[:, 2])
    assert bool((found.confidence > 1 / 6).all())
    assert bool((found.confidence < 1).all())


def test_residual_is_a_root_mean_square() -> None:
    before, after = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    after[1] = 2.0
    found = residual_of([before, before], [after, before])
    assert found is not None
    torch.testing.assert_close(found, torch.tensor([0.0, 2.0**0.5]))
    assert residual_of([], []) is None


def noise(first: int = 0, number: int = 6, **changes: Any) -> StateNoise:
    values: dict[str, Any] = {"sigma": 0.5, "seed": 7, "restart": 1, "every_step": True}
    return StateNoise(**(values | changes), numbers=np.arange(first, first + number, dtype=np.int64))


def test_noise_belongs_to_row_restart_and_step() -> None:
    zeros = torch.zeros(6, 9, 16), torch.zeros(6, 0, 16)
    drawn, empty = noise().added(*zeros, 0, 0)
    assert empty.shape == (6, 0, 16)
    assert float(drawn.std()) == pytest.approx(0.5, rel=0.1)
    part, _ = noise(first=2, number=4).added(zeros[0][:2], zeros[1][:2], 1, 0)
    assert torch.equal(part, drawn[3:5]), "rows 3 and 4, whatever batch or tile they are in"
    others = [noise(seed=8), noise(restart=2)]
    assert not any(torch.equal(other.added(*zeros, 0, 0)[0], drawn) for other in others)
    assert not torch.equal(noise().added(*zeros, 0, 1)[0], drawn)
    assert torch.equal(noise(every_step=False).added(*zeros, 0, 1)[0], zeros[0])
    assert torch.equal(noise(every_step=False).added(*zeros, 0, 0)[0], drawn)


def test_noise_changes_answers_and_its_absence_does_not() -> None:
    net, given = network(), rows()
    plain = net.follow(given, 3)
    assert not torch.equal(net.follow(given, 3, noise(sigma=2.0)).q_halt, plain.q_halt)
    assert torch.equal(net.follow(given, 3, noise(sigma=0.0)).tokens, plain.tokens)


def test_rows_start_from_given_states_unless_they_run_already() -> None:
    net, given = network(), rows()
    start = net.random_states(6, 16, torch.Generator().manual_seed(0))
    assert [tuple(state.shape) for state in start] == [(6, 17, 16)] * 2
    assert float(start[0].std()) == pytest.approx(1, rel=0.05)
    started = Rows(given.inputs, given.puzzle_ids, given.labels, None, start)
    carry, first = net.step(started, net.initial_carry(6))
    assert not torch.equal(first.q_halt, net.step(given, net.initial_carry(6))[1].q_halt)
    torch.testing.assert_close(net.follow(started, 1).q_halt[0], first.q_halt.detach())
    again, other = (net.step(one, carry)[1].q_halt for one in (started, given))
    assert torch.equal(again, other), "running rows keep their states"


def test_a_network_without_states_has_neither_noise_nor_initial_states() -> None:
    spec = ActRnnModel(hidden_size=8, halt_max_steps=2)
    rnn = MODELS.get("act_rnn").builder().for_rows(spec, RowShape(0, 1, 3, 4), PuzzleIds.of(()))
    given = Rows(torch.zeros(2, 1, 4), torch.zeros(2, dtype=torch.int64))
    for call in (lambda: rnn.random_states(2, 1), lambda: rnn.follow(given, 2, noise())):
        with pytest.raises(ModelError, match="act_rnn has no states"):
            call()
