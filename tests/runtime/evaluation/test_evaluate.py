"""The evaluate stage: counts whole grids and cells on test puzzles, names its checkpoint, refuses what does not fit."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_counter import count_graphs
from hashed_files import manifest_of
from puzzle_support import MAZES, SUDOKUS, puzzle_artifact, puzzle_metrics, train_on_puzzles
from rich.console import Console
from train_support import StopAfter, stage_context

from gridloom.cli.show.run_results import print_results
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import DataError, ModelError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.puzzles.puzzle_file import puzzle_text
from gridloom.runtime.data.puzzles.puzzle_set import build_puzzles, load_puzzles
from gridloom.runtime.evaluation.described import elect
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.runtime.evaluation.puzzles import Evaluate, Tally
from gridloom.runtime.execution.run_outcome import RunResult
from gridloom.runtime.models.recursive.inference import answer, trace
from gridloom.runtime.models.recursive.losses import log_stablemax, row_losses
from gridloom.runtime.models.steps import Halting
from gridloom.specs.puzzles import SudokuData
from gridloom.specs.stages import AdamAtan2, EvaluateStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that gets many cells right, and the puzzles it was trained on."""
    root = tmp_path_factory.mktemp("trained")
    train_on_puzzles(root, SUDOKUS, steps=60, batch_size=32, optimizer=AdamAtan2(lr=3e-3))
    return root


def evaluate(
    root: Path,
    trained: Path,
    *,
    data: Artifact | None = None,
    stop: Any = None,
    members: tuple[Artifact, ...] = (),
    **fields: Any,
) -> Any:
    context = stage_context(root, stop)
    fields |= {"ensemble": tuple(member.path.parent.name for member in members)}
    spec = EvaluateStage.model_validate({"with": "pretrain", "data": "puzzles", **fields})
    node = StageNode(
        name="judge", kind="evaluate", version=1, produces="report", spec=spec.model_dump(mode="json", by_alias=True)
    )
    inputs = {
        "with": Artifact("gl1:checkpoint", "checkpoint", trained / "out", {}),
        **{f"ensemble.{i}": member for i, member in enumerate(members)},
        "data": puzzle_artifact(trained, SUDOKUS) if data is None else data,
    }
    Evaluate().run(node, inputs, context)
    context.ledger.close()
    return json.loads((root / "out" / "report.json").read_text())


def test_a_compiled_network_answers_alike(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = evaluate(tmp_path / "plain", trained, batch_size=7)
    graphs = count_graphs(monkeypatch)
    assert evaluate(tmp_path / "compiled", trained, batch_size=7, compile="on") == plain
    assert len(graphs) == 1, "the last batch, of fewer rows, takes the same graph"


def test_counts_equal_those_of_a_plain_run(tmp_path: Path, trained: Path) -> None:
    report = evaluate(tmp_path, trained, batch_size=7)
    arrays = load_puzzles(trained / "puzzles").splits["test"]
    inputs, labels = (np.array(table) for table in (arrays.inputs, arrays.labels))
    network = load_bundle(trained / "out").network
    answers = trace(network, torch.from_numpy(inputs), torch.zeros(len(inputs), dtype=torch.int64)).tokens.numpy()
    assert report["num_puzzles"] == 30
    assert report["num_exact"] == (answers == labels).all(axis=1).sum()
    assert report["cell_accuracy"] == pytest.approx((answers == labels).mean())
    assert report["open_cell_accuracy"] == pytest.approx((answers == labels)[inputs == 1].mean())
    assert report["cell_accuracy"] > 0.3  # better than chance: the sums compare something
    assert report["exact_interval"] == pytest.approx(wilson(report["exact"], 30))


def test_ensemble_answers_what_most_members_say_and_names_them(tmp_path: Path, trained: Path) -> None:
    more = []
    for name, steps in (("second", 30), ("third", 25)):
        train_on_puzzles(tmp_path / name, SUDOKUS, steps=steps, batch_size=32, optimizer=AdamAtan2(lr=3e-3))
        more.append(Artifact(f"gl1:{name}", "checkpoint", tmp_path / name / "out", {}))
    report = evaluate(tmp_path / "all", trained, members=tuple(more), batch_size=11)
    arrays = load_puzzles(trained / "puzzles").splits["test"]
    inputs, labels = (torch.from_numpy(np.array(table)) for table in (arrays.inputs, arrays.labels))
    folders = [trained / "out", *(member.path for member in more)]
    traces = [trace(load_bundle(at).network, inputs, torch.zeros(len(inputs), dtype=torch.int64)) for at in folders]
    right = torch.stack([trace.tokens == labels for trace in traces])
    tokens = torch.stack([trace.tokens for trace in traces])
    chosen = []
    for row in range(len(labels)):
        said = [bytes(tokens[m, row].tolist()) for m in range(3)]
        halting = [float(torch.sigmoid(trace.q_halt[-1, row])) for trace in traces]

        def standing(m: int, said: list[bytes] = said, halting: list[float] = halting) -> tuple[int, float]:
            who = [n for n in range(3) if said[n] == said[m]]
            return len(who), sum(halting[n] for n in who) / len(who)

        chosen.append(max(range(3), key=standing))
    assert set(chosen) != {0}  # not simply the first
    voted = right[torch.tensor(chosen), torch.arange(len(labels))]
    assert report["cell_accuracy"] == pytest.approx(float(voted.double().mean()))
    assert report["num_exact"] == int(voted.all(dim=1).sum())
    assert [one["checkpoint"] for one in report["evaluated"]["ensemble"]] == [
        "gl1:checkpoint",
        "gl1:second",
        "gl1:third",
    ]
    alone = right.double().mean(dim=(1, 2)).tolist()
    assert [one["cell_accuracy"] for one in report["members"]] == pytest.approx(alone)
    assert report["mean_act_steps"] == 3


def test_majority_outweighs_confidence_and_confidence_breaks_ties() -> None:
    tokens = torch.tensor([[[1, 2], [1, 2]], [[3, 4], [3, 4]], [[3, 4], [5, 6]]], dtype=torch.uint8)
    q_halt = torch.tensor([[9.0, -1.0], [-9.0, 2.0], [-9.0, 1.0]])
    voted, logit = elect(tokens, q_halt)
    assert voted.tolist() == [[3, 4], [3, 4]]
    assert logit.tolist() == pytest.approx([-9.0, 2.0])


def test_report_names_the_checkpoint_and_the_ledger_has_the_metrics(tmp_path: Path, trained: Path) -> None:
    report = evaluate(tmp_path, trained, limit=12)
    assert report["evaluated"] == {"checkpoint": "gl1:checkpoint", "stage": "pretrain", "steps": 60, "act_steps": 3}
    assert (report["num_puzzles"], report["data"]["available"]) == (12, 30)
    logged = puzzle_metrics(tmp_path, "judge")
    assert logged[60, "num_puzzles"] == 12
    assert logged[60, "cell_accuracy"] == report["cell_accuracy"]


def test_the_earlier_scripts_file_holds_its_four_figures(tmp_path: Path, trained: Path) -> None:
    report = evaluate(tmp_path, trained, limit=12)
    figures = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    arrays = load_puzzles(trained / "puzzles").splits["test"]
    inputs, labels = (torch.from_numpy(np.array(table[:12])) for table in (arrays.inputs, arrays.labels))
    network = load_bundle(trained / "out").network
    with torch.no_grad():
        carry = network.initial_carry(12)
        for _ in range(3):
            carry, output = network.act_step(carry, inputs, torch.zeros(12, dtype=torch.int64), labels=labels)
            carry = replace(carry, halted=torch.zeros_like(carry.halted))
        wanted = row_losses(network, output, labels).lm.mean()
    assert figures == {
        "accuracy": report["exact"],
        "avg_loss": pytest.approx(float(wanted), rel=1e-4),
        "avg_steps": 3.0,
        "total_examples": 12,
    }


@pytest.mark.parametrize("halt", ["score", "unchanged"])
def test_loss_is_of_the_step_that_a_row_halted_with(tmp_path: Path, trained: Path, halt: str) -> None:
    arrays = load_puzzles(trained / "puzzles").splits["test"]
    inputs, labels = (torch.from_numpy(np.array(table[:9])) for table in (arrays.inputs, arrays.labels))
    evaluate(tmp_path, trained, limit=9, halt=halt)
    told = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    network, ids = load_bundle(trained / "out").network, torch.zeros(9, dtype=torch.int64)
    steps = answer(network, inputs, ids, None, Halting(halt)).steps  # type: ignore[arg-type]
    losses = []
    for row, step in enumerate(steps.tolist()):
        alone: list[float] = []
        answer(
            network,
            inputs[row : row + 1],
            ids[:1],
            step,
            loss=lambda logits, _, row=row, alone=alone: (
                alone.append(float(torch.nn.functional.nll_loss(log_stablemax(logits)[0], labels[row].long())))
                or torch.zeros(1)
            ),
        )
        losses.append(alone[-1])
    assert told["avg_loss"] == pytest.approx(sum(losses) / 9, rel=1e-4)


def test_run_ends_with_a_line_that_says_how_many_were_right(tmp_path: Path, trained: Path) -> None:
    report = evaluate(tmp_path, trained, limit=12)
    node = StageNode(name="judge", kind="evaluate", version=1, produces="report", spec={})
    made = Artifact("gl1:report", "report", tmp_path / "out", manifest_of(tmp_path / "out"))
    result = RunResult("run", ("judge",), (), {"judge": made}, 1.0)
    graph = RunGraph(name="puzzles", seed=0, device="cpu", nodes=(node,))
    shown = io.StringIO()
    console = Console(file=shown, width=120)
    print_results(console, result, graph, Workspace(tmp_path / "home"), show_tasks=False, quiet=False)
    assert "judge  sudoku 4x4, 12 of 30 test puzzles, checkpoint gl1:checkpoi (step 60)" in shown.getvalue()
    assert f"exact {report['exact']:.1%} [" in shown.getvalue()


def test_tally_counts_whole_grids_open_cells_and_halting() -> None:
    tally = Tally()
    inputs = torch.tensor([[1, 2, 3, 0], [1, 1, 3, 0]], dtype=torch.uint8)
    labels = torch.tensor([[4, 2, 3, 0], [4, 2, 3, 0]], dtype=torch.uint8)
    answers = torch.tensor([[4, 2, 3, 9], [4, 5, 3, 0]], dtype=torch.uint8)
    tally.add(answers, torch.tensor([1.0, 2.0]), inputs, labels)
    assert tally.shares() == {
        "exact": 0.5,
        "cell_accuracy": 5 / 6,
        "open_cell_accuracy": 2 / 3,
        "halting_accuracy": 0.5,
    }


def test_stop_signal_leaves_no_report(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(StageInterrupted, match="judge stopped by SIGTERM at puzzle 10 of 30"):
        evaluate(tmp_path, trained, batch_size=10, stop=StopAfter(1))
    assert not (tmp_path / "out" / "report.json").exists()


def test_other_sizes_and_empty_splits_are_refused(tmp_path: Path, trained: Path) -> None:
    mazes = puzzle_artifact(tmp_path / "maze", MAZES)
    with pytest.raises(ModelError, match="trained on sudoku data, wanted maze; canvas is 4, wanted 7"):
        evaluate(tmp_path, trained, data=mazes)
    larger = puzzle_artifact(tmp_path / "6", SUDOKUS.model_copy(update={"size": 6}))
    with pytest.raises(ModelError, match="canvas is 4, wanted 6; vocabulary is 6, wanted 8"):
        evaluate(tmp_path, trained, data=larger)
    empty = puzzle_artifact(tmp_path / "0", SUDOKUS.model_copy(update={"test": 0}))
    with pytest.raises(DataError, match="no test puzzles"):
        evaluate(tmp_path, trained, data=empty)


def test_every_answer_stands_in_the_ledger_beside_its_puzzle(tmp_path: Path, trained: Path) -> None:
    report = evaluate(tmp_path, trained, batch_size=7)
    arrays = load_puzzles(trained / "puzzles").splits["test"]
    rows = Ledger(Workspace(tmp_path / "home")).rows("from puzzle_predictions order by puzzle")
    assert [row["puzzle"] for row in rows] == list(range(30))
    for row, inputs, labels in zip(rows, arrays.inputs, arrays.labels, strict=True):
        assert row["question"] == puzzle_text("sudoku", inputs.tolist())
        right = puzzle_text("sudoku", labels.tolist())
        assert row["exact"] == (row["prediction"] == right)
        assert row["cells_right"] == sum(a == b for a, b in zip(row["prediction"], right, strict=True))
        assert row["valid"] or not row["exact"]
        assert (row["num_cells"], row["size"], row["act_steps"]) == (16, 4, 3)
    assert sum(row["exact"] for row in rows) == report["num_exact"]
    assert sum(row["valid"] for row in rows) == report["num_valid"]


def test_a_file_whose_answers_are_not_known_is_answered_and_judged_by_its_rules(tmp_path: Path, trained: Path) -> None:
    arrays = load_puzzles(trained / "puzzles").splits["test"]
    asked, right = (
        [puzzle_text("sudoku", row.tolist()) for row in table[:6]] for table in (arrays.inputs, arrays.labels)
    )
    known = [*(f"{question} {answer}" for question, answer in zip(asked[:2], right[:2], strict=True)), *asked[2:]]
    reports = {}
    for name, lines in (("some", known), ("none", asked)):
        root = tmp_path / name
        (root / "set").mkdir(parents=True)
        (root / "mine.txt").write_text("\n".join(lines))
        build_puzzles(SudokuData(source="mine.txt"), root, root / "set")
        reports[name] = evaluate(root, trained, data=Artifact("gl1:mine", "puzzles", root / "set", {}))
        rows = Ledger(Workspace(root / "home")).rows("from puzzle_predictions order by puzzle")
        unknown = [row["puzzle"] for row in rows if row["exact"] is None and row["cells_right"] is None]
        assert unknown == ([2, 3, 4, 5] if name == "some" else list(range(6)))
        assert sum(row["valid"] for row in rows) == reports[name]["num_valid"]
    assert (reports["some"]["num_puzzles"], reports["some"]["num_unanswered"]) == (2, 4)
    assert reports["none"]["num_puzzles"] == 0
    assert not {"exact", "cell_accuracy", "exact_interval"} & set(reports["none"])
    assert not (tmp_path / "none" / "out" / "eval_results.json").exists()
