"""A solve stage on worker processes gives the bytes of the lone run, also when a worker is killed on the way."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from solve_support import RUN, Place

from gridloom.errors import StageError, StageInterrupted
from gridloom.runtime.cluster.crew import Crew
from gridloom.runtime.cluster.local_workers import LocalWorkers
from gridloom.runtime.stage import StageContext
from gridloom.stores.ledger import Ledger

SETTINGS = {"max_attempts": 2, "views": 2, "in_flight": 1}


class OnWorkers(Place):
    """A place whose solve stage has a crew; `killed` is the process that is killed after its first task."""

    crew: Crew | None = None

    def context(self, *arguments: Any, **more: Any) -> StageContext:
        """A context with the crew."""
        return replace(super().context(*arguments, **more), crew=self.crew)


def made(place: Place) -> dict[str, bytes]:
    """Files of the published attempts."""
    found = place.store.find(f"gl1:solve.{RUN}")
    assert found is not None
    return {name: (found.path / name).read_bytes() for name in ("attempts.jsonl", "picks.json", "submission.json")}


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What one process makes; workers have as many threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    place = Place(tmp_path / "alone", with_llama=False, settings=SETTINGS)
    place.solve()
    return made(place)


def test_the_attempts_equal_those_of_the_lone_run_though_a_worker_is_killed(
    alone: dict[str, bytes], tmp_path: Path
) -> None:
    place = OnWorkers(tmp_path / "shared", with_llama=False, settings=SETTINGS)
    workers = LocalWorkers(2, place.workspace)
    said: list[str] = []
    place.crew = Crew(workers, "cpu", said.append)
    sent = workers.send
    kills: list[int] = []

    def send(name: str, message: dict[str, Any]) -> None:
        sent(name, message)
        if message["do"] == "item" and not kills:  # in the midst of its first task, or before it
            kills.append(workers.pids()[name])
            os.kill(kills[0], signal.SIGKILL)

    workers.send = send  # type: ignore[method-assign]
    place.solve()
    place.crew.close()
    assert [line for line in said if "was lost (killed by SIGKILL)" in line]
    assert made(place) == alone
    counts = Ledger(place.workspace).rows(
        "select count(*) as n, count(distinct (task_id, attempt)) as m, count(distinct task_id) as t from attempts"
    )[0]
    assert counts["n"] == counts["m"] == len(alone["attempts.jsonl"].splitlines())
    assert counts["t"] == 3


class SetsAside:
    """Crew that does every item but the first, with which it loses three workers."""

    num_workers, shares_disk = 2, True

    def run(self, job: Any, items: list[str], value: Any, take: Any, stop: Any) -> list[str]:
        for item in items[1:]:
            take(item, {"accepted": False, "attempts": 1})
        return items[:1]


def test_a_task_that_takes_three_workers_with_it_fails_the_stage_by_its_name(tmp_path: Path) -> None:
    place = OnWorkers(tmp_path / "shared", with_llama=False, settings=SETTINGS)
    place.crew = SetsAside()  # type: ignore[assignment]
    with pytest.raises(StageError, match=r"1 of 3 tasks took three workers with it and is set aside: \w+; 2 done"):
        place.solve()


@pytest.mark.slow
def test_a_stopped_driver_resumes_on_other_workers_where_the_tasks_were(
    alone: dict[str, bytes], tmp_path: Path
) -> None:
    place = OnWorkers(tmp_path / "shared", with_llama=False, settings=SETTINGS)

    class StopLater:
        """Signal that comes when the first attempt is in a journal."""

        reason = "SIGTERM"

        def __bool__(self) -> bool:
            return any('"attempt_id"' in path.read_text() for path in place.workspace.journal_dir.glob("*.jsonl"))

    place.crew = Crew(LocalWorkers(1, place.workspace), "cpu", lambda text: None)
    with pytest.raises(StageInterrupted, match="every node is saved"):
        place.solve(stop=StopLater())  # type: ignore[arg-type]
    place.crew.close()
    place.crew = Crew(LocalWorkers(2, place.workspace), "cpu", lambda text: None)
    place.solve()
    place.crew.close()
    assert made(place) == alone
