"""Small generated mazes and sudokus, and a tiny TRM to train on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train_support import MODEL, STAGE, stage_context, train_node

from gridloom.runtime.data.puzzles.puzzle_set import build_puzzles
from gridloom.runtime.training.train import Train
from gridloom.specs.puzzles import MazeData, SudokuData
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SUDOKUS = SudokuData(size=4, train=40, test=30)
MAZES = MazeData(size=7, train=20, test=10)
PUZZLE_MODEL = MODEL.model_copy(update={"mixing": "mlp", "positions": "none"})
PUZZLE_STAGE = STAGE.model_copy(update={"data": "puzzles"})


def puzzle_artifact(root: Path, data: MazeData | SudokuData) -> Artifact:
    """Generate the puzzles into ROOT/puzzles unless they are there."""
    folder = root / "puzzles"
    if not folder.exists():
        folder.mkdir(parents=True)
        build_puzzles(data, root, folder)
    return Artifact("gl1:puzzles", "puzzles", folder, {})


def train_on_puzzles(root: Path, data: MazeData | SudokuData, **changes: Any) -> dict[tuple[int, str], float]:
    """Run a train stage under ROOT; return its metrics by step and name."""
    context = stage_context(root, changes.pop("stop", None))
    node = train_node(PUZZLE_STAGE.model_copy(update=changes), PUZZLE_MODEL)
    Train().run(node, {"data": puzzle_artifact(root, data)}, context)
    context.ledger.close()
    return puzzle_metrics(root)


def puzzle_metrics(root: Path, stage: str = "pretrain") -> dict[tuple[int, str], float]:
    """The ledger's metrics of a stage, but for speed."""
    rows = Ledger(Workspace(root / "home")).rows("select step, name, value from metrics where stage = ?", [stage])
    return {(row["step"], row["name"]): row["value"] for row in rows if row["name"] != "steps_per_s"}
