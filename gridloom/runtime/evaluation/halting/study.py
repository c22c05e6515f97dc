"""Runner of `halting_study`: a checkpoint answers test rows under every number of steps and rule of halting.

Writes report.json with all tables, rows of the ledger's table `halting_study`, and figures as PNG and SVG. Each batch
is saved when it is measured, so that a stage that was stopped continues with the next one.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageInterrupted
from gridloom.optional_packages import needed
from gridloom.runtime.checkpoints.bundle import load_bundle, require
from gridloom.runtime.evaluation.halting.measure import Columns, join_columns, measure
from gridloom.runtime.evaluation.halting.rows import StudyData, study_data
from gridloom.runtime.evaluation.halting.tables import Study, StudyRow, tables
from gridloom.runtime.machine.device import hardware
from gridloom.runtime.models.kind import network_cost
from gridloom.runtime.models.network import Network
from gridloom.runtime.stage import StageContext
from gridloom.specs.halting_study import HaltingStudyStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.evaluation_records import HaltingStudyRecord
from gridloom.stores.files.write_aside import replacing

REPORT = "report.json"


class HaltingStudy:
    """Runner of kind `halting_study`. Inputs: checkpoint `with`, puzzles or sequences `data`."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Measure, and write report, ledger rows and figures. Raises StageInterrupted on a stop, keeping batches."""
        spec = node.section(HaltingStudyStage)
        if spec.plots:
            with needed("matplotlib", "plots", f"{node.name}, which draws figures,", "set  plots: false  in the stage"):
                import matplotlib  # noqa: F401 - before any work: a study without it would end in an error
        bundle = load_bundle(inputs["with"].path, context.device, weights="run")
        network = bundle.network
        data = study_data(inputs["data"], network.spec.reads, spec.limit)
        require(
            bundle,
            kind=data.kind,
            canvas=data.shape.canvas or None,
            num_cells=None if network.spec.any_length(data.shape.num_features) else data.shape.cells,
            vocabulary=data.shape.vocabulary,
            where=f"the checkpoint of {spec.with_!r}",
        )
        limits = allowed_steps(spec, network)
        started = time.monotonic()
        columns = self._measured(node, spec, network, data, limits, context)
        seconds = time.monotonic() - started
        study = Study(columns, limits, operations_of(network, data), node.seed)
        rows = tables(study, spec.bins)
        context.ledger.append(*records(rows, node, context, inputs["with"].key))
        report: dict[str, Any] = {
            "format_version": 1,
            "studied": {
                "checkpoint": inputs["with"].key,
                "stage": bundle.meta.get("stage"),
                "steps": int(bundle.meta.get("steps", 0)),
                "kind": network.spec.kind,
                "halt_max_steps": network.spec.halt_max_steps,
            },
            "data": {"kind": data.kind, "cells": data.shape.cells, "split": "test", "digest": data.digest},
            "num_rows": study.num_rows,
            "steps": study.limits,
            "cost": "ponder steps of an input or position" if network.spec.ponders else "ACT steps",
            "headline": headline(rows, study.most),
            "rows": [{name: value for name, value in asdict(row).items() if value is not None} for row in rows],
        }
        (context.out / REPORT).write_text(json.dumps(report, sort_keys=True, indent=1) + "\n", encoding="utf-8")
        if spec.plots:
            from gridloom.runtime.evaluation.halting.plots import draw

            draw(report, context.out)
        context.notes.update(
            {name: value for name, value in report["headline"].items() if isinstance(value, int | float)},
            num_puzzles=study.num_rows,
            rows_per_s=study.num_rows / seconds if seconds else 0.0,
            hardware=hardware(context.device),
        )

    def _measured(
        self,
        node: StageNode,
        spec: HaltingStudyStage,
        network: Network,
        data: StudyData,
        limits: Sequence[int],
        context: StageContext,
    ) -> Columns:
        """Return the columns of all rows, those of batches that an earlier run saved included."""
        parts: list[Columns] = []
        context.work.mkdir(parents=True, exist_ok=True)
        with context.progress.task(node.name, total=data.total, unit="row") as bar:
            for start in range(0, data.total, spec.batch_size):
                end = min(start + spec.batch_size, data.total)
                place = context.work / f"batch-{start:08d}.npz"
                part = read_columns(place)
                if part is None:
                    if context.stop:
                        raise StageInterrupted(
                            f"{node.name} stopped by {context.stop.reason} at row {start:,} of {data.total:,}, saved",
                            "run again to continue from there",
                        )
                    part = measure(network, data.rows(start, end), limits)
                    with replacing(place) as aside, aside.open("wb") as file:
                        np.savez(file, **part)  # type: ignore[arg-type]
                parts.append(part)
                bar.advance(end - start)
        return join_columns(parts)


def read_columns(path: Path) -> Columns | None:
    """Read the columns of a batch; None where there are none, or the file is damaged."""
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def allowed_steps(spec: HaltingStudyStage, network: Network) -> list[int]:
    """Return the allowed steps of a study, ascending and each once."""
    if spec.steps == "max":
        return list(range(1, network.spec.halt_max_steps + 1))
    return sorted(set(spec.steps))


def operations_of(network: Network, data: StudyData) -> Callable[[float], float]:
    """Return a function from the mean steps of rows to the operations of a row by the cost model.

    An ACT step costs the same each time. The cost of a network that ponders grows linearly with its step limit.
    """
    if not network.spec.ponders:
        step = network_cost(network.spec, data.shape).act_step(1).forward
        return lambda steps: steps * step
    one, two = (
        network_cost(network.spec.model_copy(update={"halt_max_steps": limit}), data.shape).act_step(1).forward
        for limit in (1, 2)
    )
    return lambda steps: one + (steps - 1) * (two - one)


def records(
    rows: Sequence[StudyRow], node: StageNode, context: StageContext, checkpoint: str
) -> list[HaltingStudyRecord]:
    """Return the ledger's records of a study's rows, numbered in each series."""
    numbers: dict[tuple[str, str], int] = {}
    found: list[HaltingStudyRecord] = []
    for row in rows:
        place = numbers[row.part, row.series] = numbers.get((row.part, row.series), -1) + 1
        found.append(
            HaltingStudyRecord(
                run_id=context.run_id, stage=node.name, place=place, checkpoint_key=checkpoint, **asdict(row)
            )
        )
    return found


def headline(rows: Sequence[StudyRow], most: int) -> dict[str, Any]:
    """Return the main figures of a study: exact answers, mean steps, gain, correlations, calibration."""
    found: dict[str, Any] = {}
    for row in rows:
        if row.part == "steps" and row.x == most:
            found["exact" if row.series == "fixed" else "exact_own"] = row.exact
            if row.series == "own":
                found["mean_steps"] = row.mean_steps
        elif row.part == "gain" and row.series == "own" and row.x == most:
            found |= {"gain": row.value, "gain_interval": [row.low, row.high]}
        elif row.part == "correlation" and "." not in row.series:
            found[f"steps_against_{row.series}"] = row.value
        elif row.part == "calibration" and row.series.partition(".")[0] in ("q", "residual", "confidence_all"):
            found[row.series.replace(".", "_")] = row.value
    return found
