"""The driver: runs the passes over one spec and raises all problems together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

from gridloom.compiler.bind import bind
from gridloom.compiler.check.graph import members_differ, memory_suffices, walltime_suffices
from gridloom.compiler.check.rules import check
from gridloom.compiler.device_speeds import Calibration, Calibrations
from gridloom.compiler.facts import Facts
from gridloom.compiler.fingerprint import fingerprint
from gridloom.compiler.graph import RunGraph
from gridloom.compiler.language import Spec
from gridloom.compiler.lower import lower
from gridloom.compiler.session import Session, Stop
from gridloom.compiler.spec_facts import Checked
from gridloom.compiler.sweep import Owner, Sweep, expand_sweep, join_variants, reached
from gridloom.compiler.text.compose import Source, compose, open_source
from gridloom.compiler.text.interpolate import interpolate
from gridloom.compiler.text.tree import Path, Places
from gridloom.compiler.validate import validate
from gridloom.diagnostics import Diagnostic, Span
from gridloom.errors import SpecError

FRONT: tuple[Callable[[Any, Session], Any], ...] = (compose, expand_sweep)
"""Text to trees: `compose` loads a spec and what it extends, a sweep makes several of it."""

ANALYSIS: tuple[Callable[[Any, Session], Any], ...] = (interpolate, validate, bind, check)
"""Passes over one tree. Each hands the sound part on, so that one report holds the problems of all of them."""

PASSES = (*FRONT, *ANALYSIS, lower, fingerprint, join_variants)
"""Every pass, in order."""


class Written:
    """Where values were written, by the node of the graph that has them: variants of a sweep differ."""

    def __init__(self, graph: RunGraph, places: Sequence[Places]) -> None:
        self._places = places
        self._graph = graph

    @cached_property
    def _variant(self) -> dict[str, int]:
        return {name: i for i, v in reversed(list(enumerate(self._graph.variants))) for name in v.nodes.values()}

    def at(self, node: str, path: Path) -> Span | None:
        """Return where the value at `path` stands in the first variant that has the node; None for a default."""
        found = self._places[self._variant.get(node, 0)].node(path)
        return None if found is None else found.span

    def key(self, node: str, path: Path) -> Span | None:
        """Return where the key at `path` stands, or the nearest parent's."""
        return self._places[self._variant.get(node, 0)].key(path)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A spec that compiles."""

    graph: RunGraph
    spec: Spec
    warnings: tuple[Diagnostic, ...]
    spans: Mapping[tuple[str | int, ...], Span]
    """Where the value of every written path stands."""
    written: Written
    """The same for every variant of a sweep."""

    def place(self, node: str, path: Path) -> Span | None:
        """Return where a value that a node of the graph has was written; None for a default."""
        return self.written.at(node, path)


def compile_spec(
    spec: str | FilePath,
    overrides: Sequence[str] = (),
    *,
    facts: Facts,
    calibration: Calibration | Calibrations | None = None,
    walltime_s: float | None = None,
    device: str | None = None,
    is_cached: Callable[[str], bool] | None = None,
) -> Compiled:
    """Compile a spec file or library recipe. Raises SpecError with every problem that was found.

    With a calibration, memory and walltime are checked against the estimates, on `device` where it is given, without
    the stages whose keys `is_cached` knows.
    """
    session = Session(
        facts, tuple(overrides), calibration=calibration, walltime_s=walltime_s, device=device, is_cached=is_cached
    )
    try:
        source = open_source(spec, session)
    except Stop:
        raise SpecError(_sorted(session.diagnostics)) from None
    return _compiled(source, session)


def compile_text(
    text: str,
    shown: str = "spec.yaml",
    overrides: Sequence[str] = (),
    *,
    facts: Facts,
    path: FilePath | None = None,
    calibration: Calibration | Calibrations | None = None,
    walltime_s: float | None = None,
    device: str | None = None,
    is_cached: Callable[[str], bool] | None = None,
) -> Compiled:
    """Compile a spec given as text; `path` is where it would stand, for relative paths. Raises SpecError."""
    session = Session(
        facts, tuple(overrides), calibration=calibration, walltime_s=walltime_s, device=device, is_cached=is_cached
    )
    return _compiled(Source(text, shown, path), session)


def _compiled(source: Source, session: Session) -> Compiled:
    session.base = str(source.path.parent) if source.path else "."
    checked: list[Checked] = []
    sweep = Sweep((), ())
    touched: list[dict[Owner, frozenset[int]]] = []
    try:
        value: Any = source
        for front in FRONT:
            value = front(value, session)
        sweep = value
        for variant in sweep.variants:
            value = variant.tree
            for analyse in ANALYSIS:
                value = analyse(value, session)
                if analyse is interpolate and sweep.axes:
                    # plain values stand in the same sections in every variant
                    touched.append(touched[0] if touched and sweep.is_plain else reached(value, sweep.axes))
            checked.append(value)
    except Stop:
        pass
    if session.failed:
        raise SpecError(_sorted(session.diagnostics))
    graphs = [fingerprint(lower(one, session)) for one in checked]
    bound = checked[0].bound
    for one, its_graph in zip(checked, graphs, strict=True):
        members_differ(one.bound, its_graph, session)
        memory_suffices(one.bound, its_graph, session)
    graph = join_variants(sweep, graphs, touched)
    walltime_suffices(bound, graph, session)
    if session.failed:
        raise SpecError(_sorted(session.diagnostics))
    written = Written(graph, [one.bound.places for one in checked])
    return Compiled(graph, bound.spec, _sorted(session.diagnostics), bound.places.spans(), written)


def _sorted(diagnostics: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Order by what must be mended first (text and names before widths), then by place."""

    def rank(diagnostic: Diagnostic) -> tuple[bool, str, int, int, str]:
        at = diagnostic.span
        return (
            diagnostic.code >= "GL3",
            at.source if at else "",
            at.line if at else 0,
            at.column if at else 0,
            diagnostic.code,
        )

    return tuple(sorted(diagnostics, key=rank))
