"""The driver: runs the passes over one spec and raises all problems together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridloom.compiler.bind import bind
from gridloom.compiler.check import Checked, check
from gridloom.compiler.compose import Source, compose, open_source
from gridloom.compiler.facts import Facts
from gridloom.compiler.fingerprint import fingerprint
from gridloom.compiler.graph import RunGraph
from gridloom.compiler.lower import lower
from gridloom.compiler.session import Session, Stop
from gridloom.compiler.validate import validate
from gridloom.diagnostics import Diagnostic, Span
from gridloom.errors import SpecError
from gridloom.specs.spec import Spec

ANALYSIS: tuple[Callable[[Any, Session], Any], ...] = (compose, validate, bind, check)
"""Passes that report problems; each hands the sound part of a spec on, so that one report holds them all."""

PASSES = (*ANALYSIS, lower, fingerprint)
"""Every pass, in order; `compose` loads what it needs."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A spec that compiles."""

    graph: RunGraph
    spec: Spec
    warnings: tuple[Diagnostic, ...]
    spans: Mapping[tuple[str | int, ...], Span]
    """Where the value of every written path stands."""


def compile_spec(spec: str | Path, overrides: Sequence[str] = (), *, facts: Facts) -> Compiled:
    """Compile a spec file or library recipe. Raises SpecError with every problem that was found."""
    session = Session(facts, tuple(overrides))
    try:
        source = open_source(spec, session)
    except Stop:
        raise SpecError(_sorted(session.diagnostics)) from None
    return _compiled(source, session)


def compile_text(
    text: str, shown: str = "spec.yaml", overrides: Sequence[str] = (), *, facts: Facts, path: Path | None = None
) -> Compiled:
    """Compile a spec given as text; `path` is where it would stand, for relative paths. Raises SpecError."""
    return _compiled(Source(text, shown, path), Session(facts, tuple(overrides)))


def _compiled(source: Source, session: Session) -> Compiled:
    value: Any = source
    session.base = str(source.path.parent) if source.path else "."
    try:
        for analyse in ANALYSIS:
            value = analyse(value, session)
    except Stop:
        pass
    if session.failed:
        raise SpecError(_sorted(session.diagnostics))
    assert isinstance(value, Checked)
    graph = fingerprint(lower(value, session))
    return Compiled(graph, value.bound.spec, _sorted(session.diagnostics), value.bound.places.values)


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
