"""Specs as scripts hold them: compiled to data, with problems in place of an exception, and planned."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridloom.compiler.graph import RunGraph
from gridloom.compiler.render import render
from gridloom.compiler.text.write import override_text, spec_text
from gridloom.diagnostics import Diagnostic, Severity
from gridloom.errors import GridloomError, SpecError
from gridloom.runtime.planning.local import SpecText, compile_local
from gridloom.specs.walltime import walltime_seconds

if TYPE_CHECKING:
    from gridloom.runtime.planning.plan_report import PlanReport


@dataclass(frozen=True, slots=True)
class Problem:
    """Problem of a spec: an error, or a warning."""

    code: str
    """Stable code such as `GL101`; `gridloom explain CODE` documents it."""
    severity: Severity
    """`error`, or `warning` for what does not keep the spec from compiling."""
    message: str
    """Message, with the name and the value that are wrong."""
    path: str | None
    """File as it was given, `<dict>.yaml` or `<text>.yaml`, `--set PATH=VALUE`; None for no place."""
    line: int | None
    """Line, from 1; None for no place."""
    column: int | None
    """Column, from 1; None for no place."""
    hint: str
    """Remedy; empty where the message is all there is."""
    notes: tuple[str, ...]
    """Further lines, such as where each side of a mismatch was written."""

    @classmethod
    def of(cls, found: Diagnostic) -> Problem:
        """Return a diagnostic of the compiler as a problem."""
        at = found.span
        return cls(
            code=found.code,
            severity=found.severity,
            message=found.message,
            path=at.source if at else None,
            line=at.line if at else None,
            column=at.column if at else None,
            hint=found.hint,
            notes=found.notes,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Compiled:
    """Compiled spec: its run graph, or the problems that prevent one."""

    source: str | SpecText
    """Path, recipe name, or text of the spec."""
    overrides: tuple[str, ...]
    """Overrides as `PATH=VALUE`."""
    diagnostics: tuple[Diagnostic, ...] = field(repr=False)
    """Problems in the compiler's form, with the source line of each."""
    _graph: RunGraph | None = None

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """Errors and warnings, in the order in which they are best mended."""
        return tuple(map(Problem.of, self.diagnostics))

    @property
    def ok(self) -> bool:
        """Whether the spec compiles; there may be warnings."""
        return self._graph is not None

    @property
    def graph(self) -> RunGraph:
        """Run graph: stages in topological order with every default written out. Raises SpecError without one."""
        if self._graph is None:
            raise SpecError(self.diagnostics)
        return self._graph

    @property
    def shown(self) -> str:
        """Name of the spec in messages and in the ledger: path, recipe, `<dict>.yaml` or `<text>.yaml`."""
        return self.source.shown if isinstance(self.source, SpecText) else self.source

    def raise_for_problems(self) -> Compiled:
        """Return the spec when it compiles. Raises SpecError with every problem when it does not."""
        _ = self.graph
        return self

    def plan(
        self,
        workspace: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        walltime: str | float | None = None,
        finished_early: Sequence[str] = (),
    ) -> PlanReport:
        """Return what a run would do, stage by stage: cached or run, the reason, and what it is expected to cost.

        Args:
            workspace: the folder that holds what ran before; by default $GRIDLOOM_HOME, else `.gridloom`.
            device: `auto`, `cpu`, `cuda` or `cuda:N`; overrides the spec.
            walltime: limit of the run, as `90m` or in seconds; overrides the spec.
            finished_early: trainings whose checkpoints are those that `gridloom stage finish` published.

        Raises:
            SpecError: the spec does not compile, or its stages do not fit the device's memory or the walltime.
            StoreError: the workspace's artifacts cannot be read.
        """
        from gridloom.runtime.planning.local import plan_local
        from gridloom.runtime.planning.plan_report import plan_report
        from gridloom.stores.workspace import Workspace

        limit_s = seconds("walltime", walltime)
        found = Workspace.find(None if workspace is None else Path(workspace))
        planned = plan_local(self.source, self.overrides, found, limit_s, device, stage_names(finished_early))
        return plan_report(planned, device, limit_s)

    def __repr__(self) -> str:
        if self._graph is None:
            return f"<Compiled {self.shown}: {_counted(len(self.problems), 'problem')}>"
        return f"<Compiled {self._graph.name}: {_counted(len(self._graph.nodes), 'stage')}, {self._graph.key}>"

    def __str__(self) -> str:
        return f"{self!r}\n{render(self.diagnostics)}".rstrip("\n")

    def _repr_html_(self) -> str:
        """Draw the stages and the problems, for notebooks."""
        from gridloom.api.markup import document, element, table

        parts = [element("h4", repr(self).strip("<>"))]
        if self._graph is not None:
            stages = (
                (node.name, node.kind, node.produces, ", ".join(dict.fromkeys(node.inputs.values())), node.key[:12])
                for node in self._graph.nodes
            )
            parts.append(table(("stage", "kind", "makes", "from", "key"), stages))
        if self.diagnostics:
            problems = (
                (found.code, found.severity, str(found.span or ""), found.message, found.hint)
                for found in self.diagnostics
            )
            parts.append(table(("code", "severity", "place", "problem", "hint"), problems))
        return document(*parts)


Spec = str | os.PathLike[str] | Mapping[str, Any] | Compiled
"""A path, the name of a library recipe, YAML text of more than one line, a dict, or what `compile` returned."""


def compile(
    spec: Spec,
    *,
    set: Mapping[str, Any] | None = None,
    base: str | os.PathLike[str] = ".",
    check: bool = False,
) -> Compiled:
    """Compile a spec into its run graph; every problem is reported at once, as data.

    Args:
        spec: a path, the name of a library recipe (`quickstart`), YAML text of more than one line, or a dict.
        set: values by path, such as `{"stages.pretrain.steps": 10}`; None removes a stage, dataset or model.
        base: folder that relative paths in a text or a dict start from.
        check: raise SpecError in place of returning problems.

    Raises:
        SpecError: with `check`, when the spec does not compile.
        GridloomError: a value of a dict that a spec has no form for.
    """
    source, overrides = given(spec, set, base)
    try:
        found = compile_local(source, overrides)
    except SpecError as error:
        if check:
            raise
        return Compiled(source, overrides, error.diagnostics)
    return Compiled(source, overrides, found.warnings, found.graph)


def given(
    spec: Spec, set: Mapping[str, Any] | None, base: str | os.PathLike[str] = "."
) -> tuple[str | SpecText, tuple[str, ...]]:
    """Return a spec of any form as the planner takes it, and its overrides. Raises GridloomError as `compile`."""
    overrides = tuple(override_text(path, value) for path, value in (set or {}).items())
    if isinstance(spec, Compiled):
        return spec.source, (*spec.overrides, *overrides)
    if isinstance(spec, Mapping):
        return SpecText(spec_text(spec), str(Path(base) / "<dict>.yaml")), overrides
    if isinstance(spec, str) and "\n" in spec:
        return SpecText(spec, str(Path(base) / "<text>.yaml")), overrides
    return os.fspath(spec), overrides


def seconds(name: str, value: str | float | None) -> float | None:
    """Return a length of time in seconds; None for None. Raises GridloomError that names the argument."""
    if value is None:
        return None
    try:
        return walltime_seconds(value)
    except ValueError as error:
        raise GridloomError(f"{name}: {error}") from None


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def stage_names(stages: Sequence[str]) -> tuple[str, ...]:
    """Return the names of stages; a single name is a tuple of one, not of its letters."""
    return (stages,) if isinstance(stages, str) else tuple(stages)
