"""Shared batches: when they are run, who is in them, and that sharing changes nothing but rounding."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from progress_support import Reporter
from solve_support import RUN, SOLVER, Place, Stop, place

from gridloom.errors import StageInterrupted
from gridloom.solvers.parts.call_scheduler import CallQueue, CallScheduler
from gridloom.solvers.replay.replay import replay_failed
from gridloom.stores.artifacts import Artifact


class Squares:
    """Answers numbers with their squares, and keeps the batches."""

    def __init__(self, scheduler: CallScheduler, max_size: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.queue: CallQueue[int, int] = CallQueue(
            scheduler, self.answer, kind=lambda call: call < 0, size=lambda _call: 1, max_size=max_size
        )

    def answer(self, calls: list[int]) -> list[int]:
        self.batches.append(calls)
        if 13 in calls:
            raise ValueError("13")
        return [call * call for call in calls]


def together(scheduler: CallScheduler, *works: Any) -> list[Any]:
    async def member(work: Any) -> Any:
        with scheduler.member():
            return await work

    async def main() -> list[Any]:
        return await asyncio.gather(*(asyncio.create_task(member(work)) for work in works), return_exceptions=True)

    return asyncio.run(main())


def test_calls_of_all_members_share_one_batch() -> None:
    scheduler = CallScheduler()
    squares = Squares(scheduler)
    assert together(scheduler, *(squares.queue.submit(n) for n in range(5))) == [0, 1, 4, 9, 16]
    assert squares.batches == [[0, 1, 2, 3, 4]]


def test_batch_waits_for_a_member_that_still_works() -> None:
    scheduler = CallScheduler()
    squares = Squares(scheduler)

    async def late() -> int:
        for _ in range(50):
            await asyncio.sleep(0)
        return await squares.queue.submit(3)

    assert together(scheduler, squares.queue.submit(2), late()) == [4, 9]
    assert squares.batches == [[2, 3]]


def test_member_that_ends_without_a_call_frees_the_others() -> None:
    scheduler = CallScheduler()
    squares = Squares(scheduler)

    async def nothing() -> None:
        await asyncio.sleep(0)

    assert together(scheduler, squares.queue.submit(2), nothing()) == [4, None]
    assert squares.batches == [[2]]


def test_call_from_outside_any_member_is_answered_at_once() -> None:
    squares = Squares(CallScheduler())
    assert asyncio.run(squares.queue.submit(7)) == 49


def test_kinds_are_never_mixed_and_sizes_are_kept() -> None:
    scheduler = CallScheduler()
    squares = Squares(scheduler, max_size=2)
    together(scheduler, *(squares.queue.submit(n) for n in (1, -1, 2, 3, -2)))
    assert squares.batches == [[1, 2], [3], [-1, -2]]


def test_failing_batch_fails_its_own_calls_alone() -> None:
    scheduler = CallScheduler()
    squares = Squares(scheduler, max_size=2)
    answers = together(scheduler, *(squares.queue.submit(n) for n in (1, 2, 13, 4, 5)))
    assert answers[:2] == [1, 4]
    assert [str(answer) for answer in answers[2:4]] == ["13", "13"]
    assert answers[4] == 25


def test_cancelled_call_holds_nobody_up() -> None:
    scheduler = CallScheduler()
    squares = Squares(scheduler)

    async def main() -> int:
        with scheduler.member():
            with scheduler.member():
                doomed = asyncio.create_task(squares.queue.submit(1))
                await asyncio.sleep(0)
                doomed.cancel()
                await asyncio.sleep(0)
            return await squares.queue.submit(5)

    assert asyncio.run(main()) == 25
    assert squares.batches == [[5]]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 4))
def test_every_call_is_answered_whatever_the_members_do(counts: list[int], max_size: int) -> None:
    scheduler = CallScheduler()
    squares = Squares(scheduler, max_size)

    async def work(number: int, count: int) -> list[int]:
        return [await squares.queue.submit(number * 100 + 20 + n) for n in range(count)]

    answers = together(scheduler, *(work(number, count) for number, count in enumerate(counts)))
    assert answers == [[(number * 100 + 20 + n) ** 2 for n in range(count)] for number, count in enumerate(counts)]
    assert all(len(batch) <= max_size for batch in squares.batches)
    assert scheduler.num_members == 0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> tuple[Place, Artifact]:
    made = place(tmp_path_factory.mktemp("shared") / "place", llama, settings={**SOLVER, "in_flight": 3})
    return made, made.solve()[0]


def test_results_of_tasks_in_flight_together_are_those_of_one_at_a_time(
    solved: tuple[Place, Artifact, Reporter], shared: tuple[Place, Artifact]
) -> None:
    one = solved[0].ledger.recorded_attempts(RUN, "solve")
    many = shared[0].ledger.recorded_attempts(RUN, "solve")
    assert {a.geometry["batch_rows"] for a in one} == {8, 12}
    assert {a.geometry["batch_rows"] for a in many} == {28}
    assert [(a.attempt_id, a.plan, a.prompt, a.text, a.grids, a.verdict) for a in many] == [
        (a.attempt_id, a.plan, a.prompt, a.text, a.grids, a.verdict) for a in one
    ]
    assert [a.score for a in many] == pytest.approx([a.score for a in one], abs=1e-6)


def test_attempts_made_in_shared_batches_replay_bit_equal(shared: tuple[Place, Artifact]) -> None:
    reports = list(replay_failed(shared[0].workspace, run_id=RUN))
    assert len(reports) == 9
    assert all(report.equal for report in reports), "\n".join(map(str, reports))


def test_shared_batches_are_the_same_in_every_run(shared: tuple[Place, Artifact], tmp_path: Path, llama: Path) -> None:
    again = place(tmp_path / "again", llama, settings={**SOLVER, "in_flight": 3}, answers=5)
    artifact, _ = again.solve()
    for name in ("attempts.jsonl", "picks.json", "submission.json"):
        assert (artifact.path / name).read_bytes() == (shared[1].path / name).read_bytes()


@pytest.mark.parametrize("after", [2, 9])
def test_stop_with_many_in_flight_saves_all_of_them(
    shared: tuple[Place, Artifact], tmp_path: Path, llama: Path, after: int
) -> None:
    stopped = place(tmp_path / "stopped", llama, settings={**SOLVER, "in_flight": 3})
    with pytest.raises(StageInterrupted):
        stopped.solve(stop=Stop(after=after))
    artifact, _ = stopped.solve()
    assert (artifact.path / "picks.json").read_bytes() == (shared[1].path / "picks.json").read_bytes()
    assert len(stopped.ledger.recorded_attempts(RUN, "solve")) == 9
