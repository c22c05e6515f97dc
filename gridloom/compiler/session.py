"""State that the passes share while one spec compiles: diagnostics, facts, overrides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gridloom.compiler.device_speeds import DeviceSpeeds, MachineSpeeds
from gridloom.compiler.facts import Facts
from gridloom.diagnostics import Diagnostic, Span

MAX_PROBLEMS = 300
"""Number of diagnostics after which a compilation stops; a hostile file could have one for every character."""
MAX_MESSAGE = 2_000
"""Longest part of a diagnostic in characters; names in a spec can be as long as the file."""


class Stop(Exception):
    """End of a pass without a result; the reasons are in `Session.diagnostics`."""


@dataclass(slots=True)
class Session:
    """Inputs of one compilation and the diagnostics recorded so far."""

    facts: Facts
    overrides: tuple[str, ...] = ()
    base: str = "."
    """Folder of the spec that is compiled, as the user typed it."""
    speeds: DeviceSpeeds | MachineSpeeds | None = None
    walltime_s: float | None = None
    """Walltime of the command line in seconds, which overrides the spec's."""
    device: str | None = None
    """Device of the command line, which overrides the spec's."""
    is_cached: Callable[[str], bool] | None = None
    """Predicate of a stage key: whether its artifact is published; None without a workspace."""
    diagnostics: list[Diagnostic] = field(default_factory=list)
    without_variables: dict[int, object] = field(default_factory=dict)
    """Nodes of the tree that hold no `${...}`, by `id`."""
    read_variables: set[str] = field(default_factory=set)
    """Variables that a value of the spec uses, directly or through other variables, in some variant."""
    values_made: int = 0
    """Values that interpolation wrote so far, in all variants of a sweep."""
    _seen: set[Diagnostic] = field(default_factory=set)

    def speeds_of(self, device: str) -> DeviceSpeeds | None:
        """Return the speeds of the device that the stages will run on; `device` is the value in the spec."""
        if isinstance(self.speeds, MachineSpeeds):
            return self.speeds.of(self.device or device)
        return self.speeds

    def error(self, code: str, message: str, at: Span | None, hint: str = "", notes: Sequence[str] = ()) -> None:
        """Record an error."""
        self.add(Diagnostic(code, "error", _cut(message), at, _cut(hint), tuple(map(_cut, notes))))

    def warn(self, code: str, message: str, at: Span | None, hint: str = "", notes: Sequence[str] = ()) -> None:
        """Record a warning, with which the spec still compiles."""
        self.add(Diagnostic(code, "warning", _cut(message), at, _cut(hint), tuple(map(_cut, notes))))

    def add(self, diagnostic: Diagnostic) -> None:
        """Record a diagnostic, once. Raises Stop where there are too many."""
        if diagnostic not in self._seen:  # variants of a sweep repeat what they share
            self._seen.add(diagnostic)
            self.diagnostics.append(diagnostic)
            if len(self.diagnostics) >= MAX_PROBLEMS and self.failed:
                raise Stop  # what is wrong so often has one cause, and nobody reads on

    @property
    def failed(self) -> bool:
        """Whether any error was recorded."""
        return any(d.severity == "error" for d in self.diagnostics)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 3]}..."
