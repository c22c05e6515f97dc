"""Faults that a check of a network finds, each made on purpose, and true sizes of the recipes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine_support import GRID, engine, spec_of

from gridloom.runtime.model_check.check import check, generated, made_rows
from gridloom.runtime.model_check.recipes import ENGINE_RECIPES, Subject, subjects
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.engine.cost import EngineCost
from gridloom.runtime.models.engine.network import Engine
from gridloom.runtime.models.kind import RowShape, network_cost


def subject(**fields: Any) -> Subject:
    return Subject("made", "learn", spec_of(halt_max_steps=2, **fields), GRID, 4, None)


def test_a_sound_network_passes() -> None:
    report = check(subject())
    assert report.ok, report.reason
    assert report.first_loss is not None
    assert report.last_loss is not None
    assert report.last_loss <= report.first_loss / 2
    assert len(report.answer) == 4


def test_the_answer_of_a_network_of_256_tokens_is_within_its_vocabulary() -> None:
    network = engine(RowShape(0, 12, 256), decoder={}).eval()
    assert len(generated(network, made_rows(network, torch.Generator().manual_seed(0), "cpu"))) == 4


def test_a_network_that_reads_vectors_passes() -> None:
    spec = ActRnnModel(hidden_size=64, halt_max_steps=3)
    report = check(Subject("made", "learn", spec, RowShape(0, 3, 2, 4), 4, None))
    assert report.phases[:4] == ["schema", "build", "parameters", "forward"], report.reason


def test_weights_that_wait_for_data_are_listed_with_the_reason() -> None:
    report = check(subject(dqn={"min_size": 5000, "hidden": 8}))
    assert report.ok, report.reason
    assert set(report.without_gradient) == {f"halting_q.q.{n}.{part}" for n in (0, 2) for part in ("weight", "bias")}
    assert "of 5000 transitions" in next(iter(report.without_gradient.values()))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("dead", "backward: spare got no gradient in 30 steps"),
        ("nan", "forward: logits are not finite"),
        ("empty", "forward: logits are [4, 0, 8], not [4, 16, 8]"),
        ("stuck", "overfit: the answer loss of 4 rows went from"),
        ("count", "parameters: the network has "),
        ("error", "forward: RuntimeError: out of cells"),
    ],
)
def test_a_fault_stops_the_check_with_its_reason(monkeypatch: pytest.MonkeyPatch, fault: str, reason: str) -> None:
    step, init = Engine.step, Engine.__init__

    def changed(self: Engine, *args: Any, **kwargs: Any) -> Any:
        carry, output = step(self, *args, **kwargs)
        if fault == "nan":
            output.logits.fill_(float("nan"))
        elif fault == "empty":
            object.__setattr__(output, "logits", output.logits[:, :0])
        elif fault == "error":
            raise RuntimeError("out of cells")
        return carry, output

    def built(self: Engine, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if fault in ("dead", "count"):
            self.spare = torch.nn.Parameter(torch.zeros(3))

    monkeypatch.setattr(Engine, "__init__", built)
    if fault in ("nan", "empty", "error"):
        monkeypatch.setattr(Engine, "step", changed)
    if fault == "dead":
        counted = EngineCost.parameters.fget  # type: ignore[attr-defined]
        monkeypatch.setattr(EngineCost, "parameters", property(lambda self: counted(self) + 3))
    if fault == "stuck":
        monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    report = check(subject())
    assert not report.ok
    assert report.reason is not None
    assert report.reason.startswith(reason)


def test_a_store_that_is_lost_by_saving_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gridloom.runtime.model_check.check.load_bundle",
        lambda folder, device: type(
            "Loaded", (), {"network": Engine.for_rows(spec_of(halt_max_steps=2), GRID, _ids())}
        ),
    )
    report = check(subject())
    assert report.reason is not None
    assert report.reason.startswith("save and load: ")
    assert "differs after saving and loading" in report.reason


def _ids() -> Any:
    from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds

    return PuzzleIds.of(())


def test_true_sizes_are_those_of_the_original_configurations() -> None:
    """163.7M without the bank, 35.4M of it planning; others with two key-value heads, which save 0.393M a block."""
    expected = {
        "multimodal_hesc": 163.73e6,
        "text_optimized": 16.6e6 - 4 * 0.393e6 - 1.05e6 - 0.79e6,
        "code_optimized": 28.4e6 - 7 * 0.393e6 - 1.05e6 - 0.79e6,
        "trm_unified": 21.6e6 - 5 * 0.393e6 - 1.05e6 - 0.79e6,
    }
    found: dict[str, dict[str, int]] = {}
    for name in expected:
        (one,) = subjects(name)
        cost = network_cost(one.spec, one.rows)
        assert isinstance(cost, EngineCost)
        found[name] = cost.parts()
    counted = {name: sum(parts.values()) - parts.get("memory", 0) for name, parts in found.items()}
    assert counted == {name: pytest.approx(value, rel=0.05) for name, value in expected.items()}
    assert found["multimodal_hesc"]["planning"] == pytest.approx(35_428_866, rel=0.05)
    assert sum(found["multimodal_hesc"].values()) == 164_707_639


@pytest.mark.parametrize("name", ENGINE_RECIPES)
def test_memory_of_every_recipe_is_estimated(name: str) -> None:
    for one in subjects(name):
        assert one.memory_bytes is not None
        assert one.memory_bytes > 16 * network_cost(one.spec, one.rows).parameters
