"""Training on mazes, sudokus and token sequences: shapes follow the data, runs resume exactly, misfits are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_support import MODEL, STAGE, StopAfter, stage_context, train_node

from gridloom.errors import ModelError, StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.puzzles.puzzle_set import build_puzzles, load_puzzles
from gridloom.runtime.data.puzzles.sampler import PuzzleSampler
from gridloom.runtime.data.sequences.artifact import save_sequences
from gridloom.runtime.data.sequences.tokens import token_layout, token_rows
from gridloom.runtime.evaluation.maze_paths import PathTally
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.recursive.inference import answer
from gridloom.runtime.models.steps import Rows
from gridloom.runtime.training.focus import FOCUS_FIGURES
from gridloom.runtime.training.train import Train
from gridloom.specs.puzzles import (
    AdditionData,
    CopyData,
    MazeData,
    ParityData,
    SortData,
    StringAdditionData,
    SudokuData,
)
from gridloom.specs.stages import AdamAtan2
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SUDOKU = SudokuData(size=4, train=40, test=8)


def artifact(root: Path, spec: Any) -> Artifact:
    folder = root / "data"
    if folder.exists():
        return Artifact("gl1:data", spec.produces, folder, {})
    folder.mkdir(parents=True)
    if spec.produces == "puzzles":
        build_puzzles(spec, root, folder)
    else:
        save_sequences(folder, spec.model_dump(mode="json"))
    return Artifact("gl1:data", spec.produces, folder, {})


def train(root: Path, spec: Any, stop: Any = None, model: Any = MODEL, **changes: Any) -> dict[tuple[int, str], float]:
    context = stage_context(root, stop)
    node = train_node(STAGE.model_copy(update=changes), model)
    Train().run(node, {"data": artifact(root, spec)}, context)
    context.ledger.close()
    rows = Ledger(Workspace(root / "home")).rows("select step, name, value from metrics")
    return {(row["step"], row["name"]): row["value"] for row in rows if row["name"] != "steps_per_s"}


@pytest.mark.parametrize(
    ("spec", "num_cells", "vocabulary"),
    [
        (SUDOKU, 16, 6),
        (MazeData(size=7, train=20, test=5), 49, 6),
        (ParityData(bits=5), 5, 6),
        (CopyData(length=4, symbols=5), 5, 8),
        (StringAdditionData(terms=2, digits=2), 6, 14),
        (AdditionData(numbers=2, digits=2), 6, 12),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_network_takes_length_and_vocabulary_from_the_data(
    tmp_path: Path, spec: Any, num_cells: int, vocabulary: int
) -> None:
    train(tmp_path, spec, steps=1)
    trm = load_bundle(tmp_path / "out").network
    assert (trm.num_cells, trm.vocabulary) == (num_cells, vocabulary)
    assert load_bundle(tmp_path / "out").meta["data"]["kind"] == spec.kind


def test_sudoku_run_that_is_interrupted_resumes_with_equal_losses(tmp_path: Path) -> None:
    model = MODEL.model_copy(update={"mixing": "mlp", "positions": "none"})
    whole = train(tmp_path / "a", SUDOKU, model=model)
    with pytest.raises(StageInterrupted, match="saved"):
        train(tmp_path / "b", SUDOKU, StopAfter(5), model=model)
    assert train(tmp_path / "b", SUDOKU, model=model) == whole
    a, b = (load_bundle(tmp_path / x / "out", weights="raw").network.state_dict() for x in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_path_cells_of_training_mazes_are_counted_over_all_rows_since_the_last_report(tmp_path: Path) -> None:
    """The network that a resumed training continues from counts as one that was never stopped does."""
    mazes = MazeData(size=7, train=20, test=5)
    model: Any = ActRnnModel(hidden_size=8, halt_max_steps=2)
    wanted: dict[str, Any] = {"steps": 6, "log_every": 6, "checkpoint_every": 2, "optimizer": AdamAtan2(lr=1e-9)}
    whole = train(tmp_path / "a", mazes, model=model, **wanted)
    with pytest.raises(StageInterrupted, match="saved"):
        train(tmp_path / "b", mazes, StopAfter(3), model=model, **wanted)
    assert train(tmp_path / "b", mazes, model=model, **wanted) == whole
    bundle, tally = load_bundle(tmp_path / "a" / "out"), PathTally()  # at such a rate the weights stay as they are
    sampler = PuzzleSampler(load_puzzles(artifact(tmp_path / "a", mazes).path), train_node(STAGE, model).seed)
    for step in range(6):
        batch = sampler.batch(step, STAGE.batch_size)
        inputs, ids = torch.from_numpy(batch.inputs), torch.from_numpy(batch.puzzle_ids)
        tally.add(batch.inputs, bundle.network.answer(Rows(inputs, ids)).tokens.numpy(), batch.labels)
    assert 0 < tally.num_marked < tally.num_path * 20
    for name in FOCUS_FIGURES:
        assert whole[6, name] == pytest.approx(tally.shares()[name], rel=1e-6)
    assert "focus_f1" not in {name for _, name in train(tmp_path / "c", SUDOKU, model=model, steps=1)}


def test_parity_is_learnt(tmp_path: Path) -> None:
    model = MODEL.model_copy(update={"halt_max_steps": 2})
    logged = train(
        tmp_path,
        ParityData(bits=2),
        model=model,
        steps=150,
        batch_size=32,
        log_every=50,
        ema=0.9,
        optimizer=AdamAtan2(lr=2e-3),
        checkpoint_every=150,
    )
    assert logged[150, "exact_match"] > 0.95


def test_sudoku_checkpoint_is_refused_for_mazes(tmp_path: Path) -> None:
    train(tmp_path / "a", SUDOKU, steps=1)
    checkpoint = Artifact("gl1:first", "checkpoint", tmp_path / "a" / "out", {})
    mazes = artifact(tmp_path / "b", MazeData(size=7, train=20, test=5))
    with pytest.raises(ModelError, match=r"trained on sudoku data, wanted maze; canvas is 4, wanted 7"):
        Train().run(train_node(), {"data": mazes, "model": checkpoint}, stage_context(tmp_path / "b"))


def test_rows_of_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="sort rows are numbers, not tokens"):
        train(tmp_path, SortData(length=3))


def test_addition_lines_hold_the_running_sum() -> None:
    spec = AdditionData(numbers=3, digits=2)
    layout = token_layout(spec)
    assert layout is not None
    rows = token_rows(spec, 0, 50)
    width = layout.num_cells // 3
    for asked, told in zip(rows.inputs.reshape(50, 3, width), rows.labels.reshape(50, 3, width), strict=True):
        numbers = [int("".join(str(t - 1) for t in line if t)) for line in asked.tolist()]
        assert not told[0].any()
        for i in (1, 2):
            digits = [t - 1 for t in told[i].tolist() if 0 < t < 11]
            assert int("".join(map(str, digits))) == sum(numbers[: i + 1])


def test_parity_answer_counts_the_ones() -> None:
    rows = token_rows(ParityData(bits=6), 3, 64)
    assert np.array_equal(rows.labels[:, 0], 4 + (rows.inputs == 3).sum(axis=1) % 2)
    assert not rows.labels[:, 1:].any()


def test_generated_puzzles_have_no_padding_among_their_labels(tmp_path: Path) -> None:
    puzzles = load_puzzles(artifact(tmp_path, SUDOKU).path)
    assert puzzles.splits["train"].labels.min() > 1
    assert puzzles.splits["train"].labels.max() < puzzles.vocab


@pytest.mark.slow
def test_eight_sudokus_are_learnt_by_heart_in_two_hundred_steps(tmp_path: Path) -> None:
    """As the original does with these sizes, in 69 s of two cores."""
    model = MODEL.model_copy(
        update={
            "hidden_size": 64,
            "layers": 2,
            "L_cycles": 2,
            "expansion": 2.0,
            "halt_max_steps": 8,
            "mixing": "mlp",
            "positions": "none",
        }
    )
    train(
        tmp_path,
        SudokuData(train=8, test=0, shuffle=False),
        model=model,
        steps=200,
        optimizer=AdamAtan2(lr=1e-3),
        warmup_steps=5,
        checkpoint_every=200,
        log_every=50,
    )
    rows = load_puzzles(tmp_path / "data").splits["train"]
    found = answer(
        load_bundle(tmp_path / "out").network,
        torch.from_numpy(np.array(rows.inputs)),
        torch.zeros(8, dtype=torch.int64),
    )
    assert torch.equal(found.tokens, torch.from_numpy(np.array(rows.labels)))
