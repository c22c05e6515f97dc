"""Explanation of a stage's key: its inputs, and their differences from the nearest earlier artifact of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gridloom.compiler.diff import Change
from gridloom.compiler.fingerprint import key_inputs
from gridloom.errors import GridloomError
from gridloom.runtime.planning.local import compile_local
from gridloom.runtime.planning.nearest_artifact import EarlierArtifact, EarlierArtifacts, changes_since
from gridloom.runtime.planning.rekey import open_store
from gridloom.stores.workspace import Workspace
from gridloom.wording import did_you_mean, listed


@dataclass(frozen=True, slots=True)
class StageExplanation:
    """Inputs of a stage's key, and their differences from the nearest earlier artifact."""

    key: str
    inputs: dict[str, Any]
    """Hashed content of the key."""
    nearest: EarlierArtifact | None
    """Artifact of the stage's kind with the fewest differing fields, of several the newest; None if there is none."""
    changes: tuple[Change, ...]
    """Changes from the nearest artifact to this stage; empty when the keys are equal."""


def explain_stage(spec: str, overrides: Sequence[str], stage: str, workspace: Workspace) -> StageExplanation:
    """Explain the key of one stage of a spec. Raises GridloomError for an unknown stage."""
    compiled = compile_local(spec, overrides)
    graph = compiled.graph
    try:
        node = graph.node(stage)
    except KeyError:
        names = [node.name for node in graph.nodes]
        raise GridloomError(
            f"{spec} has no stage {stage!r}", did_you_mean(stage, names, f"its stages: {listed(names)}")
        ) from None
    inputs = key_inputs(graph, node)
    nearest = EarlierArtifacts(open_store(workspace)).nearest(node, inputs)
    changes = () if nearest is None else changes_since(nearest, node, inputs, compiled.place)
    return StageExplanation(node.key, inputs, nearest, changes)
