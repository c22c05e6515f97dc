"""On a GPU: attempts of the whole loop in flight together, replayed, scored, stopped and gone on; views that vote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_device import DEVICE
from progress_support import Reporter
from solve_support import RUN, SOLVER, Place, Stop, place
from vote_support import VotePlace

from gridloom.errors import StageInterrupted
from gridloom.runtime.stage import StageContext
from gridloom.solvers.replay.replay import replay, replay_failed

pytestmark = pytest.mark.gpu


class OnDevice(Place):
    """A place whose stages run on the device."""

    def context(self, *args: Any, **kwargs: Any) -> StageContext:
        return replace(super().context(*args, **kwargs), device=DEVICE)


def on_device(root: Path, llama: Path, **settings: Any) -> OnDevice:
    root.mkdir(parents=True, exist_ok=True)
    (root / "llama").symlink_to(llama)
    return OnDevice(root, settings={**SOLVER, **settings})


@pytest.mark.parametrize("in_flight", [1, 3])
def test_attempts_replay_bit_equal_and_count(
    tmp_path: Path, llama: Path, in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = on_device(tmp_path / "gpu", llama, in_flight=in_flight)
    artifact, _ = made.solve()
    assert "pass2" in made.score(artifact)
    reports = list(replay_failed(made.workspace, run_id=RUN, progress=Reporter()))
    assert len(reports) == 9
    assert all(one.equal for one in reports), [str(one) for one in reports if not one.equal]
    monkeypatch.chdir(made.root)
    live = replay(made.workspace, "bbbb0002.2", live=True)
    assert live.nodes


def test_the_loop_does_on_a_gpu_what_it_does_on_a_cpu(tmp_path: Path, llama: Path) -> None:
    here, there = place(tmp_path / "cpu", llama), on_device(tmp_path / "gpu", llama)
    found = []
    for made in (here, there):
        made.solve()
        rows = made.ledger.rows("select attempt_id, plan, text, grids, verdict from attempts order by attempt_id")
        found.append(rows)
    assert found[0]
    assert found[1] == found[0]


def test_a_stopped_solve_goes_on(tmp_path: Path, llama: Path) -> None:
    made = on_device(tmp_path / "gpu", llama)
    with pytest.raises(StageInterrupted):
        made.solve(stop=Stop(after=4))
    artifact, _ = made.solve()
    assert "pass2" in made.score(artifact)


class VotesOnDevice(VotePlace):
    """A place whose checkpoint trains on the CPU and votes on the device."""

    device = "cpu"

    def _context(self, *args: Any, **kwargs: Any) -> StageContext:
        return replace(super()._context(*args, **kwargs), device=self.device)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_views_vote_as_they_do_on_a_cpu_compiled_or_not(tmp_path: Path) -> None:
    made = VotesOnDevice(tmp_path)

    def candidates(run: str, **fields: Any) -> list[tuple[Any, int]]:
        tasks = json.loads((made.vote(run, early_stop=False, **fields) / "votes.json").read_text())["tasks"]
        return [(c["grid"], c["votes"]) for tests in tasks.values() for t in tests for c in t["candidates"]]

    here = candidates("cpu")
    made.device = DEVICE
    torch._dynamo.reset()
    assert len(here) >= 4
    assert candidates("device") == here
    assert candidates("compiled", batch_size=5, compile="on") == here
    assert made.said["compiled"] == []
