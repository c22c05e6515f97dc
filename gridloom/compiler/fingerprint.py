"""Keys: a `gl1:` hash of what a stage is made from, and of nothing else.

The key of a node covers its kind and version, its parameters with every default, the definitions of the models it
names, the keys of its inputs, its seed, and digests of content outside the spec. Names, comments, order, formatting,
paths, the device and operational fields are not in it. `key_inputs` returns exactly what is hashed, as data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from pydantic_core import to_jsonable_python

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.compiler.key_algorithms import current
from gridloom.runtime.models.kind import MODELS
from gridloom.specs.base import ByContent, Later, OfNode, Operational, SpecModel
from gridloom.specs.data import DATA_SPECS
from gridloom.specs.fields import Shape, beside, field_shape, keys, kind_of, marked, shape
from gridloom.specs.kinds import STAGES

ANSWERS_SUFFIX = "_answers"
"""Ends the kind of a node that holds a dataset's held-out answers."""


def digest(value: Any) -> str:
    """Return the key of a JSON value under the current algorithm: `gl1:` and 32 hex digits."""
    return current().digest(value)


def key_inputs(graph: RunGraph, node: StageNode) -> dict[str, Any]:
    """Return exactly what the key of a node of a fingerprinted graph covers: the key is the digest of this."""
    return node_inputs(node, {other.name: other.key for other in graph.nodes})


def parameters(node: StageNode) -> dict[str, Any]:
    """Return what the key of a node covers of its own section: names replaced by what they name."""
    if node.kind.endswith(ANSWERS_SUFFIX):
        return {}
    resolved: dict[str, Any] = _resolved(node.spec, _section(node), node)
    resolved.pop("kind", None)
    return resolved


def definition(node: StageNode, model: str) -> Any:
    """Return what the key of a node covers of a model that it names."""
    return _named(model, node)


def by_content(node: StageNode) -> frozenset[str]:
    """Return the fields of a node's section that its key covers by the digest of what they lead to."""
    return _marked(node, ByContent)


def of_node(node: StageNode) -> frozenset[str]:
    """Return the fields of a node's section that its key covers by what the node itself has, such as its seed."""
    return _marked(node, OfNode)


def node_inputs(node: StageNode, input_keys: Mapping[str, str]) -> dict[str, Any]:
    """Return what `key_inputs` does, with the keys of its inputs by the names of their nodes."""
    return {
        "kind": node.kind,
        "version": node.version,
        "parameters": parameters(node),
        "inputs": {name: input_keys[target] for name, target in node.inputs.items()},
        # a language model's facts are labelled by its name; its digest stands in its definition
        "facts": {name: value for name, value in node.facts.items() if name != "llama"},
        "seed": node.seed,
    }


def _resolved(value: Any, place: Shape | None, node: StageNode) -> Any:
    """Replace names by what they name and drop fields that cannot change the result."""
    if place is None:
        return value
    if isinstance(value, dict):
        model = place.model(value.get("kind"))
        if model is None:
            return value
        later = _later(model)
        own = {
            key: _resolved(value[key], inner, node)
            for key, inner in _covered(model)
            if key in value and not (key in later and value[key] == later[key])
        }
        # what stands beside the fields is covered as written, whether or not its kind is installed here
        return {**own, **{key: value[key] for key in value if beside(model) and key not in keys(model)}}
    if isinstance(value, list):
        return [_resolved(item, place.values, node) for item in value]
    if isinstance(value, str) and place.ref is not None:
        return _named(value, node)
    return value


def is_data(node: StageNode) -> bool:
    """Whether a node comes from the `data` section: a dataset, or its held-out answers."""
    return node.kind.removesuffix(ANSWERS_SUFFIX) in _DATA


_DATA = {kind_of(spec): spec for spec in DATA_SPECS}


def _spec(node: StageNode) -> type[SpecModel] | None:
    """Return the spec model of a node's section; halves of an evaluation have the whole evaluation's.

    None for a kind of a package that is not installed here: a recorded graph may hold one.
    """
    if is_data(node):
        return _DATA[node.kind.removesuffix(ANSWERS_SUFFIX)]
    kind = STAGES.find(str(node.spec.get("kind")))
    return None if kind is None else kind.spec


def _section(node: StageNode) -> Shape | None:
    spec = _spec(node)
    return None if spec is None else shape(spec)


def _marked(node: StageNode, mark: type) -> frozenset[str]:
    spec = _spec(node)
    return frozenset() if spec is None else marked(spec, mark)


@cache
def _covered(model: type[SpecModel]) -> tuple[tuple[str, Shape], ...]:
    """Return the fields of a model that its key covers, with their shapes."""
    dropped = marked(model, Operational) | marked(model, ByContent) | marked(model, OfNode)
    return tuple((key, field_shape(model, key)) for key in keys(model) if key not in dropped)


@cache
def _later(model: type[SpecModel]) -> dict[str, Any]:
    """Return the defaults, as JSON values, of the fields that stand in a key only when they differ from them."""
    return {
        key: to_jsonable_python(keys(model)[key].get_default(call_default_factory=True, validated_data={}))
        for key in marked(model, Later)
    }


def _named(name: str, node: StageNode) -> Any:
    if name in node.models:
        kind = MODELS.find(str(node.models[name].get("kind")))
        definition = _resolved(node.models[name], None if kind is None else shape(kind.spec), node)
        content = node.facts.get("llama", {}).get(name)
        return definition if content is None else {**definition, "content": content["digest"]}
    # an input's key stands under `inputs`; here only that the field names an input
    return "input"


def graph_key(node_keys: Iterable[str]) -> str:
    """Return the key over all nodes of a graph, whatever their order."""
    return digest(sorted(set(node_keys)))


def fingerprint(graph: RunGraph) -> RunGraph:
    """Give every node its key, in topological order, and the graph the key over all of them."""
    done: dict[str, str] = {}
    nodes: list[StageNode] = []
    for node in graph.nodes:
        done[node.name] = digest(node_inputs(node, done))
        nodes.append(node.model_copy(update={"key": done[node.name]}))
    return graph.model_copy(update={"nodes": tuple(nodes), "key": graph_key(done.values())})
