"""The search in the loop: alone, before a network, planned by turns, recorded, judged and replayed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import solve_support
from mirror_task import RIGHT, WRONG, mirror_task
from solve_support import RUN, SOLVER, Place, recorded_ids

from gridloom.errors import ReplayError
from gridloom.solvers.loop.policies import Fixed, Situation, plan_attempt
from gridloom.solvers.parts.loading import load_search
from gridloom.solvers.parts.search_proposer import KEY, NUM_VOTES
from gridloom.solvers.replay.overrides import changeable
from gridloom.solvers.replay.replay import replay
from gridloom.solvers.search.running import run_program
from gridloom.solvers.types import Candidate, Proposal
from gridloom.solvers.verifiers.judge import OF_PROGRAMS, Judge
from gridloom.specs.solver import Search, Solver, Verifier
from gridloom.stores.records import AttemptRecord, CandidateRecord, PickRecord, VerdictRecord


def alone(root: Path, **settings: Any) -> Place:
    """Return a place whose solve node searches programs and names no model."""
    made = Place(root, with_llama=False)
    solver = Solver.model_validate_json(json.dumps({**SOLVER, "proposer": "search", **settings}))
    made.node = made.node.model_copy(
        update={
            "key": "gl1:searched",
            "spec": {"kind": "solve", "with": None, "data": "arc1", "solver": solver.model_dump(mode="json")},
            "inputs": {"data": "arc1"},
        }
    )
    return made


def test_a_search_alone_solves_records_programs_and_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint is read; a program reproduces the shown demonstrations and the one that was kept back."""
    monkeypatch.setattr("gridloom.runtime.checkpoints.bundle.load_bundle", None)
    made = alone(tmp_path / "alone")
    artifact, _ = made.solve()
    picks = made.ledger.read(PickRecord, run_id=RUN, task_id="aaaa0001")
    assert next(pick.grid for pick in picks if pick.rank == 0) == RIGHT
    (attempt,) = made.ledger.read(AttemptRecord, run_id=RUN, task_id="aaaa0001")
    assert attempt.verdict == "accepted"
    assert attempt.checkpoint_key == KEY
    candidates = made.ledger.read(CandidateRecord, run_id=RUN, task_id="aaaa0001")
    assert [one.source for one in candidates] == ["search"] * len(candidates)
    assert sum(one.votes for one in candidates) <= NUM_VOTES
    best = next(one for one in candidates if one.rank == 0)
    assert (best.fits, best.shown) == (2, 2)
    assert best.program is not None
    output = run_program(best.program, mirror_task("aaaa0001"))
    assert all(output.fits)
    assert output.tests[0].tolist() == RIGHT
    verdicts = {v.verifier: v.score for v in made.ledger.read(VerdictRecord, run_id=RUN, task_id="aaaa0001")}
    again = verdicts.pop("found_again")
    assert best.agreed
    assert best.again == 2
    assert again == 1 - (1 - (2 + best.ruled) / 4) ** 2, "rules of one small demonstration answer otherwise"
    assert all(verdicts[name] == 1 for name in (*OF_PROGRAMS, "leave_one_out") if name != "found_again")
    assert verdicts["agreement"] is None
    report = replay(made.workspace, "bbbb0002.1")
    assert report.equal, str(report)
    assert made.score(artifact)["pass1"] == 1
    for override in ("views=2", "act_steps=3", "temperature=0.9"):
        with pytest.raises(ReplayError, match="changes nothing: the attempt searched programs") as caught:
            replay(made.workspace, "bbbb0002.1", overrides=[override], live="temperature" in override)
        assert "solver.search" in str(caught.value.remedy)
    assert {one.fork for one in made.ledger.read(AttemptRecord, run_id=RUN)} == {0}


def test_a_search_before_a_network_spares_it_where_a_program_fits(tmp_path: Path) -> None:
    """The first attempt searches, runs neither LLaMA nor TRM, and is accepted."""
    made = Place(tmp_path / "first", settings={**SOLVER, "search": {}})
    made.solve()
    attempts = made.ledger.read(AttemptRecord, run_id=RUN)
    assert [(one.attempt, one.verdict, one.prompt) for one in attempts] == [(1, "accepted", None)] * 3
    assert {one.plan["arm"] for one in attempts} == {"search.20"}
    assert replay(made.workspace, "aaaa0001.1").equal


def test_attempts_after_an_unaccepted_search_are_the_network_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a verifier that accepts nothing, search, network and deeper search take their turns, and each replays."""
    settings = {
        **{**SOLVER, "max_attempts": 3, "early_stop": False},
        "search": {"depths": [10, 20]},
        "verifier": {"accept": 1.0, "confidence": 5.0, "short_program": 0, "fits_demonstrations": 0, "shape": 0},
    }
    made = Place(tmp_path / "turns", with_llama=False, settings=settings)
    ledger_of = made.solve() and made.ledger
    attempts = ledger_of.read(AttemptRecord, run_id=RUN, task_id="cccc0003")
    depths = [(one.plan.get("search") or {}).get("depth") for one in sorted(attempts, key=lambda one: one.attempt)]
    sources = {
        number: {c.source for c in ledger_of.read(CandidateRecord, run_id=RUN, task_id="cccc0003", attempt=number)}
        for number in range(1, len(attempts) + 1)
    }
    assert depths[0] == 10
    assert sources[1] == {"search"}
    for number, depth in enumerate(depths, start=1):
        assert sources[number] == ({"trm"} if depth is None else {"search"})
        assert replay(made.workspace, f"cccc0003.{number}").equal


def test_forks_of_all_failed_attempts_leave_out_those_that_searched() -> None:
    geometries: list[dict[str, Any]] = [{"search": {"states": 5}}, {"batch": 4}, {"search": {}}, {}]
    recorded: list[Any] = [SimpleNamespace(row=SimpleNamespace(geometry=one)) for one in geometries]
    assert changeable(recorded) == [recorded[1], recorded[3]]
    assert changeable([recorded[0]]) == [recorded[0]]
    assert changeable([]) == []


KILLED = """
import sys, time
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_search_in_the_loop import alone
from gridloom.solvers.parts import search_proposer

search, calls = search_proposer.search, []

def held(*arguments):
    calls.append(1)
    if len(calls) == 2:
        time.sleep(600)
    return search(*arguments)

search_proposer.search = held
alone(Path(sys.argv[1])).solve()
"""
"""Program that solves and hangs in its second search."""


@pytest.mark.slow
def test_a_search_that_is_killed_loses_no_recorded_attempt(tmp_path: Path) -> None:
    """SIGKILL in the second search: the first attempt is kept, the others are made by the next process, none twice."""
    made = alone(tmp_path / "killed")
    paths = [str(Path(__file__).parent), str(Path(solve_support.__file__).parent)]
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "killed"), *paths])
    try:
        while not recorded_ids(made.workspace):
            assert process.poll() is None, "the solve ended before it could be killed"
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (kept,) = (one.attempt_id for one in made.ledger.recorded_attempts(RUN, "solve"))
    made.solve()
    whole = alone(tmp_path / "whole")
    whole.solve()
    found = [one.attempt_id for one in made.ledger.recorded_attempts(RUN, "solve")]
    assert kept in found
    assert len(set(found)) == len(found)
    grids = [one.grid for one in made.ledger.read(CandidateRecord, run_id=RUN)]
    assert grids == [one.grid for one in whole.ledger.read(CandidateRecord, run_id=RUN)]


def test_a_search_alone_ends_with_its_last_depth(tmp_path: Path) -> None:
    """Attempts beyond the depths would search the same again."""
    made = alone(
        tmp_path / "ends",
        max_attempts=5,
        early_stop=False,
        search={"depths": [10]},
        verifier={"accept": 1.0, "confidence": 5},
    )
    made.solve()
    tried = [(one.task_id, one.attempt) for one in made.ledger.read(AttemptRecord, run_id=RUN)]
    assert sorted(tried) == [("aaaa0001", 1), ("bbbb0002", 1), ("cccc0003", 1)]


def situation(attempt: int, searches_alone: bool = False, **settings: Any) -> Situation:
    """Return the situation before an attempt."""
    made = Situation(
        task_id="t",
        num_tests=1,
        views=("t3|||0123456789",),
        history=(),
        settings=Solver(**settings),
        seed=0,
        has_llm=True,
        act_steps=4,
        experience={},
        has_prefix=False,
        searches_alone=searches_alone,
    )
    entry = {"attempt": 1, "arm": "", "text": "", "candidates": (), "weights": (), "score": 0.0, "accepted": False}
    from gridloom.solvers.types import FinishedAttempt

    one = FinishedAttempt(**entry, feedback="", llm_tokens=0, seconds=0.0)
    return Situation(**{**{name: getattr(made, name) for name in made.__slots__}, "history": (one,) * (attempt - 1)})


def depths_of(attempts: int, **given: Any) -> list[int | None]:
    """Return the search depth of each attempt, None where the policy plans it."""
    plans = [plan_attempt(Fixed(), situation(number, **given)) for number in range(1, attempts + 1)]
    return [plan.search.depth if plan.search else None for plan in plans]


def test_searches_take_the_first_attempt_and_the_last_ones() -> None:
    """Depths beside the number of attempts; without `search` the policy plans all."""
    assert depths_of(4, max_attempts=4) == [None] * 4
    assert depths_of(4, max_attempts=4, search=Search()) == [20, None, None, None]
    assert depths_of(5, max_attempts=5, search=Search(depths=(20, 30, 40))) == [20, None, None, 30, 40]
    assert depths_of(2, max_attempts=2, search=Search(depths=(20, 30, 40))) == [20, 40]
    assert depths_of(1, max_attempts=1, search=Search(depths=(20, 30))) == [20]
    assert depths_of(3, max_attempts=3, searches_alone=True) == [20, 20, 20]
    assert depths_of(3, max_attempts=3, searches_alone=True, search=Search(depths=(10, 20))) == [10, 20, 20]


def test_a_later_search_has_the_network_s_grids_as_hints() -> None:
    """The grid with most votes for each test input; programs are no hints, nor is an attempt without grids."""
    network = Candidate(grid=RIGHT, source="trm", votes=3, num_views=4)
    weaker = network.model_copy(update={"grid": WRONG, "votes": 1})
    program = weaker.model_copy(update={"program": "x", "votes": 4})
    now = situation(4, max_attempts=4, search=Search(depths=(20, 30)))

    def planned(*ranked: Candidate) -> Any:
        history = tuple(entry.model_copy(update={"candidates": (ranked,)}) for entry in now.history)
        fields = {name: getattr(now, name) for name in now.__slots__}
        return plan_attempt(Fixed(), Situation(**{**fields, "history": history})).search

    assert planned(program, weaker, network).hints == (RIGHT,)
    assert planned(program).hints is None
    assert planned().hints is None


RULED = "on: input\nrule 3: all\n"


def test_verifiers_of_programs_judge_programs_alone() -> None:
    """A network's proposal has no signal of theirs; a spec may weigh them."""
    task = mirror_task()
    plain = Candidate(grid=RIGHT, source="trm", votes=3, num_views=4)
    found = plain.model_copy(update={"source": "search", "program": "x", "fits": 1, "shown": 2, "cost": 40})
    judge = Judge(task, Verifier())
    names = {signal.name for signal in judge.verdict(Proposal(candidates=((plain,),))).signals}
    assert not names & set(OF_PROGRAMS)

    def scores(*ranked: Candidate) -> list[float | None]:
        by_name = {s.name: s.score for s in judge.verdict(Proposal(candidates=(ranked,))).signals}
        return [by_name[name] for name in ("fits_demonstrations", "short_program", "unrivalled", "found_again")]

    assert scores(found) == [0.25, 0, 1, 0]
    rival = found.model_copy(update={"grid": WRONG, "fits": 2, "cost": 31})
    assert scores(found, rival)[2] == 0
    assert scores(rival, found) == [1, 0.5, 1, 0]
    assert scores(rival.model_copy(update={"again": 1}), found) == [1, 0.5, 1, 0.75]
    short = rival.model_copy(update={"cost": 20, "again": 0})
    assert scores(short, found) == [1, 1, 1, 0], "a short program is not believed for its length alone"
    dearer = found.model_copy(update={"fits": 2, "cost": 24})
    assert scores(short, dearer)[2] == 0.5, "a rival that is as short weighs most"
    ruled = found.model_copy(update={"fits": 2, "cost": 33, "program": RULED})
    assert scores(rival, ruled)[2] == 0.25, "rules that answer differently are rivals"
    assert scores(rival.model_copy(update={"agreed": True}), ruled)[2] == 0.25, "also where cheaper ones agree"
    assert scores(short.model_copy(update={"shown": 1, "fits": 1}))[3] is None
    assert {signal.name for signal in judge.verdict(Proposal(candidates=((plain,),))).signals} == names
    lenient = Judge(task, Verifier(fits_demonstrations=0.0, short_program=0.0))
    assert "fits_demonstrations" not in {s.name for s in lenient.verdict(Proposal(candidates=((found,),))).signals}


@pytest.mark.parametrize(
    ("evidence", "score"),
    [
        ({"again": 4}, 1),
        ({"again": 2}, 0.75),
        ({"again": 1, "cost": 40}, 0.4375),
        ({"again": 1}, 0.75),
        ({"again": 0}, 0),
        ({"again": 4, "ruled": 0}, 0.5),
        ({"again": 4, "ruled": 4, "agreed": True}, 1),
        ({"again": 4, "ruled": 0, "agreed": True}, 0.75),
        ({"again": 0, "ruled": 4, "program": RULED}, 0.5),
        ({"again": 0, "ruled": 1, "program": RULED}, 0.125),
    ],
)
def test_an_answer_is_believed_as_often_as_it_is_found_again(evidence: dict[str, Any], score: float) -> None:
    """Both families count where they agree; one that another contradicts, and rules alone, have at most one half."""
    fields = {"program": "x", "fits": 4, "shown": 4, "cost": 20, "agreed": False, **evidence}
    found = Candidate(grid=RIGHT, source="search", votes=70, num_views=100).model_copy(update=fields)
    signals = Judge(mirror_task(), Verifier()).verdict(Proposal(candidates=((found,),))).signals
    assert {one.name: one.score for one in signals}["found_again"] == pytest.approx(score)


def test_rules_alone_are_never_accepted() -> None:
    """They are found again without every demonstration, short and without a rival, and yet not believed."""
    fields = {"program": RULED, "fits": 2, "shown": 2, "cost": 10, "again": 0, "ruled": 2, "agreed": False}
    found = Candidate(grid=RIGHT, source="search", votes=70, num_views=100).model_copy(update=fields)
    layers = found.model_copy(update={"program": "x", "again": 2, "agreed": True})
    judge = Judge(mirror_task(), Verifier())
    assert not judge.verdict(Proposal(candidates=((found,),))).accepted
    assert judge.verdict(Proposal(candidates=((layers,),))).accepted


def test_feedback_on_a_program_names_what_its_verifiers_found() -> None:
    """A search has no views to be unsure; details of verifiers that found no fault are no reason."""
    long = Candidate(grid=RIGHT, source="search", votes=70, num_views=100, program="x", fits=2, shown=2, cost=52)
    agreed = long.model_copy(update={"agreed": True, "again": 2, "ruled": 2})
    rival = long.model_copy(update={"grid": WRONG, "votes": 20})
    judge = Judge(mirror_task(), Verifier(accept=1.0))
    proposed = f"proposed {len(RIGHT)}x{len(RIGHT[0])}: "

    def feedback(*ranked: Candidate) -> str:
        return judge.verdict(Proposal(candidates=(ranked,))).feedback

    assert feedback(long, rival) == (
        f"{proposed}the program is long (cost 52); 1 other program that fit every example give another grid; "
        "without one example, the same is found for 0 of 2"
    )
    assert feedback(agreed) == f"{proposed}the program is long (cost 52)"
    assert feedback(long.model_copy(update={"fits": 1})).startswith(
        f"{proposed}the program reproduces 1 of 2 examples; "
    )


SEARCHES = """
import importlib, json, pkgutil
import numpy as np
import gridloom.solvers.search as package
from gridloom.runtime.data.tasks import Pair, Task
from gridloom.solvers.search.found import Budget
from gridloom.solvers.search.search import compile_kernels, search

modules = [importlib.import_module(f"{package.__name__}.{one.name}") for one in pkgutil.iter_modules(package.__path__)]
kernels = {id(v): v for one in modules for v in vars(one).values() if hasattr(v, "signatures")}.values()
compile_kernels()
before = {kernel.py_func.__name__: len(kernel.signatures) for kernel in kernels}
draw = np.random.default_rng(0).integers
made = [draw(0, 5, (4, 5), dtype=np.uint8) for _ in range(4)]
for change in (np.fliplr, lambda grid: np.where(grid == 1, 3, grid), np.tile, lambda grid: draw(0, 9, (3, 3)), np.sort):
    changed = [change(grid, (2, 2)) if change is np.tile else change(grid) for grid in made]
    demos = tuple(Pair(a, b.astype(np.uint8)) for a, b in zip(made[:3], changed, strict=False))
    search(Task("made", "", demos, (made[3],)), Budget(states=3000, pieces=2000, turns=(0, 1)))
after = {kernel.py_func.__name__: len(kernel.signatures) for kernel in kernels}
print(json.dumps([sum(before.values()), [name for name in after if after[name] != before[name]]]))
"""


def test_a_search_compiles_nothing_once_the_kernels_are_compiled() -> None:
    """The seconds of an attempt, and a budget of seconds, are those of its search."""
    done = subprocess.run([sys.executable, "-c", SEARCHES], capture_output=True, text=True, check=True)
    compiled, late = json.loads(done.stdout)
    assert compiled > 5
    assert late == []


@pytest.mark.parametrize("settings", [{"proposer": "search"}, {"search": {}}])
def test_kernels_are_compiled_before_the_first_attempt(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever loads a proposer that searches has the kernels compiled, also a worker without progress."""
    calls: list[str] = []
    monkeypatch.setattr("gridloom.solvers.parts.loading.is_compiled", lambda: False)
    monkeypatch.setattr("gridloom.solvers.parts.loading.compile_kernels", lambda: calls.append("compiled"))
    load_search(Solver.model_validate({"proposer": "search", **settings}))
    assert calls == ["compiled"]
