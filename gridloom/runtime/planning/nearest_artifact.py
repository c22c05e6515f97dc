"""Key inputs of earlier artifacts, and the artifact nearest to a stage: its differences explain why the stage runs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gridloom.compiler.diff import Added, Change, Changed, diff_key_inputs, diff_values
from gridloom.compiler.diff_fields import Place
from gridloom.compiler.fingerprint import by_content, is_data
from gridloom.compiler.graph import StageNode, section_name
from gridloom.compiler.text.tree import Path
from gridloom.runtime.planning.rekey import Rekeyer
from gridloom.stores.artifacts import ArtifactStore

Leaf = tuple[str, str]
"""(path, value as text)."""


@dataclass(frozen=True, slots=True)
class EarlierArtifact:
    """Published artifact with the inputs of its key."""

    key: str
    stage: str
    kind: str
    run_id: str
    made_at: float
    """Seconds since the epoch."""
    key_inputs: dict[str, Any]
    spec: dict[str, Any] | None
    """Section of the spec as written; None if the manifest does not hold it."""


class _Group:
    """Candidates for the nearest artifact, oldest first; only paths at which they differ are compared."""

    def __init__(self, members: list[EarlierArtifact]) -> None:
        self._members = sorted(members, key=lambda member: member.made_at)
        every = [dict(_leaves(member.key_inputs)) for member in self._members]
        self._common = dict(frozenset.intersection(*(frozenset(one.items()) for one in every)))
        self._by_leaf: dict[Leaf, list[int]] = defaultdict(list)
        self._paths: list[frozenset[str]] = []
        """Paths of each member; many members share a set of paths, so each distance is computed once per set."""
        self._newest: dict[frozenset[str], int] = {}
        for index, one in enumerate(every):
            own = {path: value for path, value in one.items() if path not in self._common}
            for leaf in own.items():
                self._by_leaf[leaf].append(index)
            self._paths.append(frozenset(own))
            self._newest[self._paths[-1]] = index

    def nearest(self, inputs: dict[str, Any]) -> EarlierArtifact:
        """Return the member with the fewest fields that differ from `inputs`, of several the newest."""
        # fields that all members share add the same number of differences to each member
        own = {path: value for path, value in _leaves(inputs) if path not in self._common}
        equal = Counter(index for leaf in own.items() for index in self._by_leaf.get(leaf, ()))
        best = {paths: (0, newest) for paths, newest in self._newest.items()}
        for index, count in equal.items():
            best[self._paths[index]] = max(best[self._paths[index]], (count, index))
        _, index = min(((len(paths | own.keys()) - count, -index) for paths, (count, index) in best.items()))
        return self._members[-index]


class EarlierArtifacts:
    """Published artifacts of a workspace, read at first use."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._groups: dict[tuple[str, str | None], _Group | None] = {}

    @cached_property
    def _all(self) -> tuple[EarlierArtifact, ...]:
        return tuple(_earlier(self._store))

    def nearest(self, node: StageNode, inputs: dict[str, Any], *, same_name: bool = False) -> EarlierArtifact | None:
        """Return the artifact of the node's kind whose key inputs differ least; None if there is none.

        `same_name`: only artifacts of stages of the node's name; numbers of a sweep are ignored.
        """
        name = _base(node.name) if same_name else None
        if (node.kind, name) not in self._groups:
            members = [e for e in self._all if e.kind == node.kind and (name is None or _base(e.stage) == name)]
            self._groups[node.kind, name] = _Group(members) if members else None
        group = self._groups[node.kind, name]
        return None if group is None else group.nearest(inputs)


def changes_since(
    earlier: EarlierArtifact, node: StageNode, inputs: dict[str, Any], place: Place
) -> tuple[Change, ...]:
    """Return the changes from an earlier artifact, each with the location of the new value in the spec.

    A changed digest is replaced by the fields that cause the other content, if the artifact holds its section.
    """
    found: list[Change] = []
    for change in diff_key_inputs(earlier.key_inputs, inputs):
        causes = list(_causes(earlier, node)) if change.field.startswith("facts.") else []
        found += [cause for cause in causes or [change] if cause not in found]
    return tuple(_placed(change, node, place) for change in found)


def _causes(earlier: EarlierArtifact, node: StageNode) -> Iterator[Change]:
    if earlier.spec is None or node.spec.get("kind") != earlier.spec.get("kind"):
        return
    for change in diff_values(earlier.spec, node.spec):
        if change.field.partition(".")[0] in by_content(node):
            yield change


def spec_path(node: StageNode, name: str) -> Path | None:
    """Return the spec path of a key's field (`model.hidden_size` -> models.trm.hidden_size), None for other fields."""
    if name == "seed" and not is_data(node):
        own = node.spec.get("seed") is not None
        return ("stages", _base(node.name), "seed") if own else ("seed",)
    path: Path = ("data" if is_data(node) else "stages", _base(node.name))
    value: Any = node.spec
    for part in name.split("."):
        if isinstance(value, str) and value in node.models:
            path, value = ("models", value), node.models[value]
        if part == "content":
            part = "weights"
        if isinstance(value, dict) and part in value:
            path, value = (*path, part), value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            path, value = (*path, int(part)), value[int(part)]
        else:
            return None
    return path


def _placed(change: Change, node: StageNode, place: Place) -> Change:
    path = spec_path(node, change.field)
    if path is None or not isinstance(change, Added | Changed):
        return change
    return replace(change, span=place(node.name, path))


def _earlier(store: ArtifactStore) -> Iterator[EarlierArtifact]:
    rekeyer = Rekeyer(store)
    for artifact in store.all():
        producer = artifact.manifest.get("producer", {})
        inputs = rekeyer.inputs(artifact)
        if inputs is not None:
            yield EarlierArtifact(
                artifact.key,
                str(producer.get("stage")),
                str(producer.get("kind")),
                str(producer.get("run_id")),
                float(artifact.manifest.get("created_at", 0.0)),
                inputs,
                producer.get("spec"),
            )


def _base(stage: str) -> str:
    """Return a stage's name in the spec, without the numbers of a sweep."""
    return section_name(stage.partition("@")[0])


def _leaves(value: Any, path: str = "") -> Iterator[Leaf]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        yield path, json.dumps(value, sort_keys=True)
    else:
        yield path, repr(value)
