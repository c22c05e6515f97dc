"""Multi-token prediction: alignment, causality, shared heads, and its place in a network."""

from __future__ import annotations

import pytest
import torch
from engine_support import GRID, engine, rows_for, spec_of, training

from gridloom.runtime.models.engine.prediction import MultiTokenPrediction
from gridloom.runtime.models.engine.training_terms import accepted, scores, surprise
from gridloom.runtime.models.kind import RowShape, network_cost


def module() -> MultiTokenPrediction:
    return MultiTokenPrediction(spec_of(decoder={}, multi_token={}), torch.Generator().manual_seed(0))


def test_depth_j_at_position_i_is_compared_with_label_i_plus_j() -> None:
    labels = torch.arange(1, 11)[None]
    seen: list[tuple[int, list[int]]] = []

    def compare(states: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((states.shape[1], wanted[0].tolist()))
        return torch.ones(1), wanted > 0

    part = module()
    states = part(torch.randn(1, 10, 32), torch.randn(1, 10, 32), None, None)
    loss, right, scored = part.losses(states, labels, compare)
    assert [length for length, _ in seen] == [9, 8, 7]
    for j, (length, wanted) in enumerate(seen, 1):
        assert wanted == [i + 1 + j for i in range(length)]
    assert loss.item() == 0.5
    assert right == scored == 9


def test_a_token_ahead_reaches_no_row_before_it() -> None:
    part = module()
    state, embedded = torch.randn(2, 1, 9, 32, generator=torch.Generator().manual_seed(1))
    before = part(state, embedded, None, None)
    i = 3
    for j in (1, 2, 3):
        changed = embedded.clone()
        changed[:, i + j] += 1.0  # y_(i+j): depth j + 1 reads it at row i, depth j does not
        after = part(state, changed, None, None)
        assert torch.allclose(after[j - 1][:, : i + 1], before[j - 1][:, : i + 1], atol=1e-6)
        assert not torch.allclose(after[j - 1][:, i + 1], before[j - 1][:, i + 1], atol=1e-4)
        moved = state.clone()
        moved[:, i + 1] += 1.0
        after = part(moved, embedded, None, None)
        assert torch.allclose(after[j - 1][:, : i + 1], before[j - 1][:, : i + 1], atol=1e-6)


def test_rows_shorter_than_the_depths_are_predicted_as_far_as_they_go() -> None:
    assert [s.shape[1] for s in module()(torch.randn(1, 3, 32), torch.randn(1, 3, 32), None, None)] == [2, 1]
    network = engine(RowShape(1, 1, 8), decoder={}, multi_token={})
    next(training(network, rows_for(network), 1))


def test_labels_that_are_not_scored_have_no_loss() -> None:
    logits = torch.randn(2, 5, 8)
    labels = torch.tensor([[1, 2, 3, 0, 0], [0, 0, 0, 0, 0]])
    assert surprise(logits, labels)[1] == 0
    graded = scores(logits, labels)
    assert graded.scored.tolist() == [True, False]
    assert not graded.exact[1]
    assert graded.accuracy[1] == 0


def test_the_part_adds_its_loss_in_training_and_changes_no_answer() -> None:
    network = engine(decoder={}, multi_token={})
    plain = engine(decoder={})
    rows = rows_for(network)
    _, output, losses = next(training(network, rows, 1))
    assert set(losses.terms) == {"multi_token"}
    assert losses.terms["multi_token"] > 0
    assert 0 <= output.measures["draft_accuracy"] <= 1
    name = "L_level.layers.0.mlp.down_proj.weight"
    next(training(plain, rows, 1))
    ours, theirs = (dict(net.named_parameters())[name].grad for net in (network, plain))
    assert ours is not None
    assert theirs is not None
    assert not torch.allclose(ours, theirs)
    assert torch.equal(network.eval().answer(rows).tokens, plain.eval().answer(rows).tokens)


def test_tokens_ahead_are_learnt() -> None:
    """The answer counts up from a number in the question, so that every token ahead follows from the one before."""
    network = engine(RowShape(0, 6, 16), decoder={}, multi_token={}, halt_max_steps=1)
    generator = torch.Generator().manual_seed(0)
    rows = rows_for(network, 16)
    assert rows.labels is not None
    first = torch.randint(1, 10, (16, 1), generator=generator)
    rows.labels[:] = (first + torch.arange(6)).to(torch.uint8)
    drafts = [o.measures["draft_accuracy"].item() for _, o, _ in training(network, rows, 40, lr=6e-3)]
    assert drafts[0] < 0.5
    assert drafts[-1] > 0.95


def test_without_the_tokens_between_a_module_reads_the_state_alone() -> None:
    part = MultiTokenPrediction(spec_of(decoder={}, multi_token={"between": False}), torch.Generator().manual_seed(0))
    state, embedded = torch.randn(2, 1, 9, 32, generator=torch.Generator().manual_seed(1))
    before = part(state, embedded, None, None)
    assert all(torch.equal(a, b) for a, b in zip(before, part(state, embedded + 1, None, None), strict=True))
    moved = state.clone()
    moved[:, 3] += 1.0
    for one, other in zip(before, part(moved, embedded, None, None), strict=True):
        assert torch.allclose(one[:, :3], other[:, :3], atol=1e-6)
        assert not torch.allclose(one[:, 3], other[:, 3], atol=1e-4)
    fields = {"decoder": {}, "multi_token": {"between": False}}
    network = engine(**fields)
    assert network_cost(network.spec, GRID).parameters == sum(p.numel() for p in network.parameters())


def test_a_draft_is_accepted_where_the_network_names_the_same_token_one_place_later() -> None:
    own, drafts = torch.zeros(1, 4, 6), torch.zeros(1, 3, 6)
    for place, token in enumerate((1, 2, 3, 4)):
        own[0, place, token] = 1.0
    for place, token in enumerate((2, 5, 4)):
        drafts[0, place, token] = 1.0
    assert accepted(drafts, own, torch.tensor([[1, 1, 1, 1]])).item() == pytest.approx(2 / 3)
    assert accepted(drafts, own, torch.tensor([[1, 1, 1, 0]])).item() == 0.5
    assert accepted(drafts, own, torch.tensor([[1, 0, 0, 0]])).item() == 0.0
