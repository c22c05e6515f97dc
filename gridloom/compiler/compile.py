"""Driver of the compilation, which runs the passes over one spec and raises all problems together.

Passes: compose and expand_sweep over the text; interpolate, validate, bind, name_only_subsets, check and
epochs_as_steps over each variant; lower and fingerprint over each checked variant; join_variants over their graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as FilePath

from gridloom.compiler.bind import bind
from gridloom.compiler.check.epochs import epochs_as_steps
from gridloom.compiler.check.graph import members_differ, memory_suffices, walltime_suffices
from gridloom.compiler.check.rules import check
from gridloom.compiler.check.subsets import name_only_subsets
from gridloom.compiler.device_speeds import DeviceSpeeds, MachineSpeeds
from gridloom.compiler.facts import Facts
from gridloom.compiler.fingerprint import fingerprint
from gridloom.compiler.graph import RunGraph
from gridloom.compiler.language import Spec
from gridloom.compiler.lower import lower
from gridloom.compiler.session import Session, Stop
from gridloom.compiler.spec_facts import SpecFacts
from gridloom.compiler.sweep import Owner, Sweep, check_size, expand_sweep, join_variants, reached
from gridloom.compiler.text.compose import Source, compose, open_source
from gridloom.compiler.text.interpolate import interpolate, warn_of_unread_overrides
from gridloom.compiler.text.tree import Path, Places
from gridloom.compiler.validate import validate
from gridloom.diagnostics import Diagnostic, Span
from gridloom.errors import SpecError


class Written:
    """Source positions of values by graph node, since the variants of a sweep have positions of their own."""

    def __init__(self, graph: RunGraph, places: Sequence[Places]) -> None:
        self._places = places
        self._graph = graph

    @cached_property
    def _variant(self) -> dict[str, int]:
        return {name: i for i, v in reversed(list(enumerate(self._graph.variants))) for name in v.nodes.values()}

    def at(self, node: str, path: Path) -> Span | None:
        """Return the position of the value at `path` in the first variant that has the node; None for a default."""
        found = self._places[self._variant.get(node, 0)].node(path)
        return None if found is None else found.span

    def key(self, node: str, path: Path) -> Span | None:
        """Return the position of the key at `path`, or of the nearest written parent."""
        return self._places[self._variant.get(node, 0)].key(path)


@dataclass(frozen=True, slots=True)
class Compiled:
    """Result of a compilation without errors."""

    graph: RunGraph
    spec: Spec
    warnings: tuple[Diagnostic, ...]
    spans: Mapping[tuple[str | int, ...], Span]
    """Position of the value of every written path."""
    written: Written
    """Positions by graph node, in every variant of a sweep."""

    def place(self, node: str, path: Path) -> Span | None:
        """Return the position of a value in a node's spec; None for a default."""
        return self.written.at(node, path)


def compile_spec(
    spec: str | FilePath,
    overrides: Sequence[str] = (),
    *,
    facts: Facts,
    speeds: DeviceSpeeds | MachineSpeeds | None = None,
    walltime_s: float | None = None,
    device: str | None = None,
    is_cached: Callable[[str], bool] | None = None,
) -> Compiled:
    """Compile a spec file or library recipe. Raises SpecError with every problem that was found.

    Args:
        speeds: measured speeds, against which the estimates of memory and time are checked (GL350, GL351).
        walltime_s: limit in seconds in place of the spec's.
        device: device of the run in place of the spec's.
        is_cached: predicate of a stage key; stages that hold it are left out of the checks of memory and time.
    """
    session = Session(facts, tuple(overrides), speeds=speeds, walltime_s=walltime_s, device=device, is_cached=is_cached)
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
    speeds: DeviceSpeeds | MachineSpeeds | None = None,
    walltime_s: float | None = None,
    device: str | None = None,
    is_cached: Callable[[str], bool] | None = None,
) -> Compiled:
    """Compile a spec given as text; `path` is its file, from which relative paths start. Raises SpecError."""
    session = Session(facts, tuple(overrides), speeds=speeds, walltime_s=walltime_s, device=device, is_cached=is_cached)
    return _compiled(Source(text, shown, path), session)


def _compiled(source: Source, session: Session) -> Compiled:
    session.base = str(source.path.parent) if source.path else "."
    checked: list[SpecFacts] = []
    sweep = Sweep((), ())
    touched: list[dict[Owner, frozenset[int]]] = []
    try:
        sweep = expand_sweep(compose(source, session), session)
        num_values = 0
        for variant in sweep.variants:
            tree = interpolate(variant.tree, session)
            num_values += tree.size
            # variants are mostly of one size, so the first decides before the others take their time
            check_size(max(num_values, tree.size * len(sweep.variants)), sweep, session)
            if sweep.axes:
                # plain values have the same sections in every variant
                touched.append(touched[0] if touched and sweep.is_plain else reached(tree, sweep.axes))
            # each pass returns the sound part of its input, so that one report holds the problems of all passes
            bound = name_only_subsets(bind(validate(tree, session), session), session)
            checked.append(epochs_as_steps(check(bound, session), session))
        warn_of_unread_overrides(session)
    except Stop:
        pass
    if session.failed:
        raise SpecError(_sorted(session.diagnostics))
    graphs = [fingerprint(lower(one, session)) for one in checked]
    bound = checked[0].bound
    graph = join_variants(sweep, graphs, touched)
    try:
        for one, its_graph in zip(checked, graphs, strict=True):
            members_differ(one.bound, its_graph, session)
            memory_suffices(one.bound, its_graph, session)
        walltime_suffices(bound, graph, session)
    except Stop:
        pass
    if session.failed:
        raise SpecError(_sorted(session.diagnostics))
    written = Written(graph, [one.bound.places for one in checked])
    return Compiled(graph, bound.spec, _sorted(session.diagnostics), bound.places.spans(), written)


def _sorted(diagnostics: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Return diagnostics in the order of repair (text and names before widths), then by position."""

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
