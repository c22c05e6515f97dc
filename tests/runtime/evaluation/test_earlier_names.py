"""Figures under the names of the earlier halting lab: in the ledger beside gridloom's own, at W&B with a prefix."""

from __future__ import annotations

import pytest

from gridloom.runtime.evaluation.earlier_names import earlier_kind, earlier_names, wandb_names
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.universal_transformer.spec import UniversalTransformerModel

TRAINED = {
    "loss": 1.0,
    "loss_classification": 0.9,
    "loss_ponder": 0.1,
    "exact_match": 0.5,
    "cell_accuracy": 0.75,
    "act_steps": 3.0,
    "halt_natural": 1.0,
    "ponder_weight": 0.001,
    "steps_per_s": 9.0,
}


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("parity", {"accuracy": 0.75}),
        ("logic", {"accuracy": 0.75}),
        ("addition", {"accuracy_place": 0.75, "accuracy_sequence": 0.5}),
        ("copy", {"accuracy_place": 0.75, "accuracy_sequence": 0.5}),
        ("maze", {"puz_acc": 0.5, "cell_acc": 0.75}),
    ],
)
def test_the_ledger_has_the_names_of_the_kind_of_data(kind: str, named: dict[str, float]) -> None:
    common = {"loss_total": 1.0, "steps": 3.0, "halt_natural_ratio": 1.0, "time_penalty_current": 0.001}
    assert earlier_names(kind, TRAINED) == {**common, **named}


def test_validations_keep_their_prefix_and_wandb_has_its_own() -> None:
    figures = {"validation_exact": 0.5, "validation_focus_f1": 0.25, "loss": 1.0, "remainder_mean": 0.2}
    assert earlier_names("maze", figures) == {"validation_puz_acc": 0.5, "loss_total": 1.0}
    assert wandb_names("maze", figures) == {
        "val/puz_acc": 0.5,
        "val/focus_f1": 0.25,
        "train/loss_total": 1.0,
        "train/remainder_mean": 0.2,
    }
    assert wandb_names("parity", {"cell_accuracy": 1.0}, "test/") == {"test/accuracy": 1.0}


def test_only_networks_that_ponder_have_them() -> None:
    assert earlier_kind(ActRnnModel(), "parity") == "parity"
    assert earlier_kind(UniversalTransformerModel(), "maze") == "maze"
    assert earlier_kind(TrmModel(), "maze") is None
    assert earlier_names(None, TRAINED) == {}
    assert wandb_names(None, TRAINED) == {}
