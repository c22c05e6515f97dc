"""Training on packed rows: exact resume, parts and ranks, budgets of tokens, validation, votes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_support import DATASET, PACKED
from test_ranks import together
from train_support import STAGE, StopAfter, dataset_artifact, stage_context, train_node

from gridloom.errors import StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.arc.dataset import load_dataset
from gridloom.runtime.data.arc.packing.packed_sampler import PackedSampler
from gridloom.runtime.data.tasks import Pair, Task, tasks_digest
from gridloom.runtime.training.material import Material, load_material
from gridloom.runtime.training.packed_loop import PackedTrainer
from gridloom.runtime.training.train import Train
from gridloom.specs.validation import Validation
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace


def train(root: Path, **changes: Any) -> dict[tuple[int, str], float]:
    context = stage_context(root, changes.pop("stop", None))
    node = train_node(STAGE.model_copy(update=changes), changes.pop("model", PACKED))
    Train().run(node, {"data": dataset_artifact(root, DATASET)}, context)
    context.ledger.close()
    rows = Ledger(Workspace(root / "home")).rows("select step, name, value from metrics where run_id = 'run'")
    return {(row["step"], row["name"]): row["value"] for row in rows if row["name"] != "steps_per_s"}


def trainer_of(root: Path, **changes: Any) -> tuple[PackedTrainer, Material]:
    material = load_material(dataset_artifact(root, DATASET), 0)
    network = material.network(PACKED, torch.Generator().manual_seed(0))
    return PackedTrainer(network, STAGE.model_copy(update=changes), seed=0), material


@pytest.mark.parametrize("changes", [{}, {"batch_tokens": 60}, {"initial_state": "random", "accumulate": 2}])
def test_interrupted_training_resumes_with_equal_bits(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = train(tmp_path / "a", **changes)
    with pytest.raises(StageInterrupted):
        train(tmp_path / "b", stop=StopAfter(5), **changes)
    assert train(tmp_path / "b", **changes) == whole
    a, b = (load_bundle(tmp_path / x / "out", weights="raw").network for x in "ab")
    assert a.packed
    assert all(torch.equal(t, b.state_dict()[name]) for name, t in a.state_dict().items())


@pytest.mark.parametrize("more", [{}, {"batch_tokens": 100}, {"initial_state": "random"}])
def test_parts_of_a_step_give_the_losses_of_the_whole(tmp_path: Path, more: dict[str, Any]) -> None:
    losses = []
    for parts in (1, 4):
        trainer, material = trainer_of(tmp_path / str(parts), accumulate=parts, **more)
        losses.append([])
        for _ in range(6):
            trainer.step(trainer.draw(material))
            losses[-1].append(trainer.means()["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_saved_state_goes_on_in_other_parts(tmp_path: Path) -> None:
    """Rows are saved one after the other, so that any number of parts or processes can take them."""
    first, material = trainer_of(tmp_path / "a")
    for _ in range(4):
        first.step(first.draw(material))
    second, _ = trainer_of(tmp_path / "b", accumulate=4)
    state = first.state()
    second.restore(replace(state, tensors={name: t.clone() for name, t in state.tensors.items()}))
    for trainer in (first, second):
        trainer.means()
    for _ in range(3):
        for trainer in (first, second):
            trainer.step(trainer.draw(material))
    assert first.means()["loss"] == pytest.approx(second.means()["loss"], rel=1e-4)
    assert first.next_row == second.next_row


def test_every_row_of_the_stream_is_trained_on_once_and_within_the_budget(tmp_path: Path) -> None:
    budget = 90
    trainer, material = trainer_of(tmp_path, batch_tokens=budget, batch_size=16)
    assert material.packed is not None
    entered = 0
    for _ in range(12):
        drawn = trainer.draw(material)
        wanted = material.packed.between(entered, entered + len(drawn.slots))
        assert np.array_equal(drawn.rows.inputs, wanted.inputs)
        assert np.array_equal(drawn.rows.puzzle_ids, wanted.puzzle_ids)
        entered += len(drawn.slots)
        trainer.step(drawn)
        assert trainer.next_row == entered
        held = sum(part.carry.layout.num_tokens for part in trainer.parts)
        assert held == trainer.slot_tokens.sum() <= budget
        waiting = material.packed.between(entered, entered + 1).shapes
        assert waiting is not None
        assert held + int(waiting.prod()) + 1 > budget or len(trainer.parts[0].slots) == 16
    assert entered > 12, "rows that halt make room for others"


def test_a_budget_below_the_largest_row_is_refused_with_its_number(tmp_path: Path) -> None:
    trainer, material = trainer_of(tmp_path, batch_tokens=30)
    with pytest.raises(StageError, match=r"batch_tokens is 30, and the largest row has 31 tokens"):
        trainer.draw(material)


def test_losses_are_those_of_canvases_where_every_row_fills_its_canvas(tmp_path: Path) -> None:
    """One task of 6x6 grids on a canvas of 7: its rows are whole canvases, so packing changes no bit of the loss."""
    rng = np.random.default_rng(1)
    grids = [rng.integers(0, 10, (6, 6)).astype(np.uint8) for _ in range(3)]
    task = Task("full", "training", tuple(Pair(grid, grid[::-1].copy()) for grid in grids), ())
    found = []
    for packed in (False, True):
        dataset = replace(DATASET, tasks=(task,), digest=tasks_digest((task,)), packed=packed)
        root = tmp_path / str(packed)
        context = stage_context(root)
        # with one ACT step every row is a new one in every step, on canvases too
        node = train_node(STAGE, PACKED.model_copy(update={"halt_max_steps": 1}))
        Train().run(node, {"data": dataset_artifact(root, dataset)}, context)
        context.ledger.close()
        rows = Ledger(Workspace(root / "home")).rows(
            "select step, value from metrics where name = 'loss' order by step"
        )
        found.append([row["value"] for row in rows])
    assert found[0] == found[1]


def test_validation_answers_packed_rows(tmp_path: Path) -> None:
    logged = train(tmp_path, validate_=Validation(every=6, share=0.5, views=2))
    assert (12, "validation_cell_accuracy") in logged


def test_an_update_that_is_not_finite_restarts_its_rows(tmp_path: Path) -> None:
    trainer, material = trainer_of(tmp_path)
    trainer.step(trainer.draw(material))
    part = trainer.parts[0]
    broken = part.carry.z_H.clone()
    broken[0, part.carry.layout.tokens_of(np.array([2]))] = torch.nan
    part.carry = replace(part.carry, z_H=broken, halted=torch.zeros_like(part.carry.halted))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.step(trainer.draw(material))
    assert all(torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())
    assert trainer.last_carry.finite_rows().tolist() == [row != 2 for row in range(8)]
    trainer.step(trainer.draw(material))
    assert trainer.last_carry.finite_rows().all()


def test_shapes_hold_both_grids_of_every_row_and_turn_with_the_view(tmp_path: Path) -> None:
    dataset = load_dataset(dataset_artifact(tmp_path, DATASET).path)
    assert dataset.packed
    batch = PackedSampler(dataset, 0).between(0, 64)
    assert batch.shapes is not None
    assert len({tuple(shape) for shape in batch.shapes.tolist()}) > 4
    for inputs, labels, (rows, columns) in zip(batch.inputs, batch.labels, batch.shapes, strict=True):
        for tokens in (inputs, labels):
            canvas = tokens.reshape(7, 7).copy()
            canvas[:rows, :columns] = 0
            assert not canvas.any()


def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    whole = train(tmp_path / "alone", batch_tokens=120)
    together(tmp_path / "both", 99, PACKED="120")
    rows = Ledger(Workspace(tmp_path / "both" / "home")).rows("select step, name, value from metrics")
    shared = {(row["step"], row["name"]): row["value"] for row in rows if row["name"] != "steps_per_s"}
    assert shared.keys() == whole.keys()
    assert [shared[step, "loss"] for step in range(1, 13)] == pytest.approx(
        [whole[step, "loss"] for step in range(1, 13)], rel=1e-3
    )
    assert (tmp_path / "both" / "out" / "bundle.json").exists()


def test_compile_is_named_as_without_effect(tmp_path: Path) -> None:
    trainer, material = trainer_of(tmp_path, compile="on")
    said: list[str] = []
    trainer.compile([49], said.append)
    assert said == ["compile: on has no effect on packed rows, whose lengths differ in every step"]
    trainer.step(trainer.draw(material))
