"""The `evaluate` stage on puzzles: a checkpoint answers held-out mazes or sudokus; report.json says how many right.

Every puzzle gets the same number of ACT steps unless `halt` says otherwise; nothing of the labels reaches the network.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gridloom.compiler.graph import StageNode
from gridloom.errors import DataError, StageInterrupted
from gridloom.runtime.data.npy_layout import SplitArrays
from gridloom.runtime.data.puzzles import load_puzzles
from gridloom.runtime.eval_results import write_eval_results
from gridloom.runtime.intervals import wilson
from gridloom.runtime.models.bundle import load_bundle, require
from gridloom.runtime.models.inference import Halting, answer
from gridloom.runtime.models.recursive import RecursiveNetwork
from gridloom.runtime.stage import StageContext
from gridloom.specs.stages import EvaluateStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.records import MetricRecord

REPORT = "report.json"
SPLIT = "test"


@dataclass(slots=True)
class Tally:
    """Counts over the puzzles answered so far."""

    num_puzzles: int = 0
    num_exact: int = 0
    num_cells: int = 0
    """Scored cells: every cell of a maze or sudoku."""
    num_cells_right: int = 0
    num_open: int = 0
    """Cells where the answer differs from the question: a sudoku's blanks, a maze's way."""
    num_open_right: int = 0
    num_halt_right: int = 0
    """Puzzles whose halting score says rightly whether the answer is right."""
    num_act_steps: int = 0
    """ACT steps that the answers took."""
    num_computed: int = 0
    """ACT steps that were computed; states that repeat need none."""

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

    def shares(self) -> dict[str, float]:
        """Return what the ledger and the report tell."""
        return {
            "exact": self.num_exact / self.num_puzzles,
            "cell_accuracy": self.num_cells_right / self.num_cells,
            "open_cell_accuracy": self.num_open_right / self.num_open if self.num_open else 1.0,
            "halting_accuracy": self.num_halt_right / self.num_puzzles,
        }


class Evaluate:
    """Kind `evaluate`. Inputs: `with`, the checkpoint, and `data`, the puzzles."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Answer the test puzzles; write report.json and a row a metric. A stop signal raises StageInterrupted."""
        spec = EvaluateStage.model_validate_json(json.dumps(node.spec))
        puzzles = load_puzzles(inputs["data"].path)
        if SPLIT not in puzzles.splits:
            raise DataError(f"this {puzzles.kind} set has no test puzzles", "raise test, or give its source some")
        bundle = load_bundle(inputs["with"].path, context.device, weights="run")
        require(bundle, kind=puzzles.kind, canvas=puzzles.size, vocabulary=puzzles.vocab,
                where=f"the checkpoint of {spec.with_!r}")
        started = time.monotonic()
        tally = self._answer(node, spec, bundle.trm, puzzles.splits[SPLIT], context)
        seconds = time.monotonic() - started
        shares = tally.shares()
        low, high = wilson(shares["exact"], tally.num_puzzles)
        steps = int(bundle.meta.get("steps", 0))
        metrics = {**shares, "num_puzzles": tally.num_puzzles, "act_steps": tally.num_act_steps / tally.num_puzzles}
        context.ledger.append(*(
            MetricRecord(run_id=context.run_id, stage=node.name, step=steps, name=name, value=value,
                         recorded_at=time.time()) for name, value in metrics.items()
        ))
        report: dict[str, Any] = {
            "format_version": 1,
            "evaluated": {"checkpoint": inputs["with"].key, "stage": bundle.meta.get("stage"), "steps": steps,
                          "act_steps": spec.act_steps or bundle.trm.spec.halt_max_steps, **halting_facts(spec)},
            "data": {"kind": puzzles.kind, "size": puzzles.size, "split": SPLIT, "digest": puzzles.digest,
                     "available": len(puzzles.splits[SPLIT].inputs)},
            "num_puzzles": tally.num_puzzles, "num_exact": tally.num_exact, **shares, "exact_interval": [low, high],
            "mean_act_steps": metrics["act_steps"],
            "denominators": {
                "exact, halting_accuracy": "puzzles; exact when every cell is right",
                "cell_accuracy": "all cells of all puzzles, given ones included",
                "open_cell_accuracy": "cells where the answer differs from the question",
                "exact_interval": "Wilson, 95%, over puzzles",
            },
        }  # fmt: skip
        (context.out / REPORT).write_text(json.dumps(report, sort_keys=True, indent=1) + "\n", encoding="utf-8")
        write_eval_results(context.out, accuracy=shares["exact"], avg_steps=metrics["act_steps"],
                           total_examples=tally.num_puzzles)
        context.notes.update(shares, num_puzzles=tally.num_puzzles, puzzles_per_s=tally.num_puzzles / seconds,
                             act_steps_computed=tally.num_computed)

    def _answer(self, node: StageNode, spec: EvaluateStage, network: RecursiveNetwork, arrays: SplitArrays,
                context: StageContext) -> Tally:
        """Answer the puzzles batch by batch."""
        total = min(len(arrays.inputs), spec.limit or len(arrays.inputs))
        tally = Tally()
        with torch.inference_mode(), context.progress.task(node.name, total=total, unit="puzzle") as bar:
            for start in range(0, total, spec.batch_size):
                if context.stop:
                    raise StageInterrupted(f"{node.name} stopped by {context.stop.reason} at puzzle {start:,} of "
                                           f"{total:,}", "run again: it starts anew, nothing else is lost")
                rows = slice(start, min(start + spec.batch_size, total))
                inputs, labels = (
                    torch.from_numpy(np.array(table[rows], dtype=np.uint8)).to(context.device)
                    for table in (arrays.inputs, arrays.labels)
                )
                ids = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
                found = answer(network, inputs, ids, spec.act_steps, Halting(spec.halt, spec.patience))
                tally.add(found.tokens, found.q_halt, inputs, labels)
                tally.num_act_steps += int(found.steps.sum())
                tally.num_computed += found.num_computed
                bar.advance(len(inputs), exact=f"{tally.num_exact / tally.num_puzzles:.1%}")
        return tally


def halting_facts(spec: EvaluateStage) -> dict[str, Any]:
    """Return what a report says of halting; nothing where every step is made."""
    return {} if spec.halt == "none" else {"halt": spec.halt, "patience": spec.patience}
