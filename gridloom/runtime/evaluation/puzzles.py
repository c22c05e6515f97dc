"""Runner of `evaluate` on puzzles: a checkpoint answers held-out mazes or sudokus; report.json holds the accuracy.

Every puzzle gets the same number of ACT steps unless `halt` is set; the network never reads labels. Each member of an
ensemble answers once, and the answer of most members is the ensemble's answer.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gridloom.compiler.graph import StageNode
from gridloom.errors import DataError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import Bundle, load_bundle, require
from gridloom.runtime.data.puzzles.puzzle_file import puzzle_text
from gridloom.runtime.data.puzzles.puzzle_set import PuzzleSet, load_puzzles, solves
from gridloom.runtime.evaluation.described import elect, evaluated_facts, halting_facts, steps_trained
from gridloom.runtime.evaluation.earlier_names import TEST_NAMES, earlier_kind, wandb_names
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.runtime.evaluation.maze_paths import PathTally, excess_steps
from gridloom.runtime.evaluation.restarts import RestartTally, run_restarts
from gridloom.runtime.evaluation.tracking import Track, recorder
from gridloom.runtime.interop.result_files import write_eval_results
from gridloom.runtime.machine.device import hardware
from gridloom.runtime.models.network import TRIAL_ROWS
from gridloom.runtime.models.steps import Halting, Rows
from gridloom.runtime.stage import StageContext
from gridloom.runtime.trackers.wandb_run import EVALUATE_PROJECT, send_report
from gridloom.specs.stages import EvaluateStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.evaluation_records import PuzzlePredictionRecord

REPORT = "report.json"
SPLIT = "test"


@dataclass(slots=True)
class Tally:
    """Counts over the puzzles answered so far."""

    num_puzzles: int = 0
    """Number of puzzles whose right answer is known; the counts of right ones are over these."""
    num_answered: int = 0
    """Number of all puzzles."""
    num_valid: int = 0
    """Number of answers that solve their puzzle, whether or not the right answer is known."""
    num_exact: int = 0
    num_cells: int = 0
    """Number of scored cells: every cell of a maze or sudoku."""
    num_cells_right: int = 0
    num_open: int = 0
    """Number of cells where the answer differs from the question: a sudoku's blanks, a maze's path."""
    num_open_right: int = 0
    num_halt_right: int = 0
    """Number of puzzles whose halting logit predicts correctly whether the answer is correct."""
    num_act_steps: float = 0
    """ACT steps of the answers, summed over the members of an ensemble."""
    num_computed: int = 0
    """ACT steps computed; repeated states need none."""
    paths: PathTally = field(default_factory=PathTally)
    """Marked paths of mazes; empty for sudokus."""
    steps: Counter[float] = field(default_factory=Counter)
    """Number of puzzles by their ACT steps."""
    natural: float = 0.0
    """Sum over the puzzles of the share of positions that halted by themselves."""
    num_natural: int = 0
    """Number of puzzles for which that share is known."""
    loss: float = 0.0
    """Sum over the puzzles of the cross-entropy, which is averaged over the scored cells, as in training."""

    @property
    def mean_loss(self) -> float:
        """Mean loss of a puzzle."""
        return self.loss / self.num_puzzles

    def add(self, answers: torch.Tensor, q_halt: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch: uint8 [B, L] tokens and fp32 [B] halting logits; label 0 is not scored."""
        scored = labels != 0
        right = (answers == labels) & scored
        is_open = scored & (inputs != labels)
        exact = (right | ~scored).all(dim=1)
        self.num_puzzles += len(labels)
        self.num_exact += int(exact.sum())
        self.num_cells += int(scored.sum())
        self.num_cells_right += int(right.sum())
        self.num_open += int(is_open.sum())
        self.num_open_right += int((right & is_open).sum())
        self.num_halt_right += int(((q_halt >= 0) == exact).sum())

    def add_steps(self, steps: torch.Tensor, natural: torch.Tensor | None) -> None:
        """Count ACT steps [B], and the shares of positions that halted by themselves, fp32 [B], where known."""
        self.steps.update(round(made, 3) for made in steps.double().tolist())
        if natural is not None:
            self.natural += float(natural.double().sum())
            self.num_natural += len(natural)

    def merge(self, other: Tally) -> None:
        """Add the counts of other puzzles."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def shares(self) -> dict[str, float]:
        """Return the metrics of ledger and report; a share of nothing is not defined, and absent."""
        shares = {
            "exact": (self.num_exact, self.num_puzzles),
            "cell_accuracy": (self.num_cells_right, self.num_cells),
            "open_cell_accuracy": (self.num_open_right, self.num_open),
            "halting_accuracy": (self.num_halt_right, self.num_puzzles),
        }
        found = {name: part / whole for name, (part, whole) in shares.items() if whole}
        return {**found, **self.paths.shares()}

    def halting(self) -> dict[str, float]:
        """Return quantiles of the ACT steps, and the shares of natural and forced halts where they are known."""
        found: dict[str, float] = {}
        if self.steps:
            made = np.repeat(list(self.steps), list(self.steps.values()))
            found = {f"act_steps_p{100 * q:.0f}": float(np.quantile(made, q)) for q in (0.5, 0.9)}
            found["act_steps"] = float(made.mean())
        if self.num_natural:
            natural = self.natural / self.num_natural
            found |= {"halt_natural": natural, "halt_forced": 1 - natural}
        return found


class Evaluate:
    """Runner of kind `evaluate`. Inputs: checkpoint `with`, further checkpoints `ensemble.N`, puzzles `data`."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Answer the test puzzles; write report.json and a ledger row per metric. Raises StageInterrupted on a stop."""
        spec = node.section(EvaluateStage)
        puzzles = load_puzzles(inputs["data"].path)
        members = self._members(spec, puzzles, inputs, context)
        kind = earlier_kind(members[0][1].network.spec, puzzles.kind)
        track = recorder(node, context, kind)
        report, figures, step = self._evaluate(node, spec, puzzles, members, context, track)
        figures |= wandb_names(kind, figures, TEST_NAMES)
        send_report(EVALUATE_PROJECT, node, context, report, inputs, figures, step)

    def _members(
        self, spec: EvaluateStage, puzzles: PuzzleSet, inputs: Mapping[str, Artifact], context: StageContext
    ) -> list[tuple[str, Bundle]]:
        """Load the checkpoints. Raises DataError for a set without test puzzles, ModelError for other puzzles."""
        if SPLIT not in puzzles.splits:
            raise DataError(f"this {puzzles.kind} set has no test puzzles", "raise test, or give its source some")
        members: list[tuple[str, Bundle]] = []
        for place, name in spec.members().items():
            bundle = load_bundle(inputs[place].path, context.device, weights="run")
            require(
                bundle,
                kind=puzzles.kind,
                canvas=puzzles.size,
                vocabulary=puzzles.vocab,
                where=f"the checkpoint of {name!r}",
            )
            bundle.network.compile_step(
                spec.compile, [bundle.network.num_cells], TRIAL_ROWS, context.progress.say, any_rows=True
            )
            members.append((inputs[place].key, bundle))
        return members

    def _evaluate(
        self,
        node: StageNode,
        spec: EvaluateStage,
        puzzles: PuzzleSet,
        members: Sequence[tuple[str, Bundle]],
        context: StageContext,
        track: Track,
    ) -> tuple[dict[str, Any], dict[str, float], int]:
        """Answer the puzzles and write the artifact; return its report, the figures, and the steps of the training."""
        started = time.monotonic()
        restarts = RestartTally(spec.restarts)
        tally, own = self._answer(node, spec, members, puzzles, context, restarts)
        seconds = time.monotonic() - started
        shares = tally.shares()
        evaluated = evaluated_facts(members, spec.act_steps)
        mean_steps = tally.num_act_steps / (tally.num_answered * len(members))
        valid = tally.num_valid / tally.num_answered
        again = restarts.shares() if spec.restarts > 1 else {}
        metrics = {**shares, **again, "valid": valid, "num_puzzles": tally.num_puzzles, "act_steps": mean_steps}
        metrics |= tally.halting()
        step = steps_trained(evaluated)
        track(step, metrics)
        report: dict[str, Any] = {
            "format_version": 1,
            "evaluated": {**evaluated, **halting_facts(spec)},
            "data": {
                "kind": puzzles.kind,
                "size": puzzles.size,
                "split": SPLIT,
                "digest": puzzles.digest,
                "available": len(puzzles.splits[SPLIT].inputs),
            },
            "num_puzzles": tally.num_puzzles,
            "num_exact": tally.num_exact,
            "num_unanswered": tally.num_answered - tally.num_puzzles,
            "num_valid": tally.num_valid,
            "valid": valid,
            "valid_interval": wilson(valid, tally.num_answered),
            **shares,
            **({"exact_interval": wilson(shares["exact"], tally.num_puzzles)} if tally.num_puzzles else {}),
            "mean_act_steps": mean_steps,
            **tally.halting(),
            **({"restarts": restarts.report(spec)} if spec.restarts > 1 else {}),
            "denominators": {
                "num_puzzles": "puzzles whose answers are known",
                "valid": "all puzzles; a sudoku's rules hold and its clues are kept, a maze has one shortest path",
                "exact, halting_accuracy": "puzzles; exact when every cell is right",
                "focus_precision, focus_recall, focus_f1": "path cells of all mazes together, marked and right",
                "valid_path": "mazes; walls, S and G are kept and the marked cells are one simple path, of any length",
                "shortest": "mazes; that path has the fewest steps, so `valid`",
                "path_excess": "steps of simple paths beyond the fewest",
                "cell_accuracy": "all cells of all puzzles, given ones included",
                "open_cell_accuracy": "cells where the answer differs from the question",
                "exact_interval": "Wilson, 95%, over puzzles",
            },
        }
        if own and tally.num_puzzles:
            report["members"] = [
                {
                    **evaluated_facts([member], spec.act_steps),
                    **one.shares(),
                    "loss": one.mean_loss,
                    "exact_interval": wilson(one.shares()["exact"], one.num_puzzles),
                }
                for member, one in zip(members, own, strict=True)
            ]
        (context.out / REPORT).write_text(json.dumps(report, sort_keys=True, indent=1) + "\n", encoding="utf-8")
        if tally.num_puzzles:
            write_eval_results(
                context.out,
                accuracy=shares["exact"],
                avg_loss=None if own else tally.mean_loss,
                avg_steps=mean_steps,
                total_examples=tally.num_puzzles,
            )
        context.notes.update(
            {**shares, **again},
            valid=valid,
            num_puzzles=tally.num_puzzles,
            puzzles_per_s=tally.num_answered / seconds,
            act_steps_computed=tally.num_computed,
            hardware=hardware(context.device),
        )
        return report, metrics, step

    def _answer(
        self,
        node: StageNode,
        spec: EvaluateStage,
        members: Sequence[tuple[str, Bundle]],
        puzzles: PuzzleSet,
        context: StageContext,
        restarts: RestartTally,
    ) -> tuple[Tally, list[Tally]]:
        """Answer the puzzles batch by batch; return the counts of the ensemble and of each member."""
        arrays, bundles = puzzles.splits[SPLIT], [bundle for _, bundle in members]
        total = min(len(arrays.inputs), spec.limit or len(arrays.inputs))
        tally, own = Tally(), [Tally() for _ in bundles] if len(bundles) > 1 else []
        with context.progress.task(node.name, total=total, unit="puzzle") as bar:
            for start in range(0, total, spec.batch_size):
                if context.stop:
                    raise StageInterrupted(
                        f"{node.name} stopped by {context.stop.reason} at puzzle {start:,} of {total:,}",
                        "run again: it starts anew, nothing else is lost",
                    )
                rows = slice(start, min(start + spec.batch_size, total))
                inputs, labels = (
                    torch.from_numpy(np.array(table[rows], dtype=np.uint8)).to(context.device)
                    for table in (arrays.inputs, arrays.labels)
                )
                ids = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
                halting = Halting(spec.halt, spec.patience)
                given = Rows(inputs, ids, labels)
                if spec.restarts > 1:
                    network = bundles[0].network
                    taken, runs = run_restarts(network, given, spec, puzzles.kind, seed=node.seed, first=start)
                    restarts.add(runs, labels)
                    found = [taken]
                else:
                    found = [bundle.network.answer(given, spec.act_steps, halting) for bundle in bundles]
                tokens, q_halt = found[0].tokens, found[0].q_halt
                if own:
                    tokens, q_halt = elect(
                        torch.stack([one.tokens for one in found]), torch.stack([one.q_halt for one in found])
                    )
                known = (labels != 0).any(dim=1)
                for counted, one in zip(own or [tally], found, strict=True):
                    assert one.loss is not None
                    counted.loss += float(one.loss[known].double().sum())
                    if own:
                        counted.add(one.tokens[known], one.q_halt[known], inputs[known], labels[known])
                tally.add(tokens[known], q_halt[known], inputs[known], labels[known])
                steps = torch.stack([one.steps for one in found]).sum(dim=0)
                known_natural = [one.natural for one in found if one.natural is not None]
                tally.add_steps(steps / len(found), torch.stack(known_natural).mean(dim=0) if known_natural else None)
                if puzzles.kind == "maze":
                    tables = [table.cpu().numpy() for table in (inputs, tokens, labels)]
                    tally.paths.add(*tables)
                    for counted, one in zip(own, found, strict=False):
                        counted.paths.add(tables[0], one.tokens.cpu().numpy(), tables[2])
                valid = solves(puzzles.kind, inputs.cpu().numpy(), tokens.cpu().numpy())
                tally.num_answered += len(inputs)
                tally.num_valid += int(valid.sum())
                tally.num_act_steps += float(steps.double().sum())
                tally.num_computed += sum(one.num_computed for one in found)
                where = node, context, puzzles, members[0][0], start
                context.ledger.append(*_records(*where, inputs, labels, tokens, q_halt, steps, valid))
                shown = {"exact": f"{tally.num_exact / tally.num_puzzles:.1%}"} if tally.num_puzzles else {}
                bar.advance(len(inputs), **shown, valid=f"{tally.num_valid / tally.num_answered:.1%}")
        return tally, own


def _records(
    node: StageNode,
    context: StageContext,
    puzzles: PuzzleSet,
    checkpoint: str,
    first: int,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    answers: torch.Tensor,
    q_halt: torch.Tensor,
    steps: torch.Tensor,
    valid: NDArray[np.bool_],
) -> list[PuzzlePredictionRecord]:
    """Return the records of a batch that begins with test puzzle `first`."""
    known, right = (labels != 0).any(dim=1).tolist(), ((answers == labels) & (labels != 0)).sum(dim=1).tolist()
    scored = (labels != 0).sum(dim=1).tolist()
    excess = [-1] * len(inputs)
    if puzzles.kind == "maze":
        excess = excess_steps(inputs.cpu().numpy(), answers.cpu().numpy()).tolist()
    return [
        PuzzlePredictionRecord(
            run_id=context.run_id,
            stage=node.name,
            puzzle=first + row,
            kind=puzzles.kind,
            size=puzzles.size,
            question=puzzle_text(puzzles.kind, question),
            prediction=puzzle_text(puzzles.kind, answer),
            exact=right[row] == scored[row] if known[row] else None,
            cells_right=right[row] if known[row] else None,
            num_cells=len(question),
            valid=bool(valid[row]),
            act_steps=round(made),
            q_halt=logit,
            checkpoint_key=checkpoint,
            path_excess=excess[row] if excess[row] >= 0 else None,
        )
        for row, (question, answer, made, logit) in enumerate(
            zip(inputs.tolist(), answers.tolist(), steps.tolist(), q_halt.tolist(), strict=True)
        )
    ]
