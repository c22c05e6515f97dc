"""Sweeps: `sweep: {path: [values]}` -> one tree per combination; graphs of the variants -> one graph.

Stages that variants share are kept once. Node ids hold the numbers of the values that reach a node, in the order of the
axes: `solve@2.1`. A value keeps its number when others are appended to its axis, and an axis that does not reach a node
is not in its id, so a sweep can be extended without renaming finished stages.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import NamedTuple

from gridloom.compiler.fingerprint import graph_key, is_data
from gridloom.compiler.graph import RunGraph, StageNode, Variant, section_name
from gridloom.compiler.session import Session, Stop
from gridloom.compiler.text.overrides import UnknownPathError, explain_path, set_value
from gridloom.compiler.text.tree import (
    Mapping,
    Node,
    Path,
    Places,
    Scalar,
    Sequence,
    dotted,
    mapping_size,
    show,
    to_plain,
    walk,
)
from gridloom.diagnostics import Span

MAX_VARIANTS = 4096
MAX_AXES = 64
MAX_VALUES = 2_000_000
"""Largest number of values in all variants together."""
SECTIONS = ("data", "models", "stages")
Owner = tuple[str, str]


class Axis(NamedTuple):
    """One swept path with its values."""

    path: Path
    values: tuple[Node, ...]
    at: Span


class VariantTree(NamedTuple):
    """One combination: 0-based indices into the axes, and the tree with the values set."""

    indices: tuple[int, ...]
    tree: Mapping


@dataclass(frozen=True)
class Sweep:
    """All combinations of a spec; a spec without `sweep` has a single, empty combination."""

    axes: tuple[Axis, ...]
    variants: tuple[VariantTree, ...]

    @cached_property
    def is_plain(self) -> bool:
        """Whether every value is a scalar, so that all variants have the same keys."""
        return all(isinstance(value, Scalar) for axis in self.axes for value in axis.values)


def expand_sweep(root: Mapping, session: Session) -> Sweep:
    """Remove `sweep` from the tree and set its values. Records GL050-GL055; raises Stop for an invalid axis."""
    entry = root.entries.get("sweep")
    if entry is None:
        return Sweep((), (VariantTree((), root),))
    entries = {key: e for key, e in root.entries.items() if key != "sweep"}
    rest = replace(root, entries=entries, size=mapping_size(entries))
    before = len(session.diagnostics)
    axes = tuple(_axes(entry.value, entry.key_span, rest, session))
    count = math.prod(len(axis.values) for axis in axes)
    if count > MAX_VARIANTS:
        sizes = " x ".join(str(len(axis.values)) for axis in axes if len(axis.values) > 1)
        session.error(
            "GL052", f"the sweep has {count:,} combinations ({sizes}), more than {MAX_VARIANTS:,}", entry.key_span
        )
    elif axes and count * rest.size > MAX_VALUES:
        _too_many_values(count, entry.key_span, session)
    if any(d.severity == "error" for d in session.diagnostics[before:]):
        raise Stop
    trees = []
    for indices in product(*(range(len(axis.values)) for axis in axes)):
        tree = rest
        for axis, i in zip(axes, indices, strict=True):
            tree = set_value(tree, axis.path, axis.values[i], axis.at, session)
        trees.append(VariantTree(indices, tree))
    return Sweep(axes, tuple(trees))


def check_size(num_values: int, sweep: Sweep, session: Session) -> None:
    """Stop where the variants so far hold more values than a sweep may. Records GL052."""
    if num_values > MAX_VALUES and sweep.axes:
        _too_many_values(len(sweep.variants), sweep.axes[0].at, session)
        raise Stop


def _too_many_values(count: int, at: Span, session: Session) -> None:
    session.error(
        "GL052",
        f"the {count:,} combinations hold more than {MAX_VALUES:,} values together",
        at,
        "sweep over fewer values, or write shorter lists",
    )


def _axes(node: Node, at: Span, rest: Mapping, session: Session) -> Iterator[Axis]:
    if not isinstance(node, Mapping):
        session.error(
            "GL050",
            "'sweep' must be a mapping of paths to lists of values",
            at,
            "write: sweep: {stages.pretrain.steps: [500, 1000]}",
        )
        return
    if len(node.entries) > MAX_AXES:
        session.error("GL052", f"the sweep has {len(node.entries):,} axes, more than {MAX_AXES}", at)
        return
    seen: list[Path] = []
    for name, entry in node.entries.items():
        path: Path = tuple(name.split("."))
        if not isinstance(entry.value, Sequence) or not entry.value.items:
            session.error(
                "GL050", f"the axis '{name}' needs a list of values", entry.key_span, f"write: {name}: [1, 2]"
            )
            continue
        values = tuple(_marked(item, name, i) for i, item in enumerate(entry.value.items))
        try:
            set_value(rest, path, values[0], entry.key_span, session)
        except UnknownPathError as unknown:
            session.error("GL051", unknown.message, entry.key_span, explain_path(path, unknown))
            continue
        clash = next((p for p in seen if p[: len(path)] == path or path[: len(p)] == p), None)
        if clash is not None:
            session.error("GL054", f"the axes '{dotted(clash)}' and '{name}' set the same place", entry.key_span)
            continue
        seen.append(path)
        _report_override(path, rest, session)
        if len(values) <= MAX_VARIANTS:
            _report_doubles(entry.value, name, session)
        yield Axis(path, values, entry.key_span)


def _report_override(path: Path, rest: Mapping, session: Session) -> None:
    """Record GL055 for the first `--set` of what an axis sets, or of a value inside it."""
    node = Places(rest).node(path)
    for _, inner in walk(node) if node is not None else ():
        source = inner.span.source
        if source.startswith("--set "):
            name, _, value = source.removeprefix("--set ").partition("=")
            axis, start = dotted(path), len("--set ") + 1
            session.error(
                "GL055",
                f"'{name}' is set, but the axis '{axis}' of the sweep sets it in every variant",
                Span(source, 1, start, start + len(name), source),
                f"set the axis: --set 'sweep.{axis}=[{value if name == axis else '...'}]'",
            )
            return


def _report_doubles(values: Sequence, name: str, session: Session) -> None:
    seen: set[str] = set()
    for item in values.items:
        value = to_plain(item)
        text = json.dumps(value, sort_keys=True)  # 1, 1.0 and true differ, as they do to the models
        if text in seen:
            session.error("GL053", f"the axis '{name}' has {show(value)} twice", item.span, "remove one")
        seen.add(text)


def _marked(node: Node, name: str, index: int) -> Node:
    """Return a value marked with the axis that it comes from; its own position is kept."""
    source = Span(f"sweep {name}[{index}]", node.span.line, node.span.column, node.span.end_column, node.span.text)
    return replace(node, via=(*node.via, source))


def reached(variant: Mapping, axes: tuple[Axis, ...]) -> dict[Owner, frozenset[int]]:
    """Return the axes whose values occur in each section of a variant; `('', '')` is the head of the spec."""
    by_source = {f"sweep {dotted(axis.path)}": k for k, axis in enumerate(axes)}
    found: dict[Owner, set[int]] = {}
    for path, node in walk(variant):
        sources = (*node.via, *(node.parts if isinstance(node, Scalar) else ()))
        hits = {by_source[s.source.rpartition("[")[0]] for s in sources if s.source.startswith("sweep ")}
        if not hits or (path and path[0] == "vars"):
            continue
        owner = (str(path[0]), str(path[1])) if len(path) > 1 and path[0] in SECTIONS else ("", "")
        found.setdefault(owner, set()).update(hits)
    return {owner: frozenset(hits) for owner, hits in found.items()}


def join_variants(sweep: Sweep, graphs: list[RunGraph], touched: list[dict[Owner, frozenset[int]]]) -> RunGraph:
    """Merge the fingerprinted graphs of all variants into one; stages with equal keys are kept once."""
    if not sweep.axes:
        return graphs[0]
    nodes: dict[str, StageNode] = {}
    by_key: dict[tuple[str, str], str] = {}
    variants: list[Variant] = []
    for variant, graph, hits in zip(sweep.variants, graphs, touched, strict=True):
        deep = _deep_axes(graph, hits)
        ids: dict[str, str] = {}
        for node in graph.nodes:
            ids[node.name] = by_key.setdefault(
                (node.name, node.key), _node_id(node.name, deep[node.name], variant.indices)
            )
            if ids[node.name] not in nodes:
                inputs = {field: ids[target] for field, target in node.inputs.items()}
                nodes[ids[node.name]] = node.model_copy(update={"name": ids[node.name], "inputs": inputs})
        values = {
            dotted(axis.path): to_plain(axis.values[i]) for axis, i in zip(sweep.axes, variant.indices, strict=True)
        }
        number = ".".join(str(i + 1) for i in variant.indices)
        variants.append(Variant(id=number, values=values, nodes=ids))
    ordered = sorted(nodes.values(), key=lambda node: not is_data(node) or bool(node.inputs))
    key = graph_key(node.key for node in ordered)
    return graphs[0].model_copy(update={"nodes": tuple(ordered), "variants": tuple(variants), "key": key})


def _node_id(name: str, axes: frozenset[int], indices: tuple[int, ...]) -> str:
    numbers = ".".join(str(indices[k] + 1) for k in sorted(axes))
    return f"{name}@{numbers}" if numbers else name


def _deep_axes(graph: RunGraph, touched: dict[Owner, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Return the axes that reach each node: through its section, its models, or its inputs."""
    deep: dict[str, frozenset[int]] = {}
    for node in graph.nodes:
        name = section_name(node.name)
        own = touched.get(("data" if is_data(node) else "stages", name), frozenset())
        if not is_data(node):
            own |= touched.get(("", ""), frozenset())
        for model in node.models:
            own |= touched.get(("models", model), frozenset())
        for target in node.inputs.values():
            own |= deep[target]
        deep[node.name] = own
    return deep
