"""First half of an evaluation on ARC tasks: a checkpoint answers every test input under many views, which vote.

The members of an ensemble alternate, and their votes are added; each member's votes are also counted separately. The
stage has no answers among its inputs. Rows run view by view, so that every test input has votes early; the votes of
each batch are saved before the next batch runs, and a killed stage resumes after the last saved batch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError, StageInterrupted
from gridloom.runtime.data.arc.dataset import Dataset, held_out_tasks, load_dataset
from gridloom.runtime.data.files.grids import rows
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.evaluation.ballots import Ballots
from gridloom.runtime.evaluation.described import evaluated_facts, halting_facts
from gridloom.runtime.evaluation.electorate import Electorate
from gridloom.runtime.evaluation.same_rows import Key, RowAnswer, SameRows
from gridloom.runtime.evaluation.vote_on_workers import BATCHES_A_WORKER, Batch, VoteWorker, answer_on_workers
from gridloom.runtime.evaluation.voters import Member, Row, load_members
from gridloom.runtime.interop import result_files
from gridloom.runtime.machine.device import hardware
from gridloom.runtime.stage import StageContext
from gridloom.specs.stages import EvaluateStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.evaluation_records import PredictionRecord

VOTES = "votes.json"
FORMAT_VERSION = 1
_SAVED = "batches.jsonl"


class Vote:
    """Runner of kind `vote`. Inputs: checkpoint `with`, further checkpoints `ensemble.N`, tasks `data`."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Answer every test input of the split; write votes.json, submission.json and one ledger row per prediction.

        Raises StageInterrupted when the stop signal is set; the next run resumes after the last batch.
        """
        spec = node.section(EvaluateStage)
        dataset = load_dataset(inputs["data"].path)
        tasks = held_out_tasks(dataset, spec.data, spec.split, spec.limit)
        members = tuple(load_members(spec, inputs, dataset.canvas, context.device, context.progress.say))
        election = _Election(node, spec, members, tasks, context)
        began, before = time.perf_counter(), election.num_cast
        if context.crew is None:
            election.run(lambda batches: map(election.answer, batches), 1)
        else:
            work = partial(answer_on_workers, context.crew, node, inputs, context)
            election.run(work, BATCHES_A_WORKER * context.crew.num_workers)
        seconds = time.perf_counter() - began
        _write(spec, dataset, election, context.out)
        context.notes.update(
            num_rows=election.num_cast,
            num_rows_left_out=election.num_rows - election.num_cast,
            num_rows_alike=election.same.num_reused,
            hardware=hardware(context.device),
        )
        if election.num_cast > before:  # a run that only counts what an earlier one answered has no rate
            context.notes.update(rows_per_s=(election.num_cast - before) / seconds)

    def worker(
        self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext, shared: Mapping[str, Any]
    ) -> VoteWorker:
        """Load the checkpoints of a worker, which then answers batches of rows."""
        spec = node.section(EvaluateStage)
        dataset = load_dataset(inputs["data"].path)
        tasks = held_out_tasks(dataset, spec.data, spec.split, spec.limit)
        members = tuple(load_members(spec, inputs, dataset.canvas, context.device, context.progress.say))
        return VoteWorker(Electorate(spec, members, tasks).answer)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Batch of rows, and those of it that must be computed."""

    batch: Batch
    keys: list[Key | None]
    fresh: NDArray[np.int64]
    """Numbers of the rows in the batch that no other row answers."""

    @property
    def to_compute(self) -> Batch:
        return [self.batch[number] for number in self.fresh]


class _Election(Electorate):
    """Loop over the rows that vote on test inputs."""

    def __init__(
        self,
        node: StageNode,
        spec: EvaluateStage,
        members: tuple[Member, ...],
        tasks: Sequence[Task],
        context: StageContext,
    ) -> None:
        super().__init__(spec, members, tasks)
        self.node, self.context = node, context
        self.num_rows = sum(target.ballots.num_views for target in self.targets)
        self.num_act_steps = 0
        packed = frozenset(number for number, member in enumerate(members) if member.bundle.network.packed)
        self.same = SameRows(self.targets, packed)
        self._over: list[frozenset[int]] = [frozenset()] * len(self.targets)
        """Members whose remaining rows are skipped, by test input."""
        self._cursor = (0, 0)
        self._saved = context.work / _SAVED
        for cursor, found in self._saved_batches():
            self._count(found)
            self._cursor = cursor

    @property
    def num_cast(self) -> int:
        """Number of rows that have run."""
        return sum(target.ballots.num_cast for target in self.targets)

    @property
    def num_settled(self) -> int:
        """Number of rows that have run or need not run."""
        left_out = sum(
            (target.own or (target.ballots,))[member].num_left
            for target, over in zip(self.targets, self._over, strict=True)
            for member in over
        )
        return self.num_cast + left_out

    def run(self, work: Callable[[list[Batch]], Iterable[list[RowAnswer]]], width: int) -> None:
        """Run the remaining rows, in the batches that one process would run, one after the other.

        Which rows a batch has depends on the votes before it. Of several batches in progress only the first is certain;
        the answers of a batch that the votes before it have changed meanwhile are dropped, so that results, and the
        bits of every row, are those of one batch at a time.

        Args:
            work: function of batches -> the answers of the first batches, in order.
            width: number of batches in progress.
        """
        done = self.num_settled
        with self.context.progress.task(self.node.name, self.num_rows, unit="rows", done=done) as bar:
            while plans := self._next_plans(width):
                if self.context.stop:
                    raise StageInterrupted(
                        f"{self.node.name} stopped ({self.context.stop.reason}) after {self.num_cast:,} of "
                        f"{self.num_rows:,} rows",
                        "run the same command again: the evaluation resumes after the last batch",
                    )
                for plan, answers in zip(plans, work([plan.to_compute for plan in plans]), strict=False):
                    before = self._cursor
                    if self._next_batch() != plan.batch:
                        self._cursor = before
                        break
                    found = self.rows(plan.batch, self.same.join(plan.keys, plan.fresh, answers))
                    self.context.ledger.append(*(self._record(row) for row in found))
                    self._save_batch(found)
                    self._count(found)
                    over = self.num_settled
                    settled = sum(len(members) == len(self.members) for members in self._over)
                    bar.advance(over - done, settled=f"{settled}/{len(self.targets)}")
                    done = over

    def _next_plans(self, number: int) -> list[_Plan]:
        """Return the next batches as the votes so far have it; the cursor stays."""
        before, coming = self._cursor, set[Key]()
        plans: list[_Plan] = []
        while len(plans) < number and (batch := self._next_batch()):
            keys = [self.same.key(index, view) for index, view in batch]
            plans.append(_Plan(batch, keys, self.same.split(keys, coming)))
        self._cursor = before
        return plans

    def _next_batch(self) -> Batch:
        """Return the next rows as (target, view) and advance the cursor. The rows depend only on votes."""
        view, index = self._cursor
        most = max(target.ballots.num_views for target in self.targets)
        batch: Batch = []
        while view < most and len(batch) < self.spec.batch_size:
            voters = self.targets[index].voters
            if view < len(voters) and voters[view].member not in self._over[index]:
                batch.append((index, view))
            index += 1
            if index == len(self.targets):
                view, index = view + 1, 0
        self._cursor = view, index
        return batch

    def _record(self, row: Row) -> PredictionRecord:
        target = self.targets[row.target]
        voter = target.voters[row.view]
        return PredictionRecord(
            run_id=self.context.run_id,
            stage=self.node.name,
            task_id=target.task.task_id,
            test_index=target.test_index,
            view=voter.view.name(""),
            view_index=row.view,
            checkpoint_key=self.members[voter.member].key,
            grid=None if row.grid is None else rows(row.grid),
            q_halt=row.q_halt,
        )

    def _save_batch(self, found: Sequence[Row]) -> None:
        """Append a batch to the file from which a killed stage resumes; an incomplete line counts as not written."""
        line = json.dumps({"cursor": self._cursor, "rows": [row.to_json() for row in found]}, separators=(",", ":"))
        try:
            self._saved.parent.mkdir(parents=True, exist_ok=True)
            with self._saved.open("ab") as file:
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StageError(
                f"cannot save the votes so far in {self._saved}: {error}",
                "free some disk space, then run again: the evaluation resumes after the last batch",
            ) from error

    def _saved_batches(self) -> Iterator[tuple[tuple[int, int], list[Row]]]:
        """Yield cursor and rows of each batch that interrupted executions of the stage saved.

        An incomplete last line is removed. A damaged line is removed with all later lines, with a message; their rows
        run again.
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
                if not (0 <= index < len(self.targets) and all(self._is_valid(row) for row in found)):
                    raise ValueError("its rows do not belong to this evaluation")
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

    def _is_valid(self, row: Row) -> bool:
        return 0 <= row.target < len(self.targets) and 0 <= row.view < len(self.targets[row.target].voters)

    def _count(self, found: Sequence[Row]) -> None:
        for row in found:
            self.num_act_steps += row.act_steps
            self.targets[row.target].add(row)
        for index in {row.target for row in found}:
            target = self.targets[index]
            if self.spec.stop_rule or target.ballots.num_left == 0:
                self._over[index] = target.settled_members(self.spec.stop_rule or "exact")
                if len(self._over[index]) == len(self.members):
                    self.same.forget(index)


def _write(spec: EvaluateStage, dataset: Dataset, election: _Election, out: Path) -> None:
    """Write the artifact; equal votes give equal bytes."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    picks: list[dict[str, Any]] = []
    for target in election.targets:
        described = _standings(target.ballots)
        if target.own:
            described["members"] = [_standings(ballots) for ballots in target.own]
        tasks.setdefault(target.task.task_id, []).append(described)
        picks += [
            {"task_id": target.task.task_id, "test_index": target.test_index, "rank": rank, "grid": candidate["grid"]}
            for rank, candidate in enumerate(described["candidates"][:2])
        ]
    evaluated = {
        **evaluated_facts([(member.key, member.bundle) for member in election.members], spec.act_steps),
        "views": spec.views,
        "early_stop": True if spec.early_stop is None else spec.early_stop,
        **halting_facts(spec),
        "mean_act_steps": election.num_act_steps / max(election.num_cast, 1),
    }
    data = {"kind": "arc", "version": dataset.version, "digest": dataset.digest, "split": spec.split}
    content = {"format_version": FORMAT_VERSION, "evaluated": evaluated, "data": data, "tasks": tasks}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    (out / VOTES).write_text(text + "\n", encoding="utf-8")
    result_files.write_submission(out / result_files.SUBMISSION, election.tasks, picks)


def _standings(ballots: Ballots) -> dict[str, Any]:
    candidates = [
        {"grid": rows(standing.grid), "votes": standing.votes, "confidence": standing.confidence}
        for standing in ballots.ranked()
    ]
    empty = {"votes": ballots.num_empty, "confidence": ballots.empty_halting / max(ballots.num_empty, 1)}
    return {
        "num_views": ballots.num_views,
        "num_cast": ballots.num_cast,
        "candidates": candidates,
        "no_grid": empty,
    }
