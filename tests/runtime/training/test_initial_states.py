"""Training from random initial states: exact resume, parts of a batch, another training than from fixed states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from puzzle_support import SUDOKUS, train_on_puzzles
from train_support import MODEL, STAGE, StopAfter

from gridloom.errors import StageInterrupted
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.training.loop import ActTrainer

RANDOM: dict[str, Any] = {"initial_state": "random"}


def test_interrupted_training_from_random_states_resumes_with_equal_bits(tmp_path: Path) -> None:
    whole = train_on_puzzles(tmp_path / "a", SUDOKUS, **RANDOM)
    with pytest.raises(StageInterrupted):
        train_on_puzzles(tmp_path / "b", SUDOKUS, stop=StopAfter(5), **RANDOM)
    assert train_on_puzzles(tmp_path / "b", SUDOKUS, **RANDOM) == whole
    a, b = (load_bundle(tmp_path / x / "out", weights="raw").network.state_dict() for x in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)
    fixed = train_on_puzzles(tmp_path / "c", SUDOKUS)
    assert fixed[12, "loss"] != whole[12, "loss"]


def test_parts_of_a_batch_start_from_the_states_of_the_whole(tmp_path: Path) -> None:
    whole, parts = (
        train_on_puzzles(tmp_path / str(number), SUDOKUS, accumulate=number, steps=5, **RANDOM) for number in (1, 4)
    )
    assert [whole[step, "loss"] for step in range(1, 6)] == pytest.approx(
        [parts[step, "loss"] for step in range(1, 6)], rel=1e-4
    )


def test_states_are_drawn_anew_in_each_step() -> None:
    model = build_network(MODEL, 4, 1, vocabulary=6)
    trainer = ActTrainer(model, STAGE.model_copy(update=RANDOM), seed=0)
    first, second = trainer._initial_states(16), trainer._initial_states(16)
    assert first is not None
    assert second is not None
    assert first[0].shape == (STAGE.batch_size, 17, MODEL.hidden_size)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0], first[1])
    assert ActTrainer(model, STAGE, seed=0)._initial_states(16) is None
