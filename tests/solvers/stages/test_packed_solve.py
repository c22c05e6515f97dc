"""A solve with a network of packed rows, from a spec to a replay: train, evaluate, solve, score, replay bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gridloom
from gridloom.runtime.quick.evaluation_spec import STAGE, evaluation_spec
from gridloom.stores.workspace import Workspace

SIZES = [(2, 3), (5, 4), (1, 6), (7, 7)]
MODEL = {
    "kind": "trm",
    "hidden_size": 32,
    "num_heads": 2,
    "layers": 1,
    "H_cycles": 1,
    "L_cycles": 2,
    "positions": "rope_2d",
    "puzzle_embedding": "task_view",
    "puzzle_embedding_len": 11,
    "halt_max_steps": 3,
}


def spec(tasks: Path, precision: str, most: int) -> dict[str, Any]:
    """Return a spec that trains a tiny network on packed rows and solves with it."""
    settings = {"max_attempts": most, "views": 3, "in_flight": 3, "verifier": {"leave_one_out": 0}}
    data = {"kind": "arc", "source": str(tasks), "rows": "packed", "augment": {"copies": 3}}
    train = {"kind": "train", "model": "trm", "data": "own", "steps": 6, "batch_size": 6, "batch_tokens": 200}
    # large updates without an average, so that the halting scores leave their first value
    train |= {"ema": 0.0, "warmup_steps": 0, "optimizer": {"kind": "adam_atan2", "lr": 1e-2}}
    return {
        "gridloom": 1,
        "name": "packed",
        "device": "cpu",
        "data": {"own": data},
        "models": {"trm": {**MODEL, "precision": precision}},
        "stages": {
            "learn": train,
            "judge": {"kind": "evaluate", "with": "learn", "data": "own", "early_stop": False},
            "solve": {"kind": "solve", "with": "learn", "data": "own", "solver": settings},
            "score": {"kind": "score", "attempts": "solve"},
        },
    }


def predictions(ledger: gridloom.Workspace, run: str, stage: str) -> dict[tuple[str, str], float]:
    """Return the halting score of each task's test input under each view that voted."""
    wanted = "select task_id, view, q_halt from predictions where run_id = ? and starts_with(stage, ?)"
    return {(task, view): score for task, view, score in ledger.sql(wanted, [run, stage]).fetchall()}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four tasks whose outputs are mirrored inputs, each on grids of a size of its own."""
    folder, rng = tmp_path_factory.mktemp("packed") / "tasks", np.random.default_rng(0)
    folder.mkdir()
    for number, size in enumerate(SIZES):
        grids = rng.integers(0, 10, (4, *size))
        pairs = [{"input": grid.tolist(), "output": grid[:, ::-1].tolist()} for grid in grids]
        (folder / f"size{number}.json").write_text(json.dumps({"train": pairs[:3], "test": pairs[3:]}))
    return folder


@pytest.mark.parametrize(("precision", "most"), [("fp32", 2), ("bf16", 1)])
def test_attempts_on_packed_rows_are_scored_and_replay_bit_for_bit(
    tmp_path: Path, tasks: Path, precision: str, most: int
) -> None:
    home = tmp_path / "home"
    result = gridloom.run(spec(tasks, precision, most), home=home)
    assert result["judge"].report["num_tasks"] == len(SIZES)
    assert result["score"].report["num_tasks"] == len(SIZES)
    ledger = gridloom.workspace(home)
    attempts = ledger.attempts(run=result.run_id)
    assert {attempt.task.task_id for attempt in attempts} == {f"size{n}" for n in range(len(SIZES))}
    for attempt in attempts:
        replayed = ledger.replay(attempt.name)
        assert replayed.equal, str(replayed)
    # the checkpoint's folder, evaluated without a spec, answers on the same rows
    asked = evaluation_spec(str(result["learn"].path), str(tasks), Workspace(home)).text
    second = gridloom.run(json.loads(asked.text), home=home)
    first, later = (
        predictions(ledger, run, stage) for run, stage in ((result.run_id, "judge"), (second.run_id, STAGE))
    )
    assert later
    assert later == pytest.approx({key: first[key] for key in later}, abs=1e-5)
    assert max(first.values()) - min(first.values()) > 1e-4, "rows of other sizes have other scores"
