"""Batches of an evaluation that workers answer ahead of time give the votes of one batch after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vote_support import VotePlace

from gridloom.errors import StageInterrupted
from gridloom.runtime.evaluation.vote import Vote
from gridloom.runtime.stage import Job
from gridloom.stores.evaluation_records import PredictionRecord
from gridloom.stores.ledger import Ledger


class Backwards:
    """A crew without processes, whose workers answer the last item first; a stop leaves the first ones open."""

    num_workers = 2

    def __init__(self, place: VotePlace, stops_after: int | None = None) -> None:
        self._place, self._stops_after = place, stops_after
        self.num_rounds = self.num_answered = 0

    def run(
        self,
        job: Job,
        items: Sequence[str],
        value: Callable[[str, int], Mapping[str, Any]],
        take: Callable[[str, Mapping[str, Any]], None],
        stop: Any,
    ) -> list[str]:
        """Do the items in this process."""
        self.num_rounds += 1
        context = replace(self._place._context(None, job.work, job.run_id, stop), crew=None)  # type: ignore[arg-type]
        worker = Vote().worker(job.node, job.inputs, context, job.shared)
        for item in reversed(items):
            take(item, asyncio.run(worker.do(value(item, 0))))
            self.num_answered += 1
        return []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> VotePlace:
    """A checkpoint that has learnt some tasks by heart."""
    return VotePlace(tmp_path_factory.mktemp("votes"))


def predictions(place: VotePlace, run: str) -> list[Any]:
    """Recorded predictions of a run, with every bit of their halting logits."""
    rows = Ledger(place.workspace).read(PredictionRecord, run_id=run)
    return sorted((row.task_id, row.test_index, row.view_index, row.grid, row.q_halt) for row in rows)


@pytest.mark.parametrize("early_stop", [None, False, "first"])
def test_votes_and_predictions_equal_those_of_one_process(place: VotePlace, early_stop: Any) -> None:
    alone, shared = f"alone-{early_stop}", f"shared-{early_stop}"
    wanted = place.vote(alone, early_stop=early_stop, batch_size=4)
    place.crew = crew = Backwards(place)
    found = place.vote(shared, early_stop=early_stop, batch_size=4)
    place.crew = None
    assert (found / "votes.json").read_bytes() == (wanted / "votes.json").read_bytes()
    assert predictions(place, shared) == predictions(place, alone)
    saved = len((place.root / f"work-{shared}" / "batches.jsonl").read_text().splitlines())
    assert crew.num_answered >= saved
    if early_stop == "first":
        assert crew.num_answered > saved, "batches that the votes before them changed are dropped"
    elif early_stop is False:
        assert crew.num_answered == saved


def test_a_stop_keeps_the_first_answers_and_the_next_run_goes_on_from_them(place: VotePlace, tmp_path: Path) -> None:
    wanted = place.vote("alone-stop", early_stop=False, batch_size=4)

    class Half(Backwards):
        """The second round is stopped when the first of its items is open still."""

        def run(self, job: Job, items: Sequence[str], value: Any, take: Any, stop: Any) -> list[str]:
            if self.num_rounds == 1:
                stop.after = -1
                return super().run(job, items[:1], value, take, stop)
            return super().run(job, items, value, take, stop)

    place.crew = Half(place)
    with pytest.raises(StageInterrupted):
        place.vote("stopped", early_stop=False, batch_size=4)
    before = len((place.root / "work-stopped" / "batches.jsonl").read_text().splitlines())
    assert before == 5
    place.crew = Backwards(place)
    found = place.vote("stopped", early_stop=False, batch_size=4)
    place.crew = None
    assert (found / "votes.json").read_bytes() == (wanted / "votes.json").read_bytes()
