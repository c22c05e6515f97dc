"""Record of latent planning: weights and values of the paths, gate, thoughts, chosen path of rows in each ACT step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gridloom.errors import ModelError
from gridloom.optional_packages import needed
from gridloom.runtime.model_check.loaded import load_engine, questions
from gridloom.runtime.models.engine.network import Engine
from gridloom.runtime.models.steps import Rows
from gridloom.runtime.show.entries import DataEntry


@dataclass(frozen=True, slots=True)
class PathRecord:
    """Planning of one row in one ACT step. P paths, `depth` thoughts each."""

    row: int
    step: int
    """ACT step, from 1."""
    gate: float
    """Gate in [0, 1]; below 0.5 the row skips the planner."""
    planned: bool
    weights: list[float]
    """Weight of each path, summing to 1; zeros for a row that skipped."""
    values: list[float]
    """Value v of each path, the logit of the token accuracy that it is expected to reach."""
    thoughts: list[list[float]]
    """Norm of each thought, by path."""
    chosen: int | None
    """Path of the largest weight, from 0; None for a row that skipped."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def record_paths(network: Engine, rows: Rows) -> list[PathRecord]:
    """Run rows without their labels for all ACT steps; return a record for each step and row.

    A path is chosen by the question alone, so that answers do not change it. Raises ModelError without planning.
    """
    if network.planner is None:
        raise ModelError("this engine has no planning", "train one with  planning: {}")
    network.eval()
    found: list[PathRecord] = []
    carry = network.initial_carry(len(rows.inputs), num_cells=rows.inputs.shape[1])
    question = Rows(rows.inputs, rows.puzzle_ids, None, rows.lengths)
    with torch.no_grad(), network.rounded():
        for step in range(1, network.spec.halt_max_steps + 1):
            carry, output = network.step(question, carry)
            plan = output.plan
            assert plan is not None
            for row in range(len(rows.inputs)):
                planned = bool(plan.planned[row])
                found.append(
                    PathRecord(
                        row=row,
                        step=step,
                        gate=float(plan.gate[row]),
                        planned=planned,
                        weights=plan.weights[row].tolist(),
                        values=plan.values[row].tolist(),
                        thoughts=plan.thoughts[row].tolist(),
                        chosen=int(plan.weights[row].argmax()) if planned else None,
                    )
                )
    return found


def paths_of(
    checkpoint: Path, entry: DataEntry, count: int, split: str = "test", device: str = "cpu"
) -> list[PathRecord]:
    """Record the planning of rows of a data entry. Raises ModelError for a checkpoint that does not fit them."""
    network = load_engine(checkpoint, "does not plan", device)
    return record_paths(network, questions(network, checkpoint, entry, count, split))


def draw_paths(records: list[PathRecord], path: Path) -> None:
    """Draw the weights of the last ACT step as a PNG: a row for each sample, a column for each path, values as text."""
    with needed("matplotlib", "plots", "a drawing of paths", "use --json"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    last = max(record.step for record in records)
    shown = [record for record in records if record.step == last]
    weights = np.array([record.weights for record in shown])
    figure = Figure(figsize=(2 + weights.shape[1], 1 + 0.4 * len(shown)))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(weights, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for y, record in enumerate(shown):
        for x, value in enumerate(record.values):
            ink = "white" if record.weights[x] > 0.6 else "black"
            axes.text(x, y, f"{value:+.2f}" if record.planned else "-", ha="center", va="center", color=ink)
    axes.set_xticks(range(weights.shape[1]), [f"path {number}" for number in range(weights.shape[1])])
    axes.set_yticks(range(len(shown)), [f"row {record.row}, gate {record.gate:.2f}" for record in shown])
    axes.set_title(f"weights (shade) and values of the paths, ACT step {last}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, format="png", metadata={"Software": None})
