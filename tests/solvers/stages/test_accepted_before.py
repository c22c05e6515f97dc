"""Tasks that an earlier solve stage accepted: picks and attempts are taken over, nothing is asked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from solve_support import RUN, SOLVER, Place

from gridloom.errors import StageError
from gridloom.solvers.stages.attempts_artifact import read_attempts, read_picks
from gridloom.specs.solver import Solver
from gridloom.stores.artifacts import Artifact
from gridloom.stores.records import AttemptRecord, PickRecord

NETWORK_RUN = "2026-11-21T11-00-00"


def searched(root: Path, limit: int | None = None) -> tuple[Place, Artifact]:
    """Return a place in which programs answered the first `limit` tasks, and the attempts."""
    made = Place(root, with_llama=False)
    network = made.node
    solver = Solver.model_validate_json(json.dumps({**SOLVER, "proposer": "search"}))
    spec = {"kind": "solve", "with": None, "data": "arc1", "limit": limit, "solver": solver.model_dump(mode="json")}
    made.node = network.model_copy(update={"key": "gl1:searched", "spec": spec, "inputs": {"data": "arc1"}})
    artifact, _ = made.solve()
    made.node = network.model_copy(
        update={
            "spec": {**network.spec, "unless_accepted": "search"},
            "inputs": {**network.inputs, "unless_accepted": "search"},
        }
    )
    made.given = {"unless_accepted": artifact}
    return made, artifact


def unloaded(*_: Any) -> Any:
    raise AssertionError("models are loaded though no task is open")


def test_accepted_tasks_are_not_asked_again(tmp_path: Path) -> None:
    """No model is loaded, no attempt is made; picks and attempts.jsonl are those of the earlier stage."""
    made, first = searched(tmp_path)
    second, shown = made.solve(NETWORK_RUN, load=unloaded)
    assert made.ledger.read(AttemptRecord, run_id=NETWORK_RUN) == []
    assert read_picks(second.path) == read_picks(first.path)
    assert read_attempts(second.path) == read_attempts(first.path)
    assert (second.path / "submission.json").read_bytes() == (first.path / "submission.json").read_bytes()
    picks = made.ledger.read(PickRecord, run_id=NETWORK_RUN)
    assert {pick.accepted for pick in picks} == {True}
    assert len([line for line in map(str, shown.shown) if "accepted after 1 attempt" in line]) == 3
    report = made.score(second, NETWORK_RUN)
    assert (report["pass1"], report["num_accepted_right"]) == (1, 3)


def test_the_other_tasks_are_asked(tmp_path: Path) -> None:
    """A task that the earlier stage did not answer is the network's; running again changes nothing."""
    made, first = searched(tmp_path, limit=2)
    second, _ = made.solve(NETWORK_RUN)
    assert {one.task_id for one in made.ledger.read(AttemptRecord, run_id=NETWORK_RUN)} == {"cccc0003"}
    picks, before = read_picks(second.path), read_picks(first.path)
    assert set(picks) == {"aaaa0001", "bbbb0002", "cccc0003"}
    assert all(picks[task_id] == before[task_id] for task_id in before)
    lines = [(line["task_id"], line["attempt"]) for line in read_attempts(second.path)]
    assert lines == sorted(lines)
    assert lines[:2] == [("aaaa0001", 1), ("bbbb0002", 1)]


def test_attempts_at_other_data_are_refused(tmp_path: Path) -> None:
    made, first = searched(tmp_path)
    meta = json.loads((first.path / "meta.json").read_text())
    with made.store.writing("gl1:other") as out:
        for name in ("picks.json", "attempts.jsonl"):
            (out / name).write_bytes((first.path / name).read_bytes())
        (out / "meta.json").write_text(json.dumps({**meta, "data_digest": "sha256:other"}))
        other = made.store.publish(out, key="gl1:other", type="attempts", kind="solve", producer={}, inputs={})
    made.given = {"unless_accepted": other}
    with pytest.raises(StageError, match="other data"):
        made.solve(NETWORK_RUN, load=unloaded)
    assert made.ledger.read(PickRecord, run_id=NETWORK_RUN) == []
    assert len(made.ledger.read(PickRecord, run_id=RUN)) > 0
