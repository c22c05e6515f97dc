"""Trainings that were finished early: their artifacts, and graphs that use them in place of the whole training.

An artifact of a training that was finished early has a key of its own: the fact `finished_early` (step, planned steps,
digest of the state) is part of it, so the key of the whole training stays free, and stages that read the one or the
other have different keys too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gridloom.compiler.fingerprint import digest, fingerprint, graph_key
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import GridloomError
from gridloom.runtime.checkpoints.find import TRAININGS
from gridloom.stores.artifacts import ArtifactStore
from gridloom.wording import did_you_mean, listed

FACT = "finished_early"


def finished_text(node: StageNode) -> str:
    """Return what a plan shows of a node that was finished early; empty for any other node."""
    found = node.facts.get(FACT)
    return f"finished early at step {found['step']:,} of {found['of_steps']:,}" if found else ""


def with_fact(graph: RunGraph, name: str, fact: Mapping[str, Any]) -> RunGraph:
    """Return the graph with the fact at a node, and all keys that follow from it."""
    nodes = tuple(
        node.model_copy(update={"facts": {**node.facts, FACT: dict(fact)}}) if node.name == name else node
        for node in graph.nodes
    )
    changed = fingerprint(graph.model_copy(update={"nodes": nodes}))
    return changed.model_copy(update={"key": graph_key(node.key for node in changed.nodes)})


def training_node(graph: RunGraph, name: str) -> StageNode:
    """Return a training by the name of its stage. Raises GridloomError for another name or kind."""
    trainings = [node.name for node in graph.nodes if node.kind in TRAININGS]
    node = next((node for node in graph.nodes if node.name == name), None)
    if node is None or node.name not in trainings:
        what = (
            f"the spec has no stage {name!r}" if node is None else f"stage {name!r} of kind {node.kind} trains nothing"
        )
        otherwise = f"its trainings: {listed(trainings, 6)}" if trainings else "it trains nothing"
        raise GridloomError(what, did_you_mean(name, trainings, otherwise))
    return node


def use_finished(graph: RunGraph, names: Sequence[str], store: ArtifactStore, spec: str) -> RunGraph:
    """Return the graph in which the named trainings are those that were finished early; of several, the newest.

    Args:
        spec: the spec as the user typed it, for messages.

    Raises:
        GridloomError: a name is no training, or its training was not finished early in this workspace.
    """
    order = [node.name for node in graph.nodes]
    for name in names:
        training_node(graph, name)
    # a training that continues another one is looked up by the key that it has then
    for name in sorted(dict.fromkeys(names), key=order.index):
        node = graph.node(name)
        found = _newest(store, node.key)
        if found is None:
            raise GridloomError(
                f"stage {name!r} ({node.key}) was not finished early in {store.workspace.root}",
                f"publish what it has learnt so far with: gridloom stage finish {spec} {name}",
            )
        graph = with_fact(graph, name, found)
    return graph


def _newest(store: ArtifactStore, key: str) -> Mapping[str, Any] | None:
    """Return the fact of the newest artifact that is the training of `key`, finished early."""
    best: tuple[float, Mapping[str, Any]] | None = None
    for artifact in store.all():
        covered = artifact.manifest.get("producer", {}).get("key_inputs", {})
        fact = covered.get("facts", {}).get(FACT) if isinstance(covered, Mapping) else None
        if artifact.type != "checkpoint" or not fact:
            continue
        whole = {**covered, "facts": {name: value for name, value in covered["facts"].items() if name != FACT}}
        made_at = float(artifact.manifest["created_at"])
        if digest(whole) == key and (best is None or made_at > best[0]):
            best = made_at, fact
    return None if best is None else best[1]
