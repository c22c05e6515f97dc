"""Check before a run that the language models of its stages are on this machine."""

from __future__ import annotations

from collections.abc import Iterable

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.runtime.models.language.weights.managed import MANAGED, check_here

LOADS_FROM_CHECKPOINT = ("solve", "ablate")
"""Kinds of stages that load the language model of their checkpoint, which a joint training names."""


def check_weights(to_run: Iterable[StageNode], graph: RunGraph) -> None:
    """Check the managed language models of the stages that will run, so that no run fails or downloads half-way.

    Raises:
        ModelError: a model is not on this machine, with the command that fetches it.
    """
    for name in sorted({name for node in to_run for name in _weights(node, graph)} & MANAGED.keys()):
        check_here(MANAGED[name])


def _weights(node: StageNode, graph: RunGraph) -> set[str]:
    """Return the weights that a stage loads."""
    nodes = {other.name: other for other in graph.nodes}
    makers = [node]
    if node.kind in LOADS_FROM_CHECKPOINT:
        makers += [nodes[name] for name in node.inputs.values() if name in nodes]
    models = [model for maker in makers for model in maker.models.values()]
    return {str(model.get("weights")) for model in models if model.get("kind") == "llama"}
