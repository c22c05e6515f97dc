"""Planning policies: what they choose, that the same situation gives the same plan, and when a task ends."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirror_task import WRONG
from solve_support import RUN, SOLVER, Place, place
from test_loop import Loop, script

from gridloom.errors import PluginError
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.loop.policies import Situation, make_policy, view_window
from gridloom.solvers.loop.select import is_settled, select
from gridloom.solvers.parts.scripted import ScriptedReasoner
from gridloom.solvers.types import Candidate, FinishedAttempt
from gridloom.specs.solver import Reason, Solver
from gridloom.specs.solver_kinds import POLICIES
from gridloom.stores.records import AttemptRecord

VIEWS = tuple(f"t{n % 8}|||0{n:09d}" for n in range(31))


def entry(
    attempt: int, *ranked: tuple[Any, int, float], arm: str = "", score: float = 0.5, tokens: int = 0
) -> FinishedAttempt:
    candidates = tuple(Candidate(grid=grid, source="trm", votes=votes, num_views=8) for grid, votes, _ in ranked)
    weights = tuple(weight for _, _, weight in ranked)
    return FinishedAttempt(
        attempt=attempt,
        arm=arm,
        candidates=(candidates,),
        weights=(weights,),
        score=score,
        accepted=False,
        feedback="",
        llm_tokens=tokens,
    )


def situation(attempt: int = 1, *, policy: str = "fixed", **fields: Any) -> Situation:
    given: dict[str, Any] = {
        "task_id": "aaaa0001",
        "num_tests": 2,
        "views": VIEWS,
        "seed": 0,
        "has_llm": True,
        "has_prefix": attempt > 1,
        "act_steps": 6,
        "experience": {},
        "history": tuple(entry(n) for n in range(1, attempt)),
        "settings": Solver(policy=policy, views=4, reason=Reason(max_new_tokens=8)),
    }
    return Situation(**{**given, **fields})


@pytest.mark.parametrize("name", sorted(POLICIES.built_in))
def test_same_situation_gives_the_same_plan(name: str) -> None:
    for attempt in (1, 2, 5):
        one, two = (make_policy(name).plan(situation(attempt, policy=name)) for _ in range(2))
        assert one == two
        assert one.attempt == attempt
        assert one.policy == name


@pytest.mark.parametrize("name", sorted(POLICIES.built_in))
def test_first_attempt_reads_nothing_of_attempts_before(name: str) -> None:
    plan = make_policy(name).plan(situation())
    assert (plan.feedback, plan.prefix) == (False, False)


@pytest.mark.parametrize("name", sorted(POLICIES.built_in))
def test_policies_ask_nothing_of_a_llama_that_is_not_there(name: str) -> None:
    plan = make_policy(name).plan(situation(3, policy=name, has_llm=False, has_prefix=False))
    assert (plan.temperature, plan.max_new_tokens, plan.prefix) == (0.0, 0, False)
    assert plan.arm.startswith("trm.")


def test_fixed_moves_on_through_views_and_test_inputs() -> None:
    plans = [make_policy("fixed").plan(situation(n)) for n in (1, 2, 3)]
    assert [len(plan.views) for plan in plans] == [4, 4, 4]
    assert len({view for plan in plans for view in plan.views}) == 12
    assert [plan.focus for plan in plans] == [0, 1, 0]
    assert [plan.temperature for plan in plans] == pytest.approx([0.0, 0.3, 0.6])


def test_escalate_makes_every_attempt_harder() -> None:
    plans = [make_policy("escalate").plan(situation(n, policy="escalate")) for n in (1, 2, 3, 4)]
    assert [len(plan.views) for plan in plans] == [4, 8, 16, 31]
    assert [plan.prompt for plan in plans] == ["plain", "compact", "plain", "compact"]
    assert [plan.act_steps for plan in plans] == [None, None, 12, 12]
    assert [plan.temperature for plan in plans] == sorted(plan.temperature for plan in plans)
    assert plans[0].arm == "plain.cool.narrow.short"
    assert plans[3].arm == "compact.warm.wide.deep"


def test_bandit_prefers_what_earned_most_and_still_tries_others() -> None:
    best = "compact.warm.wide.short"
    earned = {best: (27.0, 30), "plain.cool.narrow.short": (3.0, 30)}
    arms = Counter(
        make_policy("bandit").plan(situation(policy="bandit", task_id=f"task{n}", experience=earned)).arm
        for n in range(200)
    )
    assert arms[best] == max(arms.values())
    assert arms["plain.cool.narrow.short"] < 5
    assert len(arms) > 4


def test_bandit_learns_from_the_attempts_on_the_same_task() -> None:
    bad = "plain.cool.narrow.short"
    history = tuple(entry(number, arm=bad, score=0.0) for number in range(1, 15))
    chosen = [
        make_policy("bandit").plan(situation(policy="bandit", task_id=f"task{n}", history=history)).arm
        for n in range(60)
    ]
    assert chosen.count(bad) < 4


def test_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(PluginError, match=r"the policy 'greedy'\n  known: fixed, escalate, bandit"):
        make_policy("greedy")


def test_thing_that_is_no_policy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES._loaded, "greedy", dict)
    with pytest.raises(PluginError, match="policy 'greedy' is a dict without the members of a Policy"):
        make_policy("greedy")


@given(st.integers(0, 40), st.integers(1, 30), st.integers(1, 40))
def test_view_windows_are_distinct_views_and_go_round_all(num_known: int, attempt: int, num_views: int) -> None:
    known = [str(n) for n in range(num_known)]
    window = view_window(known, attempt, num_views)
    assert len(window) == len(set(window)) == min(num_known, num_views)
    rounds = range(1, num_known + 1)
    assert {view for n in rounds for view in view_window(known, n, num_views)} == set(known)


def test_token_budget_ends_a_task_between_attempts(task: Task) -> None:
    loop = Loop(task, script([WRONG[:1]]), ScriptedReasoner(), max_attempts=9, budget={"tokens": 12})
    loop.run()
    assert len(loop.of(AttemptRecord)) == 2, "5 words and 8 or more make 13"


def test_second_budget_counts_the_task_s_own_work(task: Task) -> None:
    loop = Loop(task, script([WRONG[:1]]), None, max_attempts=5, budget={"seconds": 1e-9})
    loop.run()
    assert len(loop.of(AttemptRecord)) == 1


def test_task_ends_when_the_attempts_left_cannot_change_its_picks() -> None:
    a, b, c = [[1]], [[2]], [[3]]
    history = [entry(n, (a, 6, 1.0), (b, 2, 1.0)) for n in range(1, 9)]
    assert [pick.grid for pick in select(history, 1)] == [a, b]
    assert is_settled(history, 1, remaining=1)
    assert not is_settled(history, 1, remaining=2), "a third grid could still reach 2 and equal the second"
    assert not is_settled([*history, entry(9, (c, 8, 1.0))], 1, remaining=1)
    talking = [entry(n, (a, 6, 1.0), (b, 2, 1.0), tokens=9) for n in range(1, 9)]
    assert not is_settled(talking, 1, remaining=1), "the LLaMA's own grid may add as much again"


@given(
    st.lists(st.lists(st.tuples(st.sampled_from([[[1]], [[2]], [[3]]]), st.integers(1, 4)), max_size=2), max_size=7),
    st.lists(st.tuples(st.sampled_from([[[1]], [[2]], [[3]], [[4]]]), st.integers(1, 8)), min_size=1, max_size=3),
)
def test_settled_picks_never_change(past: list[list[Any]], future: list[Any]) -> None:
    history = [entry(n, *((grid, votes, 1.0) for grid, votes in ranked)) for n, ranked in enumerate(past, 1)]
    if is_settled(history, 1, remaining=len(future)):
        later = [entry(20 + n, (grid, votes, 1.0)) for n, (grid, votes) in enumerate(future)]
        assert [p.grid for p in select([*history, *later], 1)] == [p.grid for p in select(history, 1)]


def test_early_stop_saves_attempts_and_keeps_the_picks(task: Task) -> None:
    proposer = {"votes": 8, "num_views": 8}
    runs = {}
    for early_stop in (True, False):
        made = script([WRONG[:1]])
        for name, value in proposer.items():
            setattr(made, name, value)
        loop = Loop(task, made, None, max_attempts=8, early_stop=early_stop)
        state = loop.run()
        assert state is not None
        runs[early_stop] = (len(loop.of(AttemptRecord)), [pick["grid"] for pick in state["picks"]])
    assert runs[False][0] == 8
    assert runs[True][0] <= runs[False][0]
    assert runs[True][1] == runs[False][1]


def test_accepted_task_keeps_its_last_checkpoint_and_an_open_one_all(tmp_path: Path, llama: Path) -> None:
    settings = {**SOLVER, "verifier": {"accept": 0.0}}
    accepted = place(tmp_path / "accepted", llama, settings=settings)
    accepted.solve()
    opened = Place(tmp_path / "open", with_llama=False)
    opened.solve()

    def kept(made: Place) -> dict[str, int]:
        rows = made.ledger.rows("SELECT thread_id, count(*) AS n FROM graph_checkpoints GROUP BY thread_id")
        return {row["thread_id"].rpartition("/")[2]: row["n"] for row in rows}

    assert set(kept(accepted).values()) == {1}
    assert all(number > 12 for number in kept(opened).values())
    assert len(accepted.ledger.recorded_attempts(RUN, "solve")) == 3


def test_bandit_of_a_second_run_learns_from_the_first(tmp_path: Path) -> None:
    made = Place(tmp_path / "made", with_llama=False, settings={**SOLVER, "policy": "bandit"})
    made.solve(run_id="first")
    for kept in (made.root / "work").iterdir():
        kept.unlink()
    made.solve(run_id="second")
    experience = (made.root / "work" / "experience.json").read_text()
    arms = {a.plan["arm"] for a in made.ledger.recorded_attempts("first", "solve")}
    assert all(arm in experience for arm in arms)
