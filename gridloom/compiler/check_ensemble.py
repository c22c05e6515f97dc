"""The rule that the members of an ensemble are different checkpoints. It needs keys: names say nothing of that."""

from __future__ import annotations

from gridloom.compiler.bind import Bound
from gridloom.compiler.graph import RunGraph
from gridloom.compiler.session import Session
from gridloom.specs.stages import EvaluateStage, JointTrainStage, TrainStage


def members_differ(bound: Bound, graph: RunGraph, session: Session) -> None:
    """GL348: no checkpoint votes twice, under one name or two. The graph has its keys."""
    keys = {node.name: node.key for node in graph.nodes}
    for name, stage in bound.spec.stages.items():
        if not isinstance(stage, EvaluateStage):
            continue
        votes = {keys[stage.with_]: stage.with_}
        for i, member in enumerate(stage.ensemble):
            if keys[member] not in votes:
                votes[keys[member]] = member
                continue
            twin = votes[keys[member]]
            can_differ = twin != member and isinstance(bound.spec.stages[member], TrainStage | JointTrainStage)
            session.error(
                "GL348",
                f"'{name}' counts the votes of one checkpoint twice: "
                + (f"'{member}'" if twin == member else f"'{member}' makes the same as '{twin}'"),
                bound.places.value(("stages", name, "ensemble", i)),
                f"give '{member}' a seed of its own, as in  seed: 1" if can_differ else f"remove '{member}'",
            )
