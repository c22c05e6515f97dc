"""Differences between two graphs as fields of the spec: each field once, with its position and the keys it alters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from gridloom.compiler.diff import Added, Change, Changed, Removed, diff_specs, diff_values
from gridloom.compiler.fingerprint import by_content, definition, is_data, of_node, parameters
from gridloom.compiler.graph import RunGraph, StageNode, section_name
from gridloom.compiler.language import Spec
from gridloom.compiler.text.tree import Path, show
from gridloom.diagnostics import Span

Place = Callable[[str, Path], Span | None]
"""(node, path in the spec) -> position of the value; None for a default."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a spec, a graph or a run."""

    shown: str
    """Argument as the user typed it."""
    kind: str
    """Kind of the side: 'spec', 'graph' or 'run'."""
    graph: RunGraph
    spec: Spec | None = None
    """Spec of the side; None where only the graph is known."""
    place: Place = lambda node, path: None


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of the spec that differs; `change` is 'added', 'removed' or 'changed'."""

    path: str
    change: str
    before: Any
    after: Any
    alters: tuple[str, ...] = ()
    """Stages of the second side whose own key the field alters; empty for operational fields, labels and unused
    entries."""
    before_at: Span | None = None
    after_at: Span | None = None
    """Position of the second value (`before_at`: of the first); None for a default, a graph file or a run."""

    def __str__(self) -> str:
        if self.change == "added":
            return f"+ {self.path}: {show(self.after)}"
        if self.change == "removed":
            return f"- {self.path}: {show(self.before)}"
        return f"{self.path}: {show(self.before)} -> {show(self.after)}"


def diff_sides(before: Side, after: Side) -> tuple[FieldChange, ...]:
    """Compare two sides field by field, in the order of the second side's stages, then the fields of no stage."""
    found: dict[tuple[str, str], FieldChange] = {}
    old = {node.name: node for node in before.graph.nodes}
    for node in after.graph.nodes:
        if node.name in old:
            for change in _node_changes(before, old[node.name], after, node):
                _merge(found, change)
    for change in _rest(before, after):
        if not any(_touches(change.path, path) for path, _ in found):
            _merge(found, change)
    return tuple(found.values())


def _merge(found: dict[tuple[str, str], FieldChange], change: FieldChange) -> None:
    """Record a change once, with all stages that it alters."""
    place = (change.path, str(change))
    known = found.get(place)
    if known is not None:
        change = replace(known, alters=tuple(dict.fromkeys(known.alters + change.alters)))
    found[place] = change


def _node_changes(before: Side, old: StageNode, after: Side, new: StageNode) -> Iterator[FieldChange]:
    """Compare one stage: section, named models, seed, version, and digests of content."""
    name = section_name(new.name.partition("@")[0])
    section: Path = ("data" if is_data(new) else "stages", name)
    same = old.key == new.key
    covered = [] if same else list(diff_values(parameters(old), parameters(new)))
    content = _content(old) != _content(new)
    explained = False
    for change in diff_values(old.spec, new.spec):
        by_digest = content and change.field.partition(".")[0] in by_content(new)
        explained |= by_digest
        own_seed = old.seed != new.seed and change.field in of_node(new)
        alters = not same and (by_digest or own_seed or any(_touches(change.field, other.field) for other in covered))
        yield _placed(change, section, alters, before, old, after, new)
    for model in [*old.models, *(m for m in new.models if m not in old.models)]:
        if model not in old.models or model not in new.models:
            continue  # the field that names the model differs
        kept = list(diff_values(definition(old, model), definition(new, model)))
        digests = any(change.field == "content" for change in kept)
        for change in diff_values(old.models[model], new.models[model]):
            alters = (digests and change.field == "weights") or any(_touches(change.field, c.field) for c in kept)
            yield _placed(change, ("models", model), not same and alters, before, old, after, new)
        if digests and old.models[model].get("weights") == new.models[model].get("weights"):
            yield FieldChange(f"models.{model}.weights", "changed", "other content", "new content", (new.name,))
    if old.seed != new.seed and not any(old.spec.get(field) != new.spec.get(field) for field in of_node(new)):
        yield _placed(Changed("seed", old.seed, new.seed), (), not same, before, old, after, new)
    if old.version != new.version:
        yield FieldChange(f"version of {new.kind}", "changed", old.version, new.version, (new.name,))
    if content and not explained and old.kind == new.kind:
        yield FieldChange(f"data.{name}: content", "changed", *_content_pair(old, new), (new.name,))


def _content(node: StageNode) -> dict[str, Any]:
    return {name: value for name, value in node.facts.items() if name != "llama"}


def _content_pair(old: StageNode, new: StageNode) -> tuple[str, str]:
    field = next(name for name in {**_content(old), **_content(new)} if old.facts.get(name) != new.facts.get(name))
    return str(old.facts.get(field))[:12], str(new.facts.get(field))[:12]


def _touches(one: str, other: str) -> bool:
    """Whether the paths are equal or one contains the other."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _placed(
    change: Change, section: Path, alters: bool, before: Side, old: StageNode, after: Side, new: StageNode
) -> FieldChange:
    path = (*section, *change.field.split(".")) if change.field else section
    path = tuple(int(part) if isinstance(part, str) and part.isdigit() else part for part in path)
    return FieldChange(
        ".".join(map(str, path)),
        _word(change),
        getattr(change, "before", None),
        getattr(change, "after", None),
        (new.name,) if alters else (),
        None if isinstance(change, Added) else before.place(old.name, path),
        None if isinstance(change, Removed) else after.place(new.name, path),
    )


def _word(change: Change) -> str:
    return {Added: "added", Removed: "removed", Changed: "changed"}[type(change)]


def _rest(before: Side, after: Side) -> Iterator[FieldChange]:
    """Compare the fields of no stage: names, the device, and for two specs also unused sections."""
    if before.spec is None or after.spec is None:
        for field in ("name", "device"):
            pair = getattr(before.graph, field), getattr(after.graph, field)
            if pair[0] != pair[1]:
                yield FieldChange(field, "changed", *pair, (), before.place("", (field,)), after.place("", (field,)))
        return
    ran = {node.key for node in before.graph.nodes}
    for change in diff_specs(before.spec, after.spec):
        section, _, name = change.field.partition(".")
        named = [n for n in after.graph.nodes if section_name(n.name.partition("@")[0]) == name]
        new = [n.name for n in named if n.key not in ran]
        alters = tuple(new) if isinstance(change, Added) and section in ("stages", "data") else ()
        path: Path = tuple(int(part) if part.isdigit() else part for part in change.field.split("."))
        yield FieldChange(
            change.field,
            _word(change),
            getattr(change, "before", None),
            getattr(change, "after", None),
            alters,
            None if isinstance(change, Added) else before.place("", path),
            None if isinstance(change, Removed) else after.place("", path),
        )
