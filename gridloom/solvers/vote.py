"""The first half of an evaluation on ARC tasks: a checkpoint answers every test input under many views, which vote.

Nothing here can read an answer. Rows run view by view, so that every test input has votes early; the votes of each
batch are kept before the next one runs, and a killed stage goes on behind the last of them.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gridloom.compiler.graph import StageNode
from gridloom.errors import ModelError, StageError, StageInterrupted
from gridloom.runtime.data.dataset import Dataset, held_out_tasks, load_dataset
from gridloom.runtime.data.tasks import Grid, Task, fitting_canvas
from gridloom.runtime.data.tokens import crop_back, crop_batch, encode_batch
from gridloom.runtime.data.views import IDENTITY, View
from gridloom.runtime.models.bundle import Bundle, load_bundle, require
from gridloom.runtime.models.inference import Halting, answer
from gridloom.runtime.stage import StageContext
from gridloom.runtime.training.evaluate import halting_facts
from gridloom.solvers import outputs
from gridloom.solvers.ballots import Ballots
from gridloom.solvers.known_views import known_views
from gridloom.solvers.types import rows
from gridloom.specs.stages import EvaluateStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.records import PredictionRecord

VOTES = "votes.json"
FORMAT_VERSION = 1
_SAVED = "batches.jsonl"


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A test input and the views that vote on it."""

    task: Task
    test_index: int
    views: tuple[View, ...]
    """The identity first."""
    puzzle_ids: tuple[int, ...]
    """The network's id of the task under each view; 0 for one it has never seen."""
    ballots: Ballots
    canvas: int
    """Side of the canvas that it is laid on."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one view of one test input gave."""

    target: int
    view: int
    grid: Grid | None
    q_halt: float
    act_steps: int

    def to_json(self) -> list[Any]:
        """Return plain values; `from_json` reads them."""
        return [self.target, self.view, None if self.grid is None else rows(self.grid), self.q_halt, self.act_steps]

    @classmethod
    def from_json(cls, values: list[Any]) -> Row:
        """Read what `to_json` gave."""
        target, view, cells, q_halt, act_steps = values
        return cls(target, view, None if cells is None else np.array(cells, dtype=np.uint8), q_halt, act_steps)


class Vote:
    """Kind `vote`. Inputs: `with`, the checkpoint, and `data`, the tasks."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Answer every test input of the split; write votes.json, submission.json and a ledger row a prediction.

        Raises StageInterrupted when the stop signal is set; the next run goes on behind the last batch.
        """
        spec = EvaluateStage.model_validate_json(json.dumps(node.spec))
        dataset = load_dataset(inputs["data"].path)
        tasks = held_out_tasks(dataset, spec.data, spec.split, spec.limit)
        bundle = load_bundle(inputs["with"].path, context.device, weights="run")
        require(bundle, kind="arc", canvas=dataset.canvas, where=f"the checkpoint of {spec.with_!r}")
        election = _Election(node, spec, bundle, tasks, context)
        began, before = time.perf_counter(), election.num_cast
        election.run()
        seconds = time.perf_counter() - began
        _write(node, spec, dataset, bundle, inputs["with"].key, election, context.out)
        context.notes.update(
            num_rows=election.num_cast, num_rows_left_out=election.num_rows - election.num_cast,
            rows_per_s=(election.num_cast - before) / seconds if seconds else 0.0,
        )


class _Election:
    """All test inputs, and the loop that has views vote on them."""

    def __init__(
        self, node: StageNode, spec: EvaluateStage, bundle: Bundle, tasks: Sequence[Task], context: StageContext
    ) -> None:
        self.node, self.spec, self.network, self.context = node, spec, bundle.trm, context
        self.tasks = tasks
        self.early_stop = spec.early_stop is not False
        self.targets = [target for task in tasks for target in _targets(task, bundle, spec.views)]
        self.num_rows = sum(target.ballots.num_views for target in self.targets)
        self.num_act_steps = 0
        self._over = [False] * len(self.targets)
        self._cursor = (0, 0)
        self._saved = context.work / _SAVED
        for cursor, found in self._saved_batches():
            self._count(found)
            self._cursor = cursor

    @property
    def num_cast(self) -> int:
        """Rows that have run."""
        return sum(target.ballots.num_cast for target in self.targets)

    @property
    def num_settled(self) -> int:
        """Rows that have run or need not run."""
        return sum(
            target.ballots.num_views if over else target.ballots.num_cast
            for target, over in zip(self.targets, self._over, strict=True)
        )

    def run(self) -> None:
        """Run the rows that are left, batch by batch."""
        done = self.num_settled
        with self.context.progress.task(self.node.name, self.num_rows, unit="rows", done=done) as bar:
            while batch := self._next_batch():
                if self.context.stop:
                    raise StageInterrupted(
                        f"{self.node.name} stopped ({self.context.stop.reason}) after {self.num_cast:,} of "
                        f"{self.num_rows:,} rows",
                        "run the same command again: it goes on behind the last batch",
                    )
                found = self._answer(batch)
                self.context.ledger.append(*(self._record(row) for row in found))
                self._keep(found)
                self._count(found)
                over = self.num_settled
                bar.advance(over - done, settled=f"{sum(self._over)}/{len(self.targets)}")
                done = over

    def _is_over(self, target: Target) -> bool:
        return target.ballots.num_left == 0 or (self.early_stop and target.ballots.is_settled())

    def _next_batch(self) -> list[tuple[int, int]]:
        """Return the next rows as (target, view), and move the cursor behind them. It depends on votes alone."""
        view, index = self._cursor
        most = max(target.ballots.num_views for target in self.targets)
        batch: list[tuple[int, int]] = []
        while view < most and len(batch) < self.spec.batch_size:
            if not self._over[index] and view < self.targets[index].ballots.num_views:
                batch.append((index, view))
            index += 1
            if index == len(self.targets):
                view, index = view + 1, 0
        self._cursor = view, index
        return batch

    def _answer(self, batch: Sequence[tuple[int, int]]) -> list[Row]:
        """Run the network on rows, those of each canvas together."""
        found: dict[tuple[int, int], Row] = {}
        for canvas in sorted({self.targets[index].canvas for index, _ in batch}):
            part = [(index, view) for index, view in batch if self.targets[index].canvas == canvas]
            found.update(zip(part, self._answer_on(canvas, part), strict=True))
        return [found[place] for place in batch]

    def _answer_on(self, canvas: int, batch: Sequence[tuple[int, int]]) -> list[Row]:
        chosen = [(self.targets[index], view) for index, view in batch]
        views = [target.views[view] for target, view in chosen]
        tokens = encode_batch([target.task.tests[target.test_index] for target, _ in chosen], canvas, views)
        ids = torch.tensor([target.puzzle_ids[view] for target, view in chosen], device=self.network.device)
        answers = answer(
            self.network, torch.from_numpy(tokens).to(self.network.device), ids, self.spec.act_steps,
            Halting(self.spec.halt, self.spec.patience), self._same,
        )  # fmt: skip
        logits = answers.q_halt.double().cpu().numpy()
        if not np.isfinite(logits).all():
            task = chosen[int(np.flatnonzero(~np.isfinite(logits))[0])][0].task.task_id
            raise ModelError(
                f"the checkpoint of {self.spec.with_!r} gave a value that is not finite on task {task}",
                "train it again, or evaluate an earlier checkpoint",
            )
        grids = crop_back(answers.tokens.cpu().numpy(), canvas, views)
        return [
            Row(index, view, grid, q_halt, steps)
            for (index, view), grid, q_halt, steps in zip(
                batch, grids, logits.tolist(), answers.steps.tolist(), strict=True
            )
        ]

    def _same(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Compare grids: what lies beyond their border is never scored, so it may change for ever."""
        canvas = math.isqrt(before.shape[1])
        pairs = zip(*(crop_batch(tokens.cpu().numpy(), canvas) for tokens in (before, after)), strict=True)
        same = [a is not None and b is not None and np.array_equal(a, b) for a, b in pairs]
        return torch.tensor(same, dtype=torch.bool, device=after.device)

    def _record(self, row: Row) -> PredictionRecord:
        target = self.targets[row.target]
        return PredictionRecord(
            run_id=self.context.run_id, stage=self.node.name, task_id=target.task.task_id,
            test_index=target.test_index, view=target.views[row.view].name(""), view_index=row.view,
            grid=None if row.grid is None else rows(row.grid), q_halt=row.q_halt,
        )  # fmt: skip

    def _keep(self, found: Sequence[Row]) -> None:
        """Append a batch to what a killed stage continues from; a torn line counts as not written."""
        line = json.dumps({"cursor": self._cursor, "rows": [row.to_json() for row in found]}, separators=(",", ":"))
        try:
            self._saved.parent.mkdir(parents=True, exist_ok=True)
            with self._saved.open("ab") as file:
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StageError(f"cannot keep the votes so far in {self._saved}: {error}",
                             "free some disk space, then run again: it goes on behind the last batch") from error

    def _saved_batches(self) -> Iterator[tuple[tuple[int, int], list[Row]]]:
        """Yield what earlier lives of the stage kept: cursor and rows of each batch.

        A torn last line is cut off. A damaged one is cut off with all behind it, which is said: they run again.
        """
        if not self._saved.exists():
            return
        lines = self._saved.read_bytes().splitlines(keepends=True)
        whole = 0
        for number, line in enumerate(lines, start=1):
            try:
                saved = json.loads(line)
                view, index = saved["cursor"]
                found = [Row.from_json(values) for values in saved["rows"]]
                if not (0 <= index < len(self.targets) and all(self._knows(row) for row in found)):
                    raise ValueError("its rows are none of this evaluation's")
            except (ValueError, KeyError, TypeError) as error:
                if number < len(lines) or line.endswith(b"\n"):
                    self.context.progress.say(
                        f"{self.node.name}: line {number} of {self._saved} is damaged ({error}); the votes before it "
                        f"are kept, the {len(lines) - number + 1:,} batches from there on run again"
                    )
                break
            if not line.endswith(b"\n"):
                break
            yield (view, index), found
            whole += len(line)
        os.truncate(self._saved, whole)

    def _knows(self, row: Row) -> bool:
        return 0 <= row.target < len(self.targets) and 0 <= row.view < len(self.targets[row.target].views)

    def _count(self, found: Sequence[Row]) -> None:
        for row in found:
            # sigmoid in float64: exact enough to rank, and the same wherever numpy runs
            self.num_act_steps += row.act_steps
            self.targets[row.target].ballots.add(row.grid, float(1.0 / (1.0 + np.exp(-row.q_halt))))
        for index in {row.target for row in found}:
            self._over[index] = self._is_over(self.targets[index])


def _targets(task: Task, bundle: Bundle, most: int | None) -> Iterator[Target]:
    """Yield the test inputs of a task with the views that vote on them. Raises ModelError for too large a grid."""
    index = bundle.puzzle_ids.index
    views = (IDENTITY, *known_views(bundle.puzzle_ids, task))[:most]
    own = index.get(IDENTITY.name(task.task_id), 0)
    ids = tuple(index.get(view.name(task.task_id), own) for view in views)
    for number, grid in enumerate(task.tests):
        if max(grid.shape) > bundle.trm.canvas:
            raise ModelError(
                f"task {task.task_id} has a side of {max(grid.shape)}, the checkpoint's canvas is {bundle.trm.canvas}",
                "leave the task out (data.select.max_side) or train on a larger canvas (data.canvas)",
            )
        yield Target(task, number, views, ids, Ballots(len(views)), fitting_canvas(task, bundle.trm.sides))


def _write(
    node: StageNode, spec: EvaluateStage, dataset: Dataset, bundle: Bundle, checkpoint: str, election: _Election,
    out: Path,
) -> None:
    """Fill the artifact: the same votes give the same bytes."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    picks: list[dict[str, Any]] = []
    for target in election.targets:
        ballots, ranked = target.ballots, target.ballots.ranked()
        candidates = [
            {"grid": rows(standing.grid), "votes": standing.votes, "confidence": standing.confidence}
            for standing in ranked
        ]
        tasks.setdefault(target.task.task_id, []).append(
            {"num_views": ballots.num_views, "num_cast": ballots.num_cast, "candidates": candidates}
        )
        picks += [
            {"task_id": target.task.task_id, "test_index": target.test_index, "rank": rank, "grid": candidate["grid"]}
            for rank, candidate in enumerate(candidates[:2])
        ]
    evaluated = {
        "checkpoint": checkpoint, "stage": bundle.meta.get("stage"), "steps": int(bundle.meta.get("steps", 0)),
        "act_steps": spec.act_steps or bundle.trm.spec.halt_max_steps, "views": spec.views,
        "early_stop": election.early_stop, **halting_facts(spec),
        "mean_act_steps": election.num_act_steps / max(election.num_cast, 1),
    }  # fmt: skip
    data = {"kind": "arc", "version": dataset.version, "digest": dataset.digest, "split": spec.split}
    content = {"format_version": FORMAT_VERSION, "evaluated": evaluated, "data": data, "tasks": tasks}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    (out / VOTES).write_text(text + "\n", encoding="utf-8")
    outputs.write_submission(out / outputs.SUBMISSION, election.tasks, picks)
