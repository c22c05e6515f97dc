"""The judge and its signals on hand-made evidence."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirror_task import RIGHT, grid, mirror_task

from gridloom.errors import PluginError
from gridloom.runtime.data.tasks import Pair, Task
from gridloom.solvers.types import Candidate, FinishedAttempt, LoopState, Plan, Proposal, Reasoning, Signal, Verdict
from gridloom.solvers.verifiers.judge import OF_PROGRAMS, Judge
from gridloom.solvers.verifiers.rules import expected_sizes, fit_palette, fit_size_rules
from gridloom.solvers.verifiers.signals import Evidence
from gridloom.specs.solver import Verifier
from gridloom.specs.solver_kinds import VERIFIERS

CHECK = [[1, 0, 3], [0, 0, 1], [0, 2, 0]]
"""Output of the demonstration that `mirror_task` keeps from training."""


def candidate(cells: list[list[int]], votes: int = 8, **fields: float | None) -> Candidate:
    given = {"confidence": 0.9, "whole": 1.0, **fields}
    return Candidate(grid=cells, source="trm", votes=votes, num_views=8, **given)  # type: ignore[arg-type]


def proposal(cells: list[list[int]], check: list[list[int]] | None = CHECK, **fields: float | None) -> Proposal:
    votes = int(fields.pop("votes", 8) or 0)
    checks = ((candidate(check),),) if check is not None else ((),)
    return Proposal(candidates=((candidate(cells, votes, **fields),),), checks=checks)


def signals(task: Task, made: Proposal) -> dict[str, Signal]:
    return {signal.name: signal for signal in Judge(task, Verifier()).verdict(made).signals}


def test_right_grid_with_all_views_behind_it_is_accepted(task: Task) -> None:
    verdict = Judge(task, Verifier()).verdict(proposal(RIGHT))
    assert verdict.accepted
    assert verdict.feedback == ""
    assert verdict.score > 0.98


def test_score_is_the_weighted_mean_of_the_available_signals(task: Task) -> None:
    settings = Verifier(leave_one_out=3, agreement=1, form=0, shape=0, palette=0, confidence=0)
    verdict = Judge(task, settings).verdict(proposal(RIGHT, votes=4))
    assert verdict.score == pytest.approx((3 * 1.0 + 1 * 0.5) / 4)
    unchecked = dataclasses.replace(task, check=())
    assert Judge(unchecked, settings).verdict(Proposal(candidates=((candidate(RIGHT, 4),),))).score == 0.5


def test_leave_one_out_counts_only_demonstrations_that_training_never_saw(task: Task) -> None:
    assert signals(task, proposal(RIGHT))["leave_one_out"].score == 1.0
    wrong = signals(task, proposal(RIGHT, [[1, 0, 3], [0, 0, 1], [0, 2, 2]]))["leave_one_out"]
    assert wrong.score == 0.0
    assert wrong.detail == "on example 3 1 of 9 cells differ: (3,3) is not 2"
    small = signals(task, proposal(RIGHT, [[1, 0]]))["leave_one_out"]
    assert small.detail == "on example 3 your rule gives 1x2, shown is 3x3"
    assert "no grid" in signals(task, proposal(RIGHT, None))["leave_one_out"].detail


def test_leave_one_out_takes_no_part_without_check_demonstrations(task: Task) -> None:
    unchecked = dataclasses.replace(task, check=())
    made = Proposal(candidates=((candidate(RIGHT),),))
    assert signals(unchecked, made)["leave_one_out"].score is None


def test_agreement_needs_two_views(task: Task) -> None:
    assert signals(task, proposal(RIGHT, votes=2))["agreement"].score == 0.25
    lone = Candidate(grid=RIGHT, source="trm", votes=1, num_views=1)
    assert signals(task, Proposal(candidates=((lone,),), checks=((candidate(CHECK),),)))["agreement"].score is None


def test_form_refuses_a_copy_of_the_input_unless_a_demonstration_is_one(task: Task) -> None:
    copy = task.tests[0].tolist()
    assert signals(task, proposal(copy))["form"].score == 0.0
    same = Pair(grid("11"), grid("11"))
    assert signals(dataclasses.replace(task, demos=(*task.demos, same)), proposal(copy))["form"].score == 1.0
    assert signals(task, proposal(RIGHT, whole=0.5))["form"].score == 0.5


def test_palette_counts_strange_cells_and_missing_colours(task: Task) -> None:
    strange = signals(task, proposal([[2, 1, 0], [0, 4, 7]]))["palette"]
    assert strange.score == pytest.approx(5 / 6)
    assert "colour 7" in strange.detail
    assert signals(task, proposal([[2, 1, 1], [1, 4, 3]]))["palette"].score == 0.5, "0 is in every output"


def test_attempt_is_as_good_as_its_worst_test_input() -> None:
    task = mirror_task(num_tests=2)
    good, bad = candidate(RIGHT), candidate([[7]])
    checks = ((candidate(CHECK),),)
    both = Judge(task, Verifier()).verdict(Proposal(candidates=((good,), (bad,)), checks=checks))
    assert {s.name: s.score for s in both.signals}["shape"] == 0.0
    assert both.weights[0][0] > both.weights[1][0]
    none = Judge(task, Verifier()).verdict(Proposal(candidates=((good,), ()), checks=checks))
    assert (none.score, none.accepted) == (0.0, False)
    assert "no grid could be read for test input 2" in none.feedback


@pytest.mark.parametrize(
    ("pairs", "test", "size", "name"),
    [
        ([("12", "21"), ("123", "321")], "1234", (1, 4), "same size as the input"),
        ([("12", "1122"), ("1", "11")], "123", (1, 6), "1 times the input's rows and 2 times its columns"),
        ([("1234", "12"), ("12", "1")], "123456", (1, 3), "1 times the input's rows and 1/2 times its columns"),
        ([("123", "55/55"), ("1", "66/66")], "12", (2, 2), "always 2x2"),
        ([("123", "1/2/3"), ("12", "1/2")], "1234", (4, 1), "the input's size with rows and columns exchanged"),
        ([("00/30", "3"), ("00/33", "33")], "0300/0030", (2, 2), "the box around everything but the background"),
        ([("0002/0200/0000", "000/020"), ("2001", "2")], "2222/1112", (2, 4), "the box around colour 2"),
        ([("12/11", "12/11"), ("123/111", "1/2/3")], "12", None, ""),
    ],
)
def test_size_rules_predict_from_what_all_demonstrations_obey(
    pairs: list[tuple[str, str]], test: str, size: tuple[int, int] | None, name: str
) -> None:
    fitted = fit_size_rules([Pair(grid(*a.split("/")), grid(*b.split("/"))) for a, b in pairs])
    sizes = expected_sizes(fitted, grid(*test.split("/")))
    if size is None:
        assert not sizes
    else:
        assert sizes[size] == name


def test_size_rules_never_expect_an_impossible_size() -> None:
    rules = fit_size_rules([Pair(grid("1"), grid("111")), Pair(grid("1", "2"), grid("111", "222"))])
    assert expected_sizes(rules, np.zeros((1, 11), np.uint8)) == {}


grids = st.integers(1, 4).flatmap(
    lambda h: st.integers(1, 4).flatmap(
        lambda w: st.lists(st.lists(st.integers(0, 9), min_size=w, max_size=w), min_size=h, max_size=h)
    )
)


@given(st.lists(st.tuples(grids, grids), min_size=1, max_size=3), grids, grids)
def test_fitted_rules_hold_on_every_demonstration(
    demos: list[tuple[list[list[int]], list[list[int]]]], test: list[list[int]], guess: list[list[int]]
) -> None:
    pairs = tuple(Pair(np.array(a, np.uint8), np.array(b, np.uint8)) for a, b in demos)
    rules = fit_size_rules(pairs)
    palette = fit_palette(pairs)
    for pair in pairs:
        assert all(rule.predict(pair.input) == pair.output.shape for rule in rules)
        allowed = set(np.unique(pair.input).tolist()) | palette.added
        assert palette.always <= set(np.unique(pair.output).tolist()) <= allowed
    task = Task("t", "s", pairs, (np.array(test, np.uint8),))
    verdict = Judge(task, Verifier()).verdict(Proposal(candidates=((candidate(guess),),)))
    assert all(signal.score is None or 0 <= signal.score <= 1 for signal in verdict.signals)


def test_no_type_on_the_way_to_a_verdict_has_room_for_an_answer() -> None:
    for owner in (Task, Evidence, Proposal, Candidate, Judge, Plan, FinishedAttempt, Reasoning, Verdict, LoopState):
        names = set(getattr(owner, "__annotations__", {})) | set(inspect.signature(owner.__init__).parameters)
        assert not {name for name in names if "answer" in name or "target" in name or "solution" in name}


def test_feedback_names_what_is_wrong_most_telling_first(task: Task) -> None:
    made = proposal([[2, 1, 0]], [[1, 0, 3], [0, 0, 1], [0, 2, 2]], votes=3)
    assert Judge(task, Verifier()).verdict(made).feedback == (
        "proposed 1x3: on example 3 1 of 9 cells differ: (3,3) is not 2; "
        "shape rule broken: 1x3, the examples say 2x3 (same size as the input); 3 of 8 views agree"
    )


def test_every_verifier_has_a_weight_in_the_spec() -> None:
    assert set(VERIFIERS.built_in) - set(OF_PROGRAMS) == set(Verifier.model_fields) - {"accept"}
    assert [*Verifier().weights(), *OF_PROGRAMS] == list(VERIFIERS.built_in)


@pytest.mark.parametrize(
    ("signal", "problem"),
    [
        (Signal(name="tidy", score=1.5), r"'tidy' returned the score 1\.5"),
        (Signal(name="tidy", score=float("nan")), "'tidy' returned the score nan"),
        (Signal(name="tidier", score=1.0), "'tidy' returned a signal named 'tidier'"),
    ],
)
def test_signal_that_cannot_be_weighed_is_refused(
    task: Task, signal: Signal, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VERIFIERS._loaded, "tidy", lambda _evidence: signal)
    judge = Judge(task, Verifier.model_validate_json('{"tidy": 1}'))
    with pytest.raises(PluginError, match=problem):
        judge.verdict(proposal(RIGHT))


def test_weights_of_other_packages_are_summed_in_an_order_that_no_spec_changes() -> None:
    one, two = (Verifier.model_validate_json(text) for text in ('{"zeal": 1, "art": 2}', '{"art": 2, "zeal": 1}'))
    assert list(one.weights().items()) == list(two.weights().items())
    assert list(one.weights())[-2:] == ["art", "zeal"]
