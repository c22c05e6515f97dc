"""What came of a run, and what a failure means: the trouble of one stage, or the end of everything."""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass, field

from gridloom.compiler.graph import RunGraph
from gridloom.compiler.text.tree import show
from gridloom.errors import GridloomError, StageError, StageInterrupted, StoreError
from gridloom.stores.artifacts import Artifact

MAX_TOLD = 8
"""Failed and blocked stages that the summary of a run names; the ledger has all."""
STOPPED_AT_ONCE = "stopped at once by a second Ctrl-C"
_OUT_OF_SPACE = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What was done, by stage name; `executed`, `cached`, `failed` and `blocked` together are the plan's stages."""

    run_id: str
    executed: tuple[str, ...]
    cached: tuple[str, ...]
    artifacts: dict[str, Artifact]
    seconds: float
    failed: dict[str, str] = field(default_factory=dict)
    """What was wrong with each stage that failed; a traceback where it was a bug."""
    blocked: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Stages that were not started, with the failed ones that they depend on."""

    @property
    def counts(self) -> str:
        """One line: '3 done, 2 cached, 1 failed, 2 blocked'."""
        groups = {"done": self.executed, "cached": self.cached, "failed": self.failed, "blocked": self.blocked}
        return ", ".join(f"{len(names)} {word}" for word, names in groups.items())


class RunFailed(StageError):
    """Stages failed; everything that does not depend on them was done. `result` holds both."""

    def __init__(self, result: RunResult, graph: RunGraph) -> None:
        self.result = result
        lines = [f"run {result.run_id}: {result.counts}"]
        for name, problem in list(result.failed.items())[:MAX_TOLD]:
            first, *rest = problem.rstrip().splitlines()
            swept = ", ".join(f"{path} {show(value)}" for path, value in graph.swept(name).items())
            lines += [f"  {name}{f' ({swept})' if swept else ''} failed: {first}", *(f"    {line}" for line in rest)]
        lines += [
            f"  {name} is blocked by {', '.join(roots)}" for name, roots in list(result.blocked.items())[:MAX_TOLD]
        ]
        if max(len(result.failed), len(result.blocked)) > MAX_TOLD:
            lines.append(
                '  all of them: gridloom sql "select stage, status, error from stages where run_id = '
                f"'{result.run_id}' and status in ('failed', 'blocked')\""
            )
        super().__init__("\n".join(lines))


def stops_everything(failure: Exception) -> bool:
    """Whether a failure is no stage's own: it was told to stop, or nothing could be written or recorded any more."""
    return isinstance(failure, StageInterrupted | StoreError)


def is_out_of_space(failure: BaseException) -> bool:
    """Whether a disk that takes nothing more is behind a failure, also where a library gave it a type of its own."""
    seen: BaseException | None = failure
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _OUT_OF_SPACE:
            return True
        if "No space left on device" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def failure_text(failure: BaseException) -> str:
    """Return what the ledger and the summary say: the user's mistakes as one message, bugs with their traceback."""
    if isinstance(failure, GridloomError):
        return str(failure)
    if isinstance(failure, KeyboardInterrupt):
        return STOPPED_AT_ONCE
    return "".join(traceback.format_exception(failure))


def first_line(problem: str) -> str:
    """Return the line that names a problem: of a traceback the last."""
    lines = problem.rstrip().splitlines()
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]
