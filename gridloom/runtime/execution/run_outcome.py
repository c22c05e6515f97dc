"""Outcome of a run, and classification of failures: of one stage, or of the whole run."""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass, field

from gridloom.compiler.graph import RunGraph
from gridloom.compiler.text.tree import show
from gridloom.errors import GridloomError, StageError, StageInterrupted, StoreError
from gridloom.stores.artifacts import Artifact

MAX_LISTED = 8
"""Number of failed and of blocked stages that the summary of a run names; the ledger records all."""
STOPPED_AT_ONCE = "stopped at once by a second Ctrl-C"
_OUT_OF_SPACE = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO)


@dataclass(frozen=True, slots=True)
class RunResult:
    """Outcome by stage name; `executed`, `cached`, `failed` and `blocked` together are the plan's stages."""

    run_id: str
    executed: tuple[str, ...]
    cached: tuple[str, ...]
    artifacts: dict[str, Artifact]
    seconds: float
    failed: dict[str, str] = field(default_factory=dict)
    """Error of each failed stage; a traceback for a bug."""
    blocked: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Stages that were not started, with the failed stages that they depend on."""

    @property
    def counts(self) -> str:
        """Counts on one line: '3 done, 2 cached, 1 failed, 2 blocked'."""
        groups = {"done": self.executed, "cached": self.cached, "failed": self.failed, "blocked": self.blocked}
        return ", ".join(f"{len(names)} {word}" for word, names in groups.items())


class RunFailed(StageError):
    """Raised at the end of a run with failed stages; all stages that do not depend on them are done."""

    def __init__(self, result: RunResult, graph: RunGraph) -> None:
        self.result = result
        lines = [f"run {result.run_id}: {result.counts}"]
        for name, problem in list(result.failed.items())[:MAX_LISTED]:
            first, *rest = problem.rstrip().splitlines()
            swept = ", ".join(f"{path} {show(value)}" for path, value in graph.swept(name).items())
            lines += [f"  {name}{f' ({swept})' if swept else ''} failed: {first}", *(f"    {line}" for line in rest)]
        lines += [
            f"  {name} is blocked by {', '.join(roots)}" for name, roots in list(result.blocked.items())[:MAX_LISTED]
        ]
        if max(len(result.failed), len(result.blocked)) > MAX_LISTED:
            lines.append(
                '  all of them: gridloom sql "select stage, status, error from stages where run_id = '
                f"'{result.run_id}' and status in ('failed', 'blocked')\""
            )
        super().__init__("\n".join(lines))


def stops_everything(failure: Exception) -> bool:
    """Return whether a failure stops the whole run: a stop signal, or a store that cannot be written."""
    return isinstance(failure, StageInterrupted | StoreError)


def is_out_of_space(failure: BaseException) -> bool:
    """Return whether a full disk caused a failure, also when a library wrapped the OSError in its own type."""
    seen: BaseException | None = failure
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _OUT_OF_SPACE:
            return True
        if "No space left on device" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def failure_text(failure: BaseException) -> str:
    """Return the text for ledger and summary: the message of a GridloomError, the traceback of a bug."""
    if isinstance(failure, GridloomError):
        return str(failure)
    if isinstance(failure, KeyboardInterrupt):
        return STOPPED_AT_ONCE
    return "".join(traceback.format_exception(failure))


def naming_line(problem: str) -> str:
    """Return the line that names a problem: the last line of a traceback, else the first."""
    lines = problem.rstrip().splitlines()
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]
