"""The error tree. A `GridloomError` is the user's to mend and is shown without a traceback; anything else is our bug.

GridloomError                a message that names the thing, and a remedy
|- SpecError                 a spec that does not compile; carries every Diagnostic
|- DataError                 a task file, grid or dataset that cannot be read
|- ModelError                weights that are missing, damaged, or of another architecture
|- StageError                a stage that failed while it ran
|  `- StageInterrupted       stopped on purpose (signal, walltime); state saved; exit code 75
|- StoreError                ledger, journal or artifact store: damaged, newer, locked, disk full
|- ReplayError               an attempt that is unknown or whose record cannot be re-executed
`- PluginError               a kind that no package brings, or whose package cannot be loaded
"""

from __future__ import annotations

from collections.abc import Sequence

from gridloom.diagnostics import Diagnostic


class GridloomError(Exception):
    """A problem the user can mend: `message` names the thing and its value, `remedy` says what to do next."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message if not remedy else f"{message}\n  {remedy}")
        self.message = message
        self.remedy = remedy


class SpecError(GridloomError):
    """A spec that does not compile. All problems are collected before this is raised."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        first = self.diagnostics[0]
        where = f"{first.span}: " if first.span else ""
        super().__init__(f"{where}{first.code} {first.message} ({len(self.diagnostics)} problem(s))")


class DataError(GridloomError):
    """A task file, grid or dataset that cannot be read; the message names file, task and cell."""


class ModelError(GridloomError):
    """Weights that are missing, damaged, or belong to another architecture."""


class StageError(GridloomError):
    """A stage failed while it ran; what it had published before is untouched."""


class StageInterrupted(StageError):
    """A stage stopped on a signal or a walltime limit after saving its state; running again resumes it."""

    exit_code = 75


class StoreError(GridloomError):
    """The ledger, a journal or the artifact store is damaged, newer than this program, locked, or out of space."""


class ReplayError(GridloomError):
    """An attempt that is unknown or whose record cannot be re-executed here."""


class PluginError(GridloomError):
    """A kind that no installed package brings, or whose package fails to load; the message names both."""
