"""Exception tree. The user can repair what a `GridloomError` reports, so it is shown without a traceback; any other
exception is a bug of gridloom.

GridloomError                a message that names the value at fault, and a remedy
|- SpecError                 a spec that does not compile; carries every Diagnostic
|- DataError                 a task file, grid or dataset that cannot be read
|- ModelError                weights that are missing, damaged, or of another architecture
|- StageError                a stage that failed while it ran
|  `- StageInterrupted       stopped by a signal or the walltime; state saved; exit status 75
|- StoreError                ledger, journal or artifact store: damaged, newer, locked, disk full
|- ReplayError               an attempt that is unknown or whose record cannot be re-executed
`- PluginError               a kind that no package brings, or whose package cannot be loaded
"""

from __future__ import annotations

from collections.abc import Sequence

from gridloom.diagnostics import Diagnostic


class GridloomError(Exception):
    """A problem that the user can repair: `message` names the value at fault, `remedy` the next step."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message if not remedy else f"{message}\n  {remedy}")
        self.message = message
        self.remedy = remedy


class SpecError(GridloomError):
    """A spec that does not compile; carries the diagnostics of all its problems."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        first = self.diagnostics[0]
        where = f"{first.span}: " if first.span else ""
        super().__init__(f"{where}{first.code} {first.message} ({len(self.diagnostics)} problem(s))")


class DataError(GridloomError):
    """A task file, grid or dataset that cannot be read; the message names file, task and cell."""

    def __init__(self, message: str, remedy: str = "", field: tuple[str | int, ...] = ("source",)) -> None:
        super().__init__(message, remedy)
        self.field = field
        """Path below an entry of `data` of the value at fault, where the compiler places its diagnostic."""


class ModelError(GridloomError):
    """Weights that are missing, damaged, or belong to another architecture."""


class StageError(GridloomError):
    """A stage that failed while it ran; artifacts published earlier are untouched."""


class StageInterrupted(StageError):
    """A stage that a signal or the walltime stopped after its state was saved; the next run resumes the stage."""

    exit_code = 75


class StoreError(GridloomError):
    """A ledger, journal or artifact store that is damaged, newer than this program, locked, or out of space."""


class ReplayError(GridloomError):
    """An attempt that is unknown, or whose record cannot be re-executed here."""


class PluginError(GridloomError):
    """A kind that no installed package brings, or whose package fails to load; the message names both."""
