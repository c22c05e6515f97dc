"""What the key of a stage is made from, and how that differs from the nearest earlier artifact of its kind."""

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
    """What the key of a stage covers, and how that differs from the nearest earlier artifact."""

    key: str
    inputs: dict[str, Any]
    """Exactly what is hashed."""
    nearest: EarlierArtifact | None
    """The artifact of the stage's kind with the fewest differing fields, of several the newest; None without any."""
    changes: tuple[Change, ...]
    """From the nearest to this; empty when it is this very key."""


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
