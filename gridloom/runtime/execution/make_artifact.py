"""Execution of one stage into a published artifact, in the process of the run or in a worker."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError, StoreError
from gridloom.runtime.execution.out_of_memory import memory_advice
from gridloom.runtime.execution.run_outcome import is_out_of_space
from gridloom.runtime.execution.run_records import producer
from gridloom.runtime.machine.memory import MemoryMeter
from gridloom.runtime.stage import Stage, StageContext
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.files.disk import storage_error


def make_artifact(
    stage: Stage,
    node: StageNode,
    inputs: Mapping[str, Artifact],
    context: StageContext,
    store: ArtifactStore,
    inputs_of_key: Mapping[str, Any],
    started_at: float,
) -> Artifact:
    """Run a stage and publish what it made; figures go to `context.notes`, and `context.out` and
    `context.work` are set here.

    Raises:
        StageInterrupted: the stop signal was set.
        StoreError: the disk is full, or the artifact cannot be published.
        GridloomError: the stage failed.
    """
    with store.writing(node.key) as out:
        context = replace(context, out=out, work=store.work_dir(node.key))
        meter = MemoryMeter(context.device) if node.cost is not None else None
        try:
            with memory_advice(node, context.device):
                stage.run(node, inputs, context)
        except Exception as failure:
            if is_out_of_space(failure) and not isinstance(failure, StoreError):
                raise StoreError(
                    f"cannot write in {out}: {failure}",
                    "free some space or point GRIDLOOM_HOME at another disk, then run again: finished stages are kept",
                ) from failure
            if not out.is_dir() and not isinstance(failure, StoreError):
                lost = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(out))
                raise storage_error(lost, f"run {node.name}", store.workspace.root) from failure
            raise
        if meter is not None:
            context.notes.update(peak_memory_bytes=meter.peak(), stage_memory_bytes=meter.grown())
        context.ledger.sync()  # after a power failure, too, an artifact has the records that its stage wrote
        return store.publish(
            out,
            key=node.key,
            type=node.produces,
            kind=node.kind,
            producer=producer(inputs_of_key, node, context.run_id, started_at, context.notes),
            inputs={name: artifact.key for name, artifact in inputs.items()},
        )


def verified(store: ArtifactStore, inputs: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Compare the files of all inputs with their manifests; a damaged input fails only the stages that read it.

    Raises StageError for a damaged input, StoreError where the disk refuses.
    """
    for artifact in inputs.values():
        try:
            store.verify(artifact)
        except StoreError as damaged:
            if is_out_of_space(damaged):
                raise
            raise StageError(damaged.message, damaged.remedy) from damaged
    return dict(inputs)
