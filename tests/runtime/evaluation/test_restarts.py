"""Restarts of an evaluation: selectors by hand, the plain run is the plain evaluation, counts in report and ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from puzzle_support import SUDOKUS, puzzle_artifact, puzzle_metrics, train_on_puzzles
from train_support import stage_context

from gridloom.compiler.graph import StageNode
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.puzzles.puzzle_set import load_puzzles, solves
from gridloom.runtime.evaluation.puzzles import Evaluate
from gridloom.runtime.evaluation.restarts import RestartTally, Runs, run_restarts
from gridloom.runtime.models.steps import Rows
from gridloom.specs.stages import AdamAtan2, EvaluateStage
from gridloom.stores.artifacts import Artifact


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    train_on_puzzles(root, SUDOKUS, steps=60, batch_size=32, optimizer=AdamAtan2(lr=3e-3))
    return root


def evaluate(root: Path, trained: Path, **fields: Any) -> Any:
    context = stage_context(root)
    spec = EvaluateStage.model_validate({"with": "pretrain", "data": "puzzles", **fields})
    node = StageNode(
        name="judge",
        kind="evaluate",
        version=1,
        produces="evaluation",
        spec=spec.model_dump(mode="json", by_alias=True),
    )
    checkpoint = Artifact("gl1:checkpoint", "checkpoint", trained / "out", {})
    Evaluate().run(node, {"with": checkpoint, "data": puzzle_artifact(trained, SUDOKUS)}, context)
    context.ledger.close()
    return json.loads((root / "out" / "report.json").read_text())


def runs(**columns: Any) -> Runs:
    """Three runs of one row; answers A, B, B."""
    values: dict[str, Any] = {
        "tokens": torch.tensor([[[1, 2]], [[2, 1]], [[2, 1]]], dtype=torch.uint8),
        "q_halt": torch.tensor([[3.0], [1.0], [2.0]]),
        "residual": torch.tensor([[0.5], [0.1], [0.1]]),
        "confidence": torch.tensor([[0.2], [0.9], [0.3]]),
        "loss": torch.zeros(3, 1),
        "solved": torch.tensor([[False], [True], [False]]),
    }
    return Runs(**(values | columns))


@pytest.mark.parametrize(
    ("selector", "taken"), [("q", 0), ("residual", 2), ("confidence", 1), ("rules", 1), ("vote", 2)]
)
def test_a_selector_takes_the_best_run_and_of_equals_the_surest(selector: str, taken: int) -> None:
    assert runs().chosen(selector).tolist() == [taken]


def test_equal_runs_give_the_first_and_without_a_valid_answer_the_surest_is_taken() -> None:
    assert runs(q_halt=torch.zeros(3, 1)).chosen("q").tolist() == [0]
    assert runs(solved=torch.zeros(3, 1, dtype=torch.bool)).chosen("rules").tolist() == [0]
    assert runs(q_halt=torch.tensor([[torch.nan], [1.0], [2.0]])).chosen("q").tolist() == [2]
    assert runs().chosen("rules", 1).tolist() == [0], "only the first run is used"


def test_a_tally_counts_right_answers_of_known_puzzles() -> None:
    tally = RestartTally(3)
    tally.add(runs(), torch.tensor([[2, 1]], dtype=torch.uint8))
    tally.add(runs(), torch.zeros(1, 2, dtype=torch.uint8))
    assert tally.num_puzzles == 1
    assert tally.shares() == {
        "exact_single": 0.0,
        "exact_oracle": 1.0,
        "exact_q": 0.0,
        "exact_residual": 1.0,
        "exact_confidence": 1.0,
        "exact_rules": 1.0,
        "exact_vote": 1.0,
    }
    assert list(tally.numbers()) == [1, 2, 3]


@pytest.mark.parametrize("noise_at", ["start", "every_step"])
def test_the_plain_run_is_the_plain_evaluation_and_further_runs_are_counted(
    tmp_path: Path, trained: Path, noise_at: str
) -> None:
    plain = evaluate(tmp_path / "plain", trained)
    report = evaluate(tmp_path / "again", trained, restarts=3, noise_at=noise_at, noise=0.5, choose="rules")
    again = report["restarts"]
    assert again["exact"]["single"] == plain["exact"]
    assert report["exact"] == again["exact"]["rules"] == again["exact"]["oracle"]
    assert (again["runs"], again["noise"], again["noise_at"], again["choose"]) == (3, 0.5, noise_at, "rules")
    assert report["valid"] >= plain["valid"]
    assert report["mean_act_steps"] == 3 * plain["mean_act_steps"]
    logged = puzzle_metrics(tmp_path / "again", "judge")
    assert logged[60, "exact_single"] == plain["exact"]
    assert logged[60, "exact_oracle"] == again["exact"]["oracle"]
    assert again["exact_by_runs"]["1"]["oracle"] == plain["exact"]


def test_answers_depend_on_the_seed_and_not_on_the_batches(trained: Path) -> None:
    network = load_bundle(trained / "out").network
    arrays = load_puzzles(trained / "puzzles").splits["test"]
    inputs, labels = (torch.from_numpy(np.array(t[:12], dtype=np.uint8)) for t in (arrays.inputs, arrays.labels))
    rows = Rows(inputs, torch.zeros(12, dtype=torch.int64), labels)
    spec = EvaluateStage.model_validate({"with": "a", "data": "b", "restarts": 3})

    def made(first: int, end: int, seed: int = 0) -> Runs:
        return run_restarts(network, rows.part(slice(first, end)), spec, "sudoku", seed=seed, first=first)[1]

    whole, parts = made(0, 12), [made(0, 5), made(5, 12)]
    torch.testing.assert_close(whole.q_halt, torch.cat([part.q_halt for part in parts], dim=1))
    assert torch.equal(whole.q_halt, made(0, 12).q_halt)
    assert torch.equal(whole.q_halt[0], made(0, 12, seed=1).q_halt[0])
    assert not torch.equal(whole.q_halt[1:], made(0, 12, seed=1).q_halt[1:])
    assert bool((whole.q_halt[0] != whole.q_halt[1]).all())
    valid = solves("sudoku", inputs.numpy(), whole.tokens[2].numpy())
    assert whole.solved[2].tolist() == valid.tolist()
