"""Evaluation on sequences: a checkpoint answers rows of the test stream; report.json holds the shares by difficulty.

The stream is endless and no row of it is trained on. A row's difficulty is its number of entries, numbers, symbols,
vectors or characters. Each member of an ensemble answers once, and the answer of most members is the ensemble's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridloom.compiler.graph import StageNode
from gridloom.errors import ModelError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import Bundle, load_bundle, require
from gridloom.runtime.data.sequences.artifact import SequenceSpec, load_sequences, sequences_digest
from gridloom.runtime.evaluation.described import elect, evaluated_facts, halting_facts, steps_trained
from gridloom.runtime.evaluation.earlier_names import TEST_NAMES, earlier_kind, wandb_names
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.runtime.evaluation.tracking import Track, recorder
from gridloom.runtime.interop.result_files import write_eval_results
from gridloom.runtime.machine.device import hardware
from gridloom.runtime.models.network import TRIAL_ROWS
from gridloom.runtime.models.sequence_rows import SequenceRows, answers_of_step, most_rows, sequence_rows
from gridloom.runtime.models.steps import Answers, Halting, Rows
from gridloom.runtime.stage import StageContext
from gridloom.runtime.trackers.wandb_run import EVALUATE_PROJECT, send_report
from gridloom.specs.stages import DEFAULT_SEQUENCES, EvaluateStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.evaluation_records import DifficultyRecord

SPLIT = "test"
DIFFICULTY = {
    "parity": "nonzero entries",
    "addition": "numbers",
    "copy": "symbols",
    "sort": "numbers",
    "logic": "vectors",
    "string_addition": "characters",
    "recall": "symbols of the key",
    "star_graph": "nodes of the path",
    "graph_search": "hops",
    "stream": "tokens of the question",
    "prebuilt": "tokens of the question",
}
"""What the difficulty of a row counts, by kind of task."""
_COLUMNS = ("difficulty", "places", "places_right", "answers", "answers_right", "steps", "natural", "loss")


@dataclass(slots=True)
class SequenceTally:
    """Counts of each row answered so far, a column an attribute of the row."""

    group: int
    """Consecutive places that answer one step."""
    parts: dict[str, list[NDArray[Any]]] = field(default_factory=lambda: {name: [] for name in _COLUMNS})
    num_right: int = 0
    """Rows with every place right, of `num_scored`."""
    num_scored: int = 0
    """Rows that ask for something."""

    def add(self, labels: Tensor, difficulty: NDArray[np.int32], found: Answers) -> None:
        """Count a batch of labels, uint8 [B, P], 0 where nothing is scored."""
        scored, right = labels != 0, (found.tokens == labels) & (labels != 0)
        rows = len(labels)
        self.num_scored += int(scored.any(dim=1).sum())
        self.num_right += int((scored.any(dim=1) & (scored == right).all(dim=1)).sum())
        by_step = scored.reshape(rows, -1, self.group), right.reshape(rows, -1, self.group)
        asked = by_step[0].any(dim=2)
        whole = asked & (by_step[0] == by_step[1]).all(dim=2)
        nothing = torch.full((rows,), torch.nan)
        steps = found.steps if found.mean_steps is None else found.mean_steps
        columns: dict[str, Any] = {
            "difficulty": difficulty,
            "places": scored.sum(dim=1),
            "places_right": right.sum(dim=1),
            "answers": asked.sum(dim=1),
            "answers_right": whole.sum(dim=1),
            "steps": steps.double(),
            "natural": nothing if found.natural is None else found.natural.double(),
            "loss": nothing if found.loss is None else found.loss.double(),
        }
        for name, column in columns.items():
            self.parts[name].append(column.cpu().numpy() if isinstance(column, Tensor) else np.asarray(column))

    def column(self, name: str) -> NDArray[Any]:
        """Return one attribute of all rows."""
        parts = self.parts[name]
        return np.concatenate(parts) if parts else np.zeros(0)

    def figures(self) -> dict[str, float]:
        """Return the shares and means over the rows; absent where they are not defined."""
        places, answers = self.column("places"), self.column("answers")
        scored = places > 0
        exact = (self.column("places_right") == places)[scored]
        found: dict[str, float] = {}
        if scored.any():
            found = {
                "exact": float(exact.mean()),
                "cell_accuracy": float(self.column("places_right").sum() / places.sum()),
                "step_accuracy": float(self.column("answers_right").sum() / answers.sum()),
            }
            if not np.isnan(self.column("loss")).any():
                found["loss_classification"] = float(self.column("loss")[scored].mean())
        steps, natural = self.column("steps"), self.column("natural")
        found["act_steps"] = float(steps.mean())
        found["act_steps_p50"], found["act_steps_p90"] = (float(np.quantile(steps, q)) for q in (0.5, 0.9))
        if not np.isnan(natural).any():
            found |= {"halt_natural": float(natural.mean()), "halt_forced": float(1 - natural.mean())}
        return found

    def by_difficulty(self) -> list[dict[str, Any]]:
        """Return the counts of the rows of each difficulty, ascending."""
        columns = {name: self.column(name) for name in _COLUMNS}
        table: list[dict[str, Any]] = []
        for value in np.unique(columns["difficulty"]).tolist():
            rows = columns["difficulty"] == value
            scored = rows & (columns["places"] > 0)
            right = int((columns["places_right"] == columns["places"])[scored].sum())
            asked, num = int(columns["places"][rows].sum()), int(scored.sum())
            table.append(
                {
                    "difficulty": int(value),
                    "rows": int(rows.sum()),
                    "scored": num,
                    "right": right,
                    "accuracy_sequence": right / num if num else None,
                    "accuracy_sequence_interval": wilson(right / num, num) if num else None,
                    "places": asked,
                    "places_right": int(columns["places_right"][rows].sum()),
                    "accuracy_place": int(columns["places_right"][rows].sum()) / asked if asked else None,
                    "mean_steps": float(columns["steps"][rows].mean()),
                }
            )
        return table


def evaluate_sequences(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
    """Answer rows of the test stream; write report.json and ledger rows.

    Raises:
        ModelError: a checkpoint cannot answer rows of this task; a halting logit is not a number.
        StageInterrupted: the stop signal is set.
    """
    stage = node.section(EvaluateStage)
    spec = load_sequences(inputs["data"].path)
    members = _members(stage, inputs, spec, context)
    kind = earlier_kind(members[0][1].network.spec, spec.kind)
    track = recorder(node, context, kind)
    report, figures, step = _evaluate(node, stage, spec, members, context, track)
    figures |= wandb_names(kind, figures, TEST_NAMES)
    send_report(EVALUATE_PROJECT, node, context, report, inputs, figures, step)


def _evaluate(
    node: StageNode,
    stage: EvaluateStage,
    spec: SequenceSpec,
    members: Sequence[tuple[str, Bundle]],
    context: StageContext,
    track: Track,
) -> tuple[dict[str, Any], dict[str, float], int]:
    """Answer the rows and write the artifact; return its report, the figures, and the steps of the training."""
    total = most_rows(spec, stage.limit or DEFAULT_SEQUENCES, SPLIT)
    started = time.monotonic()
    tally, own = _answer(node, stage, spec, members, total, context)
    seconds = time.monotonic() - started
    figures = tally.figures()
    evaluated = evaluated_facts(members, stage.act_steps)
    lab = {
        "accuracy": figures.get("cell_accuracy"),
        "accuracy_place": figures.get("cell_accuracy"),
        "accuracy_step": figures.get("step_accuracy"),
        "accuracy_sequence": figures.get("exact"),
    }
    shares = {name: value for name, value in lab.items() if value is not None}
    step, metrics = steps_trained(evaluated), {**figures, **shares, "num_sequences": total}
    track(step, metrics)
    table = tally.by_difficulty()
    context.ledger.append(*_records(node, context, spec.kind, members[0][0], table))
    by_network = {
        name: value for name, value in figures.items() if name not in ("exact", "cell_accuracy", "step_accuracy")
    }
    report: dict[str, Any] = {
        "format_version": 1,
        "evaluated": {**evaluated, **halting_facts(stage)},
        "data": {
            "kind": spec.kind,
            "split": SPLIT,
            "digest": sequences_digest(spec),
            "spec": spec.model_dump(mode="json"),
        },
        "num_sequences": total,
        "num_scored": tally.num_scored,
        **shares,
        **({"accuracy_sequence_interval": wilson(shares["accuracy_sequence"], tally.num_scored)} if shares else {}),
        **by_network,
        "difficulty": DIFFICULTY[spec.kind],
        "by_difficulty": table,
        "denominators": {
            "accuracy, accuracy_place": "places of all rows that ask for something",
            "accuracy_step": "steps, such as the digits of one sum; right when every place of the step is",
            "accuracy_sequence": "rows that ask for something; right when every place is",
            "act_steps": "rows; the mean over its inputs where a network ponders each",
            "accuracy_sequence_interval": "Wilson, 95%, over rows",
        },
    }
    if own:
        report["members"] = [
            {**evaluated_facts([member], stage.act_steps), **one.figures()}
            for member, one in zip(members, own, strict=True)
        ]
    (context.out / "report.json").write_text(json.dumps(report, sort_keys=True, indent=1) + "\n", encoding="utf-8")
    if shares:
        write_eval_results(
            context.out,
            accuracy=shares["accuracy_sequence"],
            avg_loss=figures.get("loss_classification"),
            avg_steps=figures.get("act_steps", 0.0),
            total_examples=tally.num_scored,
        )
    context.notes.update(
        shares,
        **by_network,
        num_sequences=tally.num_scored,
        sequences_per_s=total / seconds,
        hardware=hardware(context.device),
    )
    return report, metrics, step


def _members(
    stage: EvaluateStage, inputs: Mapping[str, Artifact], spec: SequenceSpec, context: StageContext
) -> list[tuple[str, Bundle]]:
    """Load the checkpoints. Raises ModelError for one whose network cannot answer the rows."""
    members: list[tuple[str, Bundle]] = []
    for name, source in stage.members().items():
        bundle = load_bundle(inputs[name].path, context.device, weights="run")
        where = f"the checkpoint of {source!r}"
        require(bundle, kind=spec.kind, where=where)
        network = bundle.network
        shape, _ = sequence_rows(spec, network.spec.reads)
        if problems := network.problems_with(shape):
            raise ModelError(
                f"{where} cannot answer these {spec.kind} rows: {'; '.join(problems)}",
                "evaluate on rows like those of its training",
            )
        if network.num_cells == shape.cells:
            network.compile_step(stage.compile, [shape.cells], TRIAL_ROWS, context.progress.say, any_rows=True)
        members.append((inputs[name].key, bundle))
    return members


def _answer(
    node: StageNode,
    stage: EvaluateStage,
    spec: SequenceSpec,
    members: Sequence[tuple[str, Bundle]],
    total: int,
    context: StageContext,
) -> tuple[SequenceTally, list[SequenceTally]]:
    """Answer rows batch by batch; return the counts of the ensemble and of each member."""
    networks = [bundle.network for _, bundle in members]
    drawn = [sequence_rows(spec, network.spec.reads, SPLIT) for network in networks]
    own = [SequenceTally(answers_of_step(spec, shape)) for shape, _ in drawn]
    tally = SequenceTally(own[0].group) if len(members) > 1 else own[0]
    halting = Halting(stage.halt, stage.patience)
    with context.progress.task(node.name, total=total, unit="row") as bar:
        for number, start in enumerate(range(0, total, stage.batch_size)):
            if context.stop:
                raise StageInterrupted(
                    f"{node.name} stopped by {context.stop.reason} at row {start:,} of {total:,}",
                    "run again: it starts anew, nothing else is lost",
                )
            count = min(stage.batch_size, total - start)
            found: list[Answers] = []
            for network, (_, rows_of), counted in zip(networks, drawn, own, strict=True):
                rows, batch = _rows(rows_of(number, stage.batch_size), count, network.device)
                found.append(network.answer(batch, stage.act_steps, halting))
                if bool(torch.isnan(found[-1].q_halt).any()):
                    raise ModelError(
                        f"the checkpoint of stage {node.name!r} gave a halting logit that is not a number",
                        "train it again, or evaluate an earlier checkpoint",
                    )
                assert batch.labels is not None
                labels, difficulty = batch.labels, rows.lengths[:count]
                counted.add(labels, difficulty, found[-1])
            if len(found) > 1:
                tally.add(labels, difficulty, _together(found))
            shown = {"exact": f"{tally.num_right / tally.num_scored:.1%}"} if tally.num_scored else {}
            bar.advance(count, **shown)
    return tally, own if len(members) > 1 else []


def _rows(drawn: SequenceRows, count: int, device: torch.device) -> tuple[SequenceRows, Rows]:
    """Return the drawn rows, and the first `count` of them on a device."""
    valid = None if drawn.valid is None else torch.from_numpy(drawn.valid[:count]).to(device)
    inputs, labels = (torch.from_numpy(table[:count]).to(device) for table in (drawn.inputs, drawn.labels))
    return drawn, Rows(inputs, torch.zeros(count, dtype=torch.int64, device=device), labels, valid)


def _together(found: Sequence[Answers]) -> Answers:
    """Return the answers of most members, with the steps of all."""
    tokens, q_halt = elect(torch.stack([one.tokens for one in found]), torch.stack([one.q_halt for one in found]))
    steps = torch.stack([one.steps if one.mean_steps is None else one.mean_steps for one in found]).sum(dim=0)
    computed = sum(one.num_computed for one in found)
    return Answers(tokens, q_halt, steps.round().to(torch.int32), computed, mean_steps=steps.float())


def _records(
    node: StageNode, context: StageContext, kind: str, checkpoint: str, table: Sequence[Mapping[str, Any]]
) -> list[DifficultyRecord]:
    return [
        DifficultyRecord(
            run_id=context.run_id,
            stage=node.name,
            kind=kind,
            difficulty=row["difficulty"],
            num_rows=row["rows"],
            num_scored=row["scored"],
            num_right=row["right"],
            num_places=row["places"],
            num_places_right=row["places_right"],
            mean_steps=row["mean_steps"],
            checkpoint_key=checkpoint,
        )
        for row in table
    ]
