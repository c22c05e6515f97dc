"""What passes share while one spec compiles: the diagnostics found so far, facts and overrides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gridloom.compiler.calibration import Calibration, Calibrations
from gridloom.compiler.facts import Facts
from gridloom.diagnostics import Diagnostic, Span


class Stop(Exception):
    """Raised by a pass that cannot hand anything on; its reasons are in the session's diagnostics."""


@dataclass(slots=True)
class Session:
    """Collects the problems of one compilation."""

    facts: Facts
    overrides: tuple[str, ...] = ()
    base: str = "."
    """Folder of the spec that is compiled, as the user typed it."""
    calibration: Calibration | Calibrations | None = None
    walltime_s: float | None = None
    """From the command line; it goes before the spec's."""
    device: str | None = None
    """Where the run will be, in place of the spec's device."""
    is_cached: Callable[[str], bool] | None = None
    """Whether a stage of a key will not run; None where nobody knows."""
    diagnostics: list[Diagnostic] = field(default_factory=list)
    without_variables: dict[int, object] = field(default_factory=dict)
    """Parts of the tree, by identity, that hold no `${...}`."""
    _seen: set[Diagnostic] = field(default_factory=set)

    def calibration_of(self, device: str) -> Calibration | None:
        """Return the calibration of the device that the stages will run on; `device` is the spec's."""
        if isinstance(self.calibration, Calibrations):
            return self.calibration.of(self.device or device)
        return self.calibration

    def error(self, code: str, message: str, at: Span | None, hint: str = "", notes: Sequence[str] = ()) -> None:
        """Record an error."""
        self._add(Diagnostic(code, "error", message, at, hint, tuple(notes)))

    def warn(self, code: str, message: str, at: Span | None, hint: str = "", notes: Sequence[str] = ()) -> None:
        """Record a warning: the spec still compiles."""
        self._add(Diagnostic(code, "warning", message, at, hint, tuple(notes)))

    def _add(self, diagnostic: Diagnostic) -> None:
        if diagnostic not in self._seen:  # variants of a sweep repeat what they share
            self._seen.add(diagnostic)
            self.diagnostics.append(diagnostic)

    @property
    def failed(self) -> bool:
        """Whether any error was recorded."""
        return any(d.severity == "error" for d in self.diagnostics)
