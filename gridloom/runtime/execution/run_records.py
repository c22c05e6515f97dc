"""Records that an execution appends to the ledger for runs, stages and artifacts.

A stage is done when its artifact is published, which is one rename; the journal's record of it is a second step. So the
manifest of an artifact holds the times and notes of its stage, and the record is always made from the manifest: by the
process that published it, or, if that process was killed between the two steps, by the next run that finds the
artifact.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from gridloom.compiler.device_speeds import DeviceSpeeds
from gridloom.compiler.graph import StageNode
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import Ledger
from gridloom.stores.records import ArtifactRecord, EstimateRecord, StageRecord
from gridloom.version import __version__


def stage_record(run_id: str, node: StageNode, status: str, **fields: Any) -> StageRecord:
    """Return the record of a stage's new status in a run."""
    return StageRecord(run_id=run_id, stage=node.name, kind=node.kind, key=node.key, status=status, **fields)


def producer(
    inputs_of_key: Mapping[str, Any], node: StageNode, run_id: str, started_at: float, notes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest's `producer`: stage, run, inputs of the key, and the facts that its record needs.

    Args:
        inputs_of_key: `key_inputs` of the node in its graph.
        started_at: start of the stage in this process, seconds since the epoch.
        notes: figures of the stage, for the ledger.
    """
    return {
        "stage": node.name,
        "kind": node.kind,
        "version": node.version,
        "run_id": run_id,
        "key_inputs": dict(inputs_of_key),
        "spec": node.spec,
        "gridloom": __version__,
        "started_at": started_at,
        "notes": json.loads(json.dumps(notes, default=lambda value: value.tolist())),  # numpy's scalars and arrays
    }


def completion(artifact: Artifact) -> tuple[StageRecord, ArtifactRecord]:
    """Return the records of a published artifact: its stage is done, with times and notes of the manifest.

    Manifests of earlier versions hold neither start nor notes; the ledger keeps those that it has.
    """
    made = artifact.manifest["producer"]
    run_id, stage, kind = str(made["run_id"]), str(made["stage"]), str(made["kind"])
    now = float(artifact.manifest["created_at"])
    return (
        StageRecord(
            run_id=run_id,
            stage=stage,
            kind=kind,
            key=artifact.key,
            status="done",
            started_at=made.get("started_at"),
            ended_at=now,
            notes=made.get("notes"),
        ),
        ArtifactRecord(
            key=artifact.key,
            type=artifact.type,
            kind=kind,
            run_id=run_id,
            stage=stage,
            bytes=artifact.num_bytes,
            created_at=now,
        ),
    )


def incomplete(ledger: Ledger, artifacts: Iterable[Artifact]) -> set[str]:
    """Return the keys of published artifacts whose run is in the ledger, while their stage is not done there.

    A process was killed after it published such an artifact and before it recorded it. Raises StoreError.
    """
    made = {
        artifact.key: (str(source["run_id"]), str(source["stage"]))
        for artifact in artifacts
        if {"run_id", "stage", "kind"} <= (source := artifact.manifest.get("producer", {})).keys()
    }
    if not made or not ledger.has_records():
        return set()
    runs = sorted({run_id for run_id, _ in made.values()})
    known = ledger.rows(
        "select 'run' as what, run_id as name, '' as stage from runs where run_id in (select unnest($runs)) "
        "union all select 'stage', run_id, stage from stages "
        "where status = 'done' and run_id in (select unnest($runs)) "
        "union all select 'artifact', key, '' from artifacts where key in (select unnest($keys))",
        {"runs": runs, "keys": [*made]},
    )
    found = {(row["what"], row["name"], row["stage"]) for row in known}
    return {
        key
        for key, (run_id, stage) in made.items()
        if ("run", run_id, "") in found and not {("stage", run_id, stage), ("artifact", key, "")} <= found
    }


def estimates(run_id: str, nodes: Iterable[StageNode], speeds: DeviceSpeeds | None) -> list[EstimateRecord]:
    """Return the estimated costs of the stages that a run plans to execute."""
    return [
        EstimateRecord(
            run_id=run_id,
            stage=node.name,
            parameters=cost.parameters,
            frozen_parameters=cost.frozen_parameters,
            flops={name: float(count) for name, count in cost.flops.items()},
            step=cost.step,
            num_steps=cost.num_steps,
            peak_bytes=cost.peak_bytes,
            seconds=speeds.seconds(cost) if speeds else None,
            calibrated_on=speeds.device if speeds else None,
            assumes=list(cost.assumes),
        )
        for node in nodes
        if (cost := node.cost) is not None
    ]
