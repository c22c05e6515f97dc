"""Updates whose gradient is not finite: skipped, recorded at their step, counted over a resume, and ended after ten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_train import metrics, train
from torch import Tensor
from train_support import MODEL, STAGE, StopAfter, dataset_artifact, stage_context, train_node

from gridloom.errors import StageError, StageInterrupted
from gridloom.runtime.training.health import SkippedUpdates, gradient_norms, restarted
from gridloom.runtime.training.loop import ActTrainer
from gridloom.runtime.training.material import load_material
from gridloom.runtime.training.state import load_latest
from gridloom.runtime.training.train import Train
from gridloom.specs.stages import AdamAtan2, AdamW, Muon

NAN, INF = float("nan"), float("inf")
NAME = "L_level.layers.0.mlp.down_proj.weight"


def poison(monkeypatch: pytest.MonkeyPatch, values: dict[int, float], name: str = NAME) -> None:
    """Put values into the gradient of a parameter, by step."""
    real = ActTrainer._part

    def poisoned(self: ActTrainer, *args: Any) -> Any:
        found = real(self, *args)
        if self.num_steps in values:
            gradient = dict(self.model.named_parameters())[name].grad
            assert gradient is not None
            gradient.view(-1)[0] = values[self.num_steps]
        return found

    monkeypatch.setattr(ActTrainer, "_part", poisoned)


def trainer(root: Path, optimizer: Any = None, masked: bool = False) -> tuple[ActTrainer, Callable[[int], Any]]:
    torch.manual_seed(0)
    material = load_material(dataset_artifact(root), 0)
    stage = STAGE.model_copy(update={"optimizer": optimizer or AdamAtan2(lr=1e-3), "warmup_steps": 0})
    made = ActTrainer(material.network(MODEL, torch.Generator().manual_seed(0)), stage, seed=0)
    made.masked = masked
    return made, lambda step: material.batch(step, 8)


def everything(of: ActTrainer) -> dict[str, Tensor]:
    kept = ("model.", "ema.", "optimizer.")
    return {name: t.clone() for name, t in of.state().tensors.items() if name.startswith(kept)}


@pytest.mark.parametrize("masked", [False, True], ids=["host", "mask"])
@pytest.mark.parametrize("optimizer", [AdamAtan2(lr=1e-3), AdamW(lr=1e-3), Muon(lr=1e-3)], ids=lambda o: str(o.kind))
def test_a_skipped_update_changes_nothing_but_the_carry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: Any, masked: bool
) -> None:
    poison(monkeypatch, {1: NAN, 3: INF})
    training, batch = trainer(tmp_path, optimizer, masked)
    start = everything(training)
    training.step(batch(0))
    assert {name: t for name, t in everything(training).items() if name in start}.keys() == start.keys()
    assert all(torch.equal(t, everything(training)[name]) for name, t in start.items())
    training.step(batch(1))
    before, carry = everything(training), training.last_carry
    assert any(not torch.equal(before[name], start[name]) for name in start)
    training.step(batch(2))
    after = everything(training)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not torch.equal(training.last_carry.z_H, carry.z_H)
    assert training.num_steps == 3
    in_a_row, skips = training.skipped.read()
    assert in_a_row == 1
    assert [(s.step, s.number, s.num_nan, s.num_inf, s.first) for s in skips] == [
        (1, 1, 1, 0, NAME),
        (3, 2, 0, 1, NAME),
    ]
    assert training.skipped.read() == (1, [])


def test_a_mask_makes_the_updates_that_the_host_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {2: NAN, 4: NAN, 5: NAN})
    states = []
    for masked in (False, True):
        training, batch = trainer(tmp_path, masked=masked)
        for step in range(7):
            training.step(batch(step))
        states.append((training.state().tensors, training.skipped.read()))
    assert states[0][1] == states[1][1]
    assert states[0][0].keys() == states[1][0].keys()
    assert all(torch.equal(t, states[1][0][name]) for name, t in states[0][0].items())


def test_puzzle_rows_that_are_not_finite_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ActTrainer._part

    def poisoned(self: ActTrainer, *args: Any) -> Any:
        carry, rows = real(self, *args)
        return carry, torch.full_like(rows, INF)

    monkeypatch.setattr(ActTrainer, "_part", poisoned)
    training, batch = trainer(tmp_path)
    table = training.model.puzzle_emb.task_weights.clone()  # type: ignore[union-attr, operator]
    training.step(batch(0))
    assert torch.equal(training.model.puzzle_emb.task_weights, table)  # type: ignore[union-attr, arg-type]
    ((skip,),) = [training.skipped.read()[1]]
    assert (skip.first, skip.num_nan, skip.num_inf) == ("puzzle_emb", 0, 0)


def test_the_step_of_a_skip_is_in_the_ledger_with_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {3: NAN, 7: INF})
    context = stage_context(tmp_path)
    stage = STAGE.model_copy(update={"log_every": 6})
    Train().run(train_node(stage), {"data": dataset_artifact(tmp_path)}, context)
    context.ledger.close()
    logged = metrics(tmp_path)
    found = {key: value for key, value in logged.items() if key[1] in ("skipped_updates", "grad_nan_params")}
    assert found == {
        (3, "skipped_updates"): 1.0,
        (3, "grad_nan_params"): 1.0,
        (7, "skipped_updates"): 2.0,
        (7, "grad_nan_params"): 0.0,
    }
    assert logged[7, "grad_inf_params"] == 1.0
    assert all(value == value for value in logged.values()), "a mean over the step that was skipped"
    lines = context.progress.lines  # type: ignore[attr-defined]
    assert f"pretrain: step 3 changes no weight: the gradient of {NAME} is not finite (1 with NaN, 0 infinite)" in lines
    assert context.notes["skipped_updates"] == 2


def test_ten_skips_in_a_row_end_the_training_across_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, dict.fromkeys((1, *range(3, 30)), NAN))
    with pytest.raises(StageInterrupted):
        train(tmp_path, steps=40, stop=StopAfter(5))
    with pytest.raises(StageError) as caught:
        train(tmp_path, steps=40)
    message = str(caught.value)
    assert (
        f"stopped at step 12 of 40: the last 10 updates were skipped, at step 12 because the gradient of {NAME}"
        in message
    )
    assert "last good checkpoint: step 8, kept" in message
    assert "set clip_norm: 1.0" in message
    assert metrics(tmp_path)[12, "skipped_updates"] == 11


def test_nine_skips_in_a_row_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, dict.fromkeys((*range(1, 10), *range(11, 20)), NAN))
    assert train(tmp_path, steps=21)[19, "skipped_updates"] == 18


def test_a_training_with_skips_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {4: NAN, 5: NAN, 9: INF})
    whole = train(tmp_path / "a")
    with pytest.raises(StageInterrupted):
        train(tmp_path / "b", stop=StopAfter(4))
    state = load_latest(tmp_path / "b" / "work", key="gl1:train", say=print)
    assert state is not None
    assert (state.step, state.tensors["skipped"].tolist()) == (5, [2, 2])
    assert train(tmp_path / "b") == whole


def test_a_state_of_before_has_skipped_nothing(tmp_path: Path) -> None:
    training, batch = trainer(tmp_path)
    training.step(batch(0))
    state = training.state()
    del state.tensors["skipped"]
    training.restore(state)
    assert training.skipped.read() == (0, [])


def test_rows_whose_state_is_not_finite_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for masked in (False, True):
        training, batch = trainer(tmp_path, masked=masked)
        training.step(batch(0))
        training.last_carry.z_H[2] = NAN
        training.last_carry.halted[:] = False
        training.step(batch(1))
        assert bool(training.last_carry.halted[2])
        training.step(batch(2))
        assert torch.isfinite(training.last_carry.z_H).all()
        assert [skip.step for skip in training.skipped.read()[1]] == [2]


def test_a_loss_that_is_not_finite_skips_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ActTrainer._part

    def poisoned(self: ActTrainer, *args: Any) -> Any:
        found = real(self, *args)
        args[4][0] = NAN
        return found

    monkeypatch.setattr(ActTrainer, "_part", poisoned)
    training, batch = trainer(tmp_path)
    training.step(batch(0))
    ((skip,),) = [training.skipped.read()[1]]
    assert skip.cause == "the loss, or the norm of the whole gradient, is not finite"
    assert training.means() == {}


def test_more_skips_than_are_kept_on_record_are_counted() -> None:
    skipped = SkippedUpdates(("w",), torch.device("cpu"))
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([NAN, 0.0])
    for step in range(1, 101):
        skipped.count(step, torch.tensor(False), gradient_norms([weight]), torch.tensor(True))
    in_a_row, skips = skipped.read()
    assert (in_a_row, len(skips), skips[0].step, skips[-1].step, skips[-1].number) == (100, 64, 37, 100, 100)


def test_norms_without_a_gradient_are_zero() -> None:
    norms = gradient_norms([torch.nn.Parameter(torch.ones(2))])
    assert (float(norms.total), norms.places) == (0.0, ())


def test_a_carry_without_a_state_stays() -> None:
    halted = torch.tensor([True, False])
    Carry = type("Carry", (SimpleNamespace,), {"__dataclass_fields__": {"halted": None}})
    assert restarted(Carry(halted=halted)) is halted
