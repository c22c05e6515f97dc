"""Names -> typed edges: resolution of every name in a section, and the order of the stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import BaseModel

from gridloom.compiler.language import Spec
from gridloom.compiler.session import Session
from gridloom.compiler.text.tree import Path, Places
from gridloom.compiler.validate import Validated
from gridloom.compiler.values.faults import SECTIONS
from gridloom.runtime.models.kind import kinds_with, plays
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.specs.base import ArtifactType, DataSpec, ModelSpec, Ref, StageSpec
from gridloom.specs.data import ArcData
from gridloom.specs.fields import references
from gridloom.specs.stages import CheckpointStage
from gridloom.wording import listed, nearest

Owner = tuple[str, str]
"""(section, name)."""

ARC_KINDS = ("arc", "programs")
"""Kinds of datasets of ARC tasks."""
_DATASETS: dict[tuple[ArtifactType, ...], str] = {
    ("dataset",): "an ARC dataset",
    ("dataset", "puzzles", "sequences"): "a dataset",
}
"""Noun of a reference to data in messages, by the artifact types that the reference takes."""


class Edge(NamedTuple):
    """A name written in a section, with its position and target."""

    path: Path
    """Path of the name from the top of the spec."""
    target: Owner
    artifact: ArtifactType | None
    """Type of the artifact on the edge; None where the target is the definition of a model."""

    @property
    def field(self) -> str:
        """Field of the section that holds the name."""
        return str(self.path[2])

    @property
    def place(self) -> str:
        """Field with the index in a list: `with`, `ensemble.0`."""
        return ".".join(map(str, self.path[2:]))


@dataclass(frozen=True, slots=True)
class Bound:
    """A spec with its names resolved."""

    spec: Spec
    places: Places
    shaky: frozenset[Owner]
    edges: Mapping[Owner, tuple[Edge, ...]]
    """Edges of each section in field order; names that could not be resolved are absent."""
    order: tuple[str, ...] = ()
    """Names of the stages, each after the stages that it reads, otherwise in written order."""
    unbound: frozenset[Owner] = field(default_factory=frozenset)
    """Sections with a name that could not be resolved."""

    def stage(self, name: str) -> StageSpec:
        """Return a stage by name."""
        return self.spec.stages[name]

    def models_of(self, owner: Owner) -> Iterator[tuple[str, ModelSpec]]:
        """Yield the models that a section names and those that they name, breadth first."""
        seen: set[str] = set()
        todo = [edge for edge in self.edges.get(owner, ()) if edge.target[0] == "models"]
        while todo:
            name = todo.pop(0).target[1]
            if name in seen or name not in self.spec.models:
                continue
            seen.add(name)
            yield name, self.spec.models[name]
            todo += self.edges.get(("models", name), ())

    def input(self, stage: str, key: str) -> Owner | None:
        """Return the target whose artifact a stage reads through a field; None where the field names no artifact."""
        for edge in self.edges.get(("stages", stage), ()):
            if edge.field == key and edge.artifact is not None:
                return edge.target
        return None

    def inputs(self, stage: str, key: str) -> tuple[Edge, ...]:
        """Return the edges of all artifacts that a stage reads through a field of one name or a list of names."""
        return tuple(e for e in self.edges.get(("stages", stage), ()) if e.field == key and e.artifact is not None)

    def network_of(self, stage: str) -> str | None:
        """Return the name of the network's definition behind a stage's checkpoint; None where no stage trains it."""
        seen: set[str] = set()
        while stage not in seen:
            seen.add(stage)
            edges = [e for e in self.edges.get(("stages", stage), ()) if e.field in ("model", "trm", "with")]
            if not edges:
                return None
            section, name = edges[0].target
            if section == "models":
                return None if edges[0].field == "with" else name  # a language model solves without a network
            stage = name
        return None

    def given_checkpoint_of(self, stage: str) -> str | None:
        """Return the checkpoint stage from which the weights of a stage's checkpoint started."""
        for _ in self.spec.stages:
            source = next(
                (
                    e.target
                    for e in self.edges.get(("stages", stage), ())
                    if e.field in ("model", "trm", "with") and e.target[0] == "stages"
                ),
                None,
            )
            if source is None:
                break
            stage = source[1]
        return stage if isinstance(self.spec.stages.get(stage), CheckpointStage) else None

    def language_model_of(self, stage: str) -> LlamaModel | None:
        """Return the language model of a stage, or of the stage whose checkpoint it reads."""
        seen: set[str] = set()
        while stage not in seen and stage in self.spec.stages:
            seen.add(stage)
            for _, model in self.models_of(("stages", stage)):
                if isinstance(model, LlamaModel):
                    return model
            source = self.input(stage, "with")
            if source is None:
                return None
            stage = source[1]
        return None


def bind(validated: Validated, session: Session) -> Bound:
    """Resolve every name and order the stages. Records GL201-GL207."""
    spec = validated.spec
    binder = _Binder(validated, session)
    binder.check_names()
    edges: dict[Owner, tuple[Edge, ...]] = {}
    for section in SECTIONS:
        for name, entry in getattr(spec, section).items():
            edges[section, name] = tuple(binder.edges_of((section, name), entry))
    order = _order(spec, edges, validated.places, session)
    return Bound(spec, validated.places, validated.shaky, edges, order, frozenset(binder.unbound))


class _Binder:
    """Name resolution in one validated spec."""

    def __init__(self, validated: Validated, session: Session) -> None:
        self.spec = validated.spec
        self.places = validated.places
        self.names = validated.names
        self.session = session
        self.unbound: set[Owner] = set()

    def check_names(self) -> None:
        """Record GL201 for a name in two sections, since a reference to that name would be ambiguous."""
        first: dict[str, str] = {}
        for section in SECTIONS:
            for name in self.names[section]:
                if name in first:
                    self.session.error(
                        "GL201",
                        f"'{name}' is a name in {first[name]} and in {section}",
                        self.places.key((section, name)),
                        "rename one of them",
                        (f"the other is at {self.places.key((first[name], name))}",),
                    )
                else:
                    first[name] = section

    def edges_of(self, owner: Owner, entry: BaseModel) -> Iterator[Edge]:
        for path, ref, name in references(entry):
            edge = self.edge((*owner, *path), ref, name)
            if edge is None:
                self.unbound.add(owner)
            else:
                yield edge

    def edge(self, path: Path, ref: Ref, name: str) -> Edge | None:
        """Return the edge of a written name, or None after recording a diagnostic."""
        fits = self.fitting(ref)
        if name in fits:
            section = fits[name]
            flows = None if section == "models" else getattr(self.spec, section)[name].produces
            return Edge(path, (section, name), flows)
        section = next((s for s in SECTIONS if name in self.names[s]), "")
        if not section:
            self.unknown(path, ref, name, fits)
        elif name in getattr(self.spec, section):
            self.wrong(path, ref, name, section, fits)
        return None  # the diagnostics of a refused entry are recorded already

    def fitting(self, ref: Ref) -> dict[str, str]:
        """Return the section of each name that the reference accepts."""
        found = {n: "models" for n, m in self.spec.models.items() if ref.role and plays(m.kind, ref.role)}
        if ref.artifacts:
            for section in ("data", "stages"):
                for name, entry in getattr(self.spec, section).items():
                    if entry.produces in ref.artifacts:
                        found.setdefault(name, section)  # GL201 reports a name in two sections
        return found

    def unknown(self, path: Path, ref: Ref, name: str, fits: dict[str, str]) -> None:
        near = nearest(name, list(fits)) or nearest(name, [n for s in SECTIONS for n in self.names[s]])
        if near:
            section = next(s for s in SECTIONS if near in self.names[s])
            hint = f"did you mean '{near}' ({self.where(section, near, path)})?"
        elif fits:
            hint = f"known here: {listed(list(fits))}"
        else:
            hint = f"nothing in this spec fits: it takes {wanted(ref)}"
        self.session.error(
            "GL204", f"unknown {_what(ref)} '{name}'", self.places.value(path), hint, self.places.used_at(path)
        )

    def where(self, section: str, name: str, path: Path) -> str:
        span = self.places.key((section, name))
        here = self.places.value(path)
        if span is None:
            return section
        if here is not None and here.source == span.source:
            return f"{section}, line {span.line}"
        return f"{section}, {span}"

    def wrong(self, path: Path, ref: Ref, name: str, section: str, fits: dict[str, str]) -> None:
        entry = getattr(self.spec, section)[name]
        label = entry.kind
        field_name = next(str(p) for p in reversed(path) if isinstance(p, str))
        takes = f"'{field_name}' takes {wanted(ref)}"
        hint = f"these fit: {listed(list(fits))}" if fits else ""
        at = self.places.value(path)
        if section == "models":
            self.session.error("GL205", f"'{name}' is a {label} model, but {takes}", at, hint)
        else:
            thing = _dataset(label) if section == "data" else f"a {label} stage, which makes {_a(entry.produces)}"
            self.session.error("GL206", f"'{name}' is {thing}, but {takes}", at, hint)


def _what(ref: Ref) -> str:
    if ref.role and ref.artifacts:
        return "model or stage"
    if ref.role:
        return "model"
    return "dataset" if ref.artifacts in _DATASETS else "stage"


def wanted(ref: Ref) -> str:
    """Return what a reference takes, in words: 'a trm model or a stage that makes a checkpoint'."""
    parts = [f"a {joined(list(kinds_with(ref.role)))} model"] if ref.role else []
    if ref.artifacts in _DATASETS:
        parts.append(_DATASETS[ref.artifacts])
    elif ref.artifacts:
        parts.append(f"a stage that makes {joined([_a(artifact) for artifact in ref.artifacts])}")
    return joined(parts)


def _dataset(kind: str) -> str:
    return "an ARC dataset" if kind in ARC_KINDS else f"a {kind} dataset"


def _a(artifact: str) -> str:
    if artifact.endswith("s"):
        return artifact
    return f"{'an' if artifact[0] in 'aeiou' else 'a'} {artifact}"


def joined(parts: list[str]) -> str:
    """Join alternatives with 'or'."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " or " + parts[-1]


def _order(spec: Spec, edges: dict[Owner, tuple[Edge, ...]], places: Places, session: Session) -> tuple[str, ...]:
    """Return the stages in a stable topological order. Records GL207 for each cycle."""
    reads: dict[str, list[Edge]] = {}
    for name in spec.stages:
        own = edges.get(("stages", name), ())
        of_data = [e for read in own if read.target[0] == "data" for e in edges.get(read.target, ())]
        reads[name] = [e for e in (*own, *of_data) if e.target[0] == "stages"]
    done: list[str] = []
    while len(done) < len(reads):
        ready = next((n for n in reads if n not in done and all(e.target[1] in done for e in reads[n])), None)
        if ready is None:
            _report_cycle({n: reads[n] for n in reads if n not in done}, places, session)
            return (*done, *(n for n in reads if n not in done))
        done.append(ready)
    return tuple(done)


def _report_cycle(reads: dict[str, list[Edge]], places: Places, session: Session) -> None:
    """Record GL207 for each cycle among the stages left, at the edge that closes the cycle."""
    reported: set[frozenset[str]] = set()
    for start in reads:
        path, edge_into = [start], {}
        while True:
            edge = next((e for e in reads[path[-1]] if e.target[1] in reads), None)
            if edge is None:
                break
            name = edge.target[1]
            edge_into[name] = edge
            if name in path:
                cycle = path[path.index(name) :]
                if frozenset(cycle) not in reported:
                    reported.add(frozenset(cycle))
                    session.error(
                        "GL207",
                        f"stages form a cycle: {' -> '.join([*cycle, name])}",
                        places.value(edge.path),
                        "one of them must start from something outside the cycle",
                    )
                break
            path.append(name)


def dataset_of(bound: Bound, stage: str) -> tuple[str, ArcData] | None:
    """Return the ARC dataset that a stage's `data` field names."""
    target = bound.input(stage, "data")
    data = bound.spec.data.get(target[1]) if target is not None else None
    return (target[1], data) if target is not None and isinstance(data, ArcData) else None


def data_of(bound: Bound, stage: str) -> tuple[str, DataSpec] | None:
    """Return the entry of `data`, of any kind, that a stage's `data` field names."""
    target = bound.input(stage, "data")
    data = bound.spec.data.get(target[1]) if target is not None else None
    return (target[1], data) if target is not None and data is not None else None
