"""Differences between two specs, two graphs or two keys, as typed records without presentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gridloom.compiler.fingerprint import key_inputs
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.compiler.text.tree import Path, dotted, show
from gridloom.diagnostics import Span
from gridloom.specs.base import SpecModel


@dataclass(frozen=True, slots=True)
class Added:
    """A field, list item, section or stage that only the second side has."""

    field: str
    after: Any
    span: Span | None = None

    def __str__(self) -> str:
        return f"+ {self.field}: {show(self.after)}"


@dataclass(frozen=True, slots=True)
class Removed:
    """A field, list item, section or stage that only the first side has."""

    field: str
    before: Any
    span: Span | None = None

    def __str__(self) -> str:
        return f"- {self.field}: {show(self.before)}"


@dataclass(frozen=True, slots=True)
class Changed:
    """A field with different values on both sides; `span` is the position of the second value."""

    field: str
    before: Any
    after: Any
    span: Span | None = None

    def __str__(self) -> str:
        return f"{self.field}: {show(self.before)} -> {show(self.after)}"


Change = Added | Removed | Changed


@dataclass(frozen=True, slots=True)
class StageChange:
    """Difference of one stage between two graphs."""

    stage: str
    change: str
    """'added', 'removed', 'changed' (own fields differ), 'follows' (only inputs differ), 'operational' (same key) or
    'renamed' (same key under another name)."""
    fields: tuple[Change, ...] = ()
    because: tuple[str, ...] = ()
    """Names of the inputs whose keys differ; of a renamed stage its old name."""

    @property
    def runs_anew(self) -> bool:
        """Whether the stage has a key in the second graph that the first graph does not have."""
        return self.change in ("added", "changed", "follows")


def diff_values(before: Any, after: Any, path: Path = ()) -> Iterator[Change]:
    """Compare two JSON values: mappings by field, lists of equal length by item. 1 and 1.0 are equal."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = (*path, key)
            if key not in after:
                yield Removed(dotted(inner), before[key])
            elif key not in before:
                yield Added(dotted(inner), after[key])
            else:
                yield from diff_values(before[key], after[key], inner)
    elif _is_list(before) and _is_list(after) and len(before) == len(after) and any(_nested(v) for v in before):
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from diff_values(old, new, (*path, i))
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        yield Changed(dotted(path), before, after)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _nested(value: Any) -> bool:
    return isinstance(value, dict | list | tuple)


def diff_specs(before: SpecModel, after: SpecModel, spans: dict[Path, Span] | None = None) -> tuple[Change, ...]:
    """Compare two validated specs with all defaults written out; `spans` are `Compiled.spans` of the second spec."""
    found = diff_values(before.model_dump(mode="json", by_alias=True), after.model_dump(mode="json", by_alias=True))
    return tuple(_placed(change, spans or {}) for change in found)


def _placed(change: Change, spans: dict[Path, Span]) -> Change:
    path: Path = tuple(int(part) if part.isdigit() else part for part in change.field.split("."))
    span = spans.get(path)
    if isinstance(change, Added):
        return Added(change.field, change.after, span)
    if isinstance(change, Removed):
        return change
    return Changed(change.field, change.before, change.after, span)


def diff_graphs(before: RunGraph, after: RunGraph) -> tuple[StageChange, ...]:
    """Compare two graphs stage by stage, in the order of the second, then the stages of the first alone."""
    old = {node.name: node for node in before.nodes}
    new = {node.name: node for node in after.nodes}
    by_key = {node.key: node.name for node in before.nodes if node.name not in new}
    renamed = {node.name: by_key[node.key] for node in after.nodes if node.name not in old and node.key in by_key}
    found = [
        StageChange(node.name, "renamed", (), (renamed[node.name],))
        if node.name in renamed
        else _stage_change(before, old.get(node.name), after, node)
        for node in after.nodes
    ]
    gone = [StageChange(name, "removed") for name in old if name not in new and name not in renamed.values()]
    return tuple([change for change in found if change] + gone)


def _stage_change(before: RunGraph, old: StageNode | None, after: RunGraph, new: StageNode) -> StageChange | None:
    if old is None:
        return StageChange(new.name, "added")
    if old.key == new.key:
        fields = tuple(diff_values(old.spec, new.spec))
        return StageChange(new.name, "operational", fields) if fields else None
    changes = diff_key_inputs(key_inputs(before, old), key_inputs(after, new))
    because = tuple(
        new.inputs[change.field.removeprefix("inputs.")]
        for change in changes
        if change.field.startswith("inputs.") and not isinstance(change, Removed)
    )
    fields = tuple(change for change in changes if not change.field.startswith("inputs."))
    return StageChange(new.name, "changed" if fields else "follows", fields, because)


def diff_key_inputs(before: dict[str, Any], after: dict[str, Any]) -> tuple[Change, ...]:
    """Compare the inputs of two keys (`fingerprint.key_inputs`), to explain why a stage runs anew.

    Fields of `parameters` are named as in the spec; others keep their group: `inputs.data`, `facts.digest`, `seed`.
    """
    return tuple(_named(change) for change in diff_values(before, after))


def _named(change: Change) -> Change:
    field = change.field.removeprefix("parameters.")
    if isinstance(change, Added):
        return Added(field, change.after)
    if isinstance(change, Removed):
        return Removed(field, change.before)
    return Changed(field, change.before, change.after)
