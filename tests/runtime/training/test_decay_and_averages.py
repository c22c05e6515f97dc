"""Which weights decay, and averages whose decay grows with the steps; both resume bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import train
from torch import Tensor, nn
from train_support import MODEL, STAGE, StopAfter

from gridloom.errors import StageInterrupted
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.act_rnn.network import ActRnn
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.recursive.trm import TRM
from gridloom.runtime.training.optim import Ema, build_optimizer, lr_factor, spared_by_decay
from gridloom.runtime.training.state import optimizer_tensors, restore_optimizer
from gridloom.specs.stages import AdamAtan2, AdamW, Muon


class Sparing(ActRnn):
    """An ACT-RNN that spares the halting unit and every bias, whatever the family of the package does."""

    def undecayed(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if p.ndim < 2 or name.startswith("halting_unit")]


def network(seed: int = 0) -> ActRnn:
    torch.manual_seed(seed)
    rows = RowShape(0, 1, 3, 8)
    return Sparing.for_rows(ActRnnModel(hidden_size=16), rows, PuzzleIds.of(()))


def optimizer_of(net: ActRnn, spec: Any, decay: Any = None) -> torch.optim.Optimizer:
    return build_optimizer(spec, net.parameters(), net.matrices(), spared_by_decay(net, decay))


def move(net: ActRnn, optimizer: torch.optim.Optimizer, value: float = 0.0) -> dict[str, Tensor]:
    for p in net.parameters():
        p.grad = torch.full_like(p, value)
    optimizer.step()
    return {name: p.detach().clone() for name, p in net.named_parameters()}


SPECS = [AdamAtan2(lr=0.1, weight_decay=0.5), AdamW(lr=0.1, weight_decay=0.5), Muon(lr=0.1, weight_decay=0.5)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("decay", [None, "all", "matrices"])
def test_decay_shrinks_the_chosen_weights_alone(spec: Any, decay: Any) -> None:
    net = network()
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    after = move(net, optimizer_of(net, spec, decay))
    spared = set() if decay == "all" else {name for name in start if "bias" in name or "halting_unit" in name}
    for name, before in start.items():
        wanted = before if name in spared else before * 0.95
        assert torch.allclose(after[name], wanted, atol=1e-7), name


def test_a_decay_of_one_leaves_the_halting_bias() -> None:
    net = network()
    optimizer = optimizer_of(net, AdamW(lr=1e-2, weight_decay=1.0))
    for _ in range(200):
        after = move(net, optimizer)
    assert float(after["halting_unit.bias"]) == 1.0
    assert float(after["output.weight"].abs().max()) < 0.05


def test_matrices_of_a_trm_are_all_but_its_token_table_and_vectors() -> None:
    net = TRM(MODEL, 4, 6)
    spared = {id(p) for p in spared_by_decay(net, "matrices")}
    names = {name for name, p in net.named_parameters() if id(p) in spared}
    assert names == {name for name, p in net.named_parameters() if p.ndim < 2 or "embedding_weight" in name}
    assert any("embedding_weight" in name for name in names)
    assert spared_by_decay(net, None) == []


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_states_with_groups_have_the_places_of_states_without(spec: Any) -> None:
    whole, grouped = network(), network()
    plain, by_group = optimizer_of(whole, spec, "all"), optimizer_of(grouped, spec)
    assert len(by_group.param_groups) > len(plain.param_groups)
    for value in (0.1, -0.3):
        move(whole, plain, value)
        move(grouped, by_group, value)
    old, new = (optimizer_tensors(optimizer, "optimizer") for optimizer in (plain, by_group))
    assert {name: t.shape for name, t in old.items()} == {name: t.shape for name, t in new.items()}
    if spec.kind != "muon":  # moments do not depend on the weights, so they are equal, place by place
        assert all(torch.equal(t, new[name]) for name, t in old.items())
    resumed = network()
    resumed.load_state_dict(grouped.state_dict())
    again = optimizer_of(resumed, spec)
    move(resumed, again)  # states exist, with other values
    resumed.load_state_dict(grouped.state_dict())
    restore_optimizer(again, {name: t.clone() for name, t in new.items()}, "optimizer")
    wanted, found = move(grouped, by_group, 0.7), move(resumed, again, 0.7)
    assert all(torch.equal(t, found[name]) for name, t in wanted.items())


@pytest.mark.parametrize("optimizer", [AdamW(lr=1e-3), Muon(lr=1e-3)], ids=lambda spec: spec.kind)
def test_a_training_with_groups_and_a_growing_decay_resumes_exactly(tmp_path: Path, optimizer: Any) -> None:
    changes: dict[str, Any] = {"optimizer": optimizer, "decay": "matrices", "ema_warmup": True, "ema": 0.99}
    whole = train(tmp_path / "a", **changes)
    with pytest.raises(StageInterrupted):
        train(tmp_path / "b", **changes, stop=StopAfter(5))
    assert train(tmp_path / "b", **changes) == whole
    for weights in ("use", "raw"):
        a, b = (load_bundle(tmp_path / x / "out", weights=weights).network.state_dict() for x in "ab")  # type: ignore[arg-type]
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert train(tmp_path / "c", optimizer=optimizer) != whole


def test_the_decay_of_an_average_grows_to_its_value() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    grown, plain = Ema(model, 0.9, warmup=True), Ema(model, 0.9)
    wanted, weights = 0.0, [1.0, 2.0, 4.0]
    for step, value in enumerate(weights, start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        grown.update(step)
        plain.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * value
    assert float(grown.tensors()["weight"]) == pytest.approx(wanted)
    assert float(plain.tensors()["weight"]) == pytest.approx(0.81 * 0.1 + 0.9 * 0.2 + 0.4)


def test_an_average_without_decay_is_the_weights(tmp_path: Path) -> None:
    train(tmp_path, ema=0.0, ema_warmup=True)
    assert load_bundle(tmp_path / "out").raw is None


def test_the_first_step_has_a_rate_and_averages_leave_the_schedule() -> None:
    assert lr_factor(1, 100, 20, 0.0) == pytest.approx(1 / 20)
    assert [lr_factor(step, 10, 0, 1.0) for step in (1, 10)] == [1.0, 1.0]


def test_losses_and_raw_weights_are_the_same_with_any_average(tmp_path: Path) -> None:
    changes = {"lr_min_ratio": 0.1, "steps": STAGE.steps}
    assert train(tmp_path / "a", ema=0.0, **changes) == train(tmp_path / "b", ema_warmup=True, **changes)
    a, b = (load_bundle(tmp_path / x / "out", weights="raw").network.state_dict() for x in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)
