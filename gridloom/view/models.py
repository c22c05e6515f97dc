"""Networks that pages run: attempts played again, checkpoints stepped through; one at a time, the last two kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from gridloom.errors import DataError, GridloomError, ModelError
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.workspace import Workspace
from gridloom.view.reader import find_artifact, reading_ledger

if TYPE_CHECKING:
    from gridloom.runtime.checkpoints.bundle import Bundle
    from gridloom.solvers.replay.playback import Playback
    from gridloom.solvers.replay.replay import Replayer

KEPT = 2
"""Checkpoints, datasets and replayers that stay in memory."""
MOST_STEPS = 64
SHIPPED = "shipped:"
MAZE_COLOURS = {"#": 0, " ": 10, "S": 3, "G": 2, "o": 7}
"""Number of the script's palette for each character of a maze."""
PAD_COLOUR = 5


@dataclass(frozen=True, slots=True)
class Stepped:
    """Answers of a checkpoint to one item after each ACT step."""

    label: str
    question: list[list[int]]
    answer: list[list[int]] | None
    """Right answer; None where it is held out or not known."""
    frames: list[list[list[int]]]
    halting: list[float]
    """Halting probability after each step."""
    changed: list[int]
    """Cells that changed in each step."""
    confidence: list[float]
    residual: list[float] | None
    letters: str = ""
    """Character of each value, for puzzles of digits; empty where values are colours."""
    paths: list[dict[str, Any]] | None = None
    """For each step of an engine that plans: weights, values, thought norms of its paths and its gate."""


class Networks:
    """Networks of a workspace. Calls are serialised, since each may use all cores and much memory."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._replayer: Replayer | None = None

    def play(self, attempt: str) -> Playback:
        """Return the ACT steps of an attempt. Raises GridloomError."""
        with self._lock:
            from gridloom.solvers.replay.playback import play
            from gridloom.solvers.replay.replay import Replayer

            if self._replayer is None or self._replayer.num_loaded >= KEPT:
                # with the settings of the pages' connection: a process opens a DuckDB file with one set of settings
                self._replayer = Replayer(self.workspace, ledger=reading_ledger(self.workspace))
            return play(self._replayer, attempt)

    def step(
        self, checkpoint: str, dataset: str, item: int, weights: Literal["use", "raw"], steps: int | None
    ) -> tuple[Stepped, dict[str, Any]]:
        """Return a checkpoint's answers to an item of a dataset, and facts of both.

        Args:
            checkpoint: key of an artifact, or `shipped:NAME`.
            dataset: key of a dataset or puzzle set of the workspace.
            item: number of the test input or puzzle, from 0.
            weights: `use` for the average that training kept, `raw` for the weights after the last step.
            steps: ACT steps; None for the network's own number.

        Raises:
            GridloomError: no such checkpoint, dataset or item, or one that does not fit the other.
        """
        if steps is not None and not 1 <= steps <= MOST_STEPS:
            raise GridloomError(f"{steps} ACT steps", f"1 to {MOST_STEPS}")
        with self._lock:
            bundle = self._bundle(checkpoint, weights)
            found = self._artifact(dataset)
            if found.type == "dataset":
                return self._step_arc(bundle, found, item, steps)
            if found.type == "puzzles":
                return self._step_puzzle(bundle, found, item, steps)
            raise GridloomError(
                f"{found.type} {dataset} cannot be drawn as grids", "choose ARC tasks, mazes or sudokus"
            )

    def _once(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > 2 * KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _artifact(self, key: str) -> Artifact:
        found = find_artifact(self.workspace, key)
        if found is None:
            raise GridloomError(f"no artifact {key} in {self.workspace.root}", "run its stage again")
        return found

    def _bundle(self, checkpoint: str, weights: Literal["use", "raw"]) -> Bundle:
        from gridloom.runtime.checkpoints.bundle import load_bundle
        from gridloom.runtime.checkpoints.description import checkpoint_folder

        def load() -> Bundle:
            if checkpoint.startswith(SHIPPED):
                folder = checkpoint_folder(checkpoint, ".")
            else:
                artifact = self._artifact(checkpoint)
                if artifact.type != "checkpoint":
                    raise ModelError(f"{checkpoint} is a {artifact.type}, no checkpoint", "choose a checkpoint")
                ArtifactStore(self.workspace).verify(artifact)
                folder = artifact.path
            return load_bundle(folder, weights=weights)

        made: Bundle = self._once(("bundle", checkpoint, weights), load)
        return made

    def _step_arc(
        self, bundle: Bundle, artifact: Artifact, item: int, steps: int | None
    ) -> tuple[Stepped, dict[str, Any]]:
        from gridloom.runtime.data.arc.dataset import load_dataset
        from gridloom.runtime.data.arc.tokens import crop_batch, encode
        from gridloom.runtime.data.arc.views import IDENTITY
        from gridloom.runtime.data.files.grids import rows
        from gridloom.runtime.data.tasks import fitting_canvas

        _expect(bundle, "arc")
        if bundle.network.packed:
            raise ModelError(
                "this checkpoint reads packed rows, which are not drawn step by step",
                "choose another, or play an attempt of it: page Tasks",
            )
        data = self._once(("data", artifact.key), lambda: load_dataset(artifact.path))
        items = [(task, number) for task in data.tasks for number in range(len(task.tests) + len(task.known))]
        if not 0 <= item < len(items):
            raise DataError(f"no test input {item + 1}: there are {len(items)}", "choose a smaller number")
        task, number = items[item]
        known = number >= len(task.tests)
        pair = task.known[number - len(task.tests)] if known else None
        question = task.tests[number] if pair is None else pair.input
        canvas = fitting_canvas(task, bundle.network.sides)
        identity = bundle.puzzle_ids.index.get(IDENTITY.name(task.task_id), 0)
        followed, paths = _follow(bundle, encode(question, canvas)[None], identity, steps)
        tokens = followed.tokens[:, 0].cpu().numpy()
        frames = [rows(crop) for crop in crop_batch(tokens, canvas)]
        answer = None if pair is None else rows(pair.output)
        label = f"task {task.task_id}, test {number + 1}"
        made = _stepped(label, rows(question), answer, frames, followed, tokens, "", paths)
        notes = [] if identity else ["this task has no puzzle id in the checkpoint: it runs under the blank id"]
        return made, _facts(bundle, len(items)) | {"notes": notes}

    def _step_puzzle(
        self, bundle: Bundle, artifact: Artifact, item: int, steps: int | None
    ) -> tuple[Stepped, dict[str, Any]]:
        from gridloom.runtime.data.puzzles.puzzle_set import load_puzzles

        puzzles = self._once(("data", artifact.key), lambda: load_puzzles(artifact.path))
        _expect(bundle, puzzles.kind)
        split = puzzles.splits.get("test") or next(iter(puzzles.splits.values()))
        if not 0 <= item < len(split.inputs):
            raise DataError(f"no puzzle {item + 1}: there are {len(split.inputs)}", "choose a smaller number")
        question, label = split.inputs[item], split.labels[item]
        followed, paths = _follow(bundle, question[None].copy(), 0, steps)
        tokens = followed.tokens[:, 0].cpu().numpy()

        def drawn(cells: Any) -> list[list[int]]:
            values = [_colour(puzzles.kind, int(value)) for value in cells]
            return [values[at : at + puzzles.size] for at in range(0, puzzles.size**2, puzzles.size)]

        answer = drawn(label) if label.any() else None
        letters = "? 123456789" if puzzles.kind == "sudoku" else ""
        frames = [drawn(one) for one in tokens]
        made = _stepped(f"{puzzles.kind} {item + 1}", drawn(question), answer, frames, followed, tokens, letters, paths)
        return made, _facts(bundle, len(split.inputs)) | {"notes": []}


def _colour(kind: str, token: int) -> int:
    from gridloom.runtime.data.puzzles.tables import MAZE_TOKENS

    if kind == "sudoku":
        return token
    return MAZE_COLOURS[MAZE_TOKENS[token - 1]] if 1 <= token <= len(MAZE_TOKENS) else PAD_COLOUR


def _expect(bundle: Bundle, kind: str) -> None:
    from gridloom.runtime.checkpoints.description import data_kind

    if data_kind(bundle.meta) != kind:
        raise ModelError(f"this checkpoint was trained on {data_kind(bundle.meta)} data, not {kind}", "choose another")


def _follow(bundle: Bundle, inputs: Any, puzzle_id: int, steps: int | None) -> tuple[Any, list[dict[str, Any]] | None]:
    """Return the followed steps of one row, and the paths of each step for an engine that plans."""
    import torch

    from gridloom.runtime.models.engine.planning import Planner
    from gridloom.runtime.models.steps import Rows

    network = bundle.network
    problems = network.rows
    if inputs.shape[1] != problems.cells and not network.sides:
        raise ModelError(f"rows of {inputs.shape[1]} cells, the checkpoint reads {problems.cells}", "choose another")
    plans: list[dict[str, Any]] = []

    def note(_module: Any, _inputs: Any, plan: Any) -> None:
        plans.append(
            {
                "weights": plan.weights[0].tolist(),
                "values": plan.values[0].tolist(),
                "gate": float(plan.gate[0]),
                "thoughts": plan.thoughts[0].tolist(),
                "planned": bool(plan.planned[0]),
            }
        )

    planners = [module for module in network.modules() if isinstance(module, Planner)]
    hooks = [planner.register_forward_hook(note) for planner in planners]
    rows = Rows(torch.from_numpy(inputs), torch.tensor([puzzle_id], dtype=torch.int64))
    try:
        return network.follow(rows, steps), plans if planners else None
    finally:
        for hook in hooks:
            hook.remove()


def _stepped(
    label: str,
    question: list[list[int]],
    answer: list[list[int]] | None,
    frames: list[list[list[int]]],
    followed: Any,
    tokens: Any,
    letters: str,
    paths: list[dict[str, Any]] | None,
) -> Stepped:
    changed = [tokens.shape[1], *(int((a != b).sum()) for a, b in pairwise(tokens))]
    residual = None if followed.residual is None else followed.residual[:, 0].float().tolist()
    halting = followed.q_halt[:, 0].sigmoid().float().tolist()
    confidence = followed.confidence[:, 0].float().tolist()
    return Stepped(label, question, answer, frames, halting, changed, confidence, residual, letters, paths)


def _facts(bundle: Bundle, items: int) -> dict[str, Any]:
    spec = bundle.network.spec
    return {
        "kind": spec.kind,
        "parameters": sum(parameter.numel() for parameter in bundle.network.parameters()),
        "steps_trained": bundle.meta.get("steps"),
        "halt_max_steps": spec.halt_max_steps,
        "has_raw": bundle.raw is not None,
        "items": items,
        "spec": spec.model_dump(mode="json"),
    }
