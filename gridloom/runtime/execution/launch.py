"""Start of a planned run: stop on signals and walltime, and the process group where torchrun started several."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from gridloom.progress import Progress
from gridloom.runtime.cluster.where import Where
from gridloom.runtime.execution.executor import run_local
from gridloom.runtime.execution.run_outcome import RunResult
from gridloom.runtime.execution.stop_signal import StopFlag, stop_on_signals
from gridloom.runtime.planning.local import Planned
from gridloom.stores.workspace import Workspace

if TYPE_CHECKING:
    from gridloom.runtime.machine.ranks import Ranks

T = TypeVar("T")


def launch(
    planned: Planned,
    spec: str,
    overrides: Sequence[str],
    workspace: Workspace,
    progress: Progress,
    device: str | None = None,
    walltime_s: float | None = None,
    wait: bool = False,
    where: Where | None = None,
) -> RunResult:
    """Execute a plan made by `plan_local` until it is done, fails, is interrupted, or its time is up.

    SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 save the state and stop the run if the call is made in the main thread; the
    previous signal handlers are restored. `walltime_s` overrides the limit of the spec. With `wait` a stage that
    another process runs is waited for; a SIGINT in that time stops at once. Workers of `where` share the stages.

    Raises:
        StageInterrupted: a signal or the walltime stopped the run; running again resumes it.
        RunFailed: stages failed; the stages that do not depend on them were executed.
        StoreError: the disk is full, or the ledger or the artifact store cannot be used.
    """
    stop = StopFlag(planned.compiled.spec.walltime_s if walltime_s is None else walltime_s)
    with _processes() as ranks, _signals(stop):
        work = partial(run_local, planned, spec, overrides, workspace, progress, stop, device, ranks, wait, where)
        return off_loop(work)


def off_loop(work: Callable[[], T]) -> T:
    """Call `work` and return its result; in another thread if an event loop runs in this one, as in a notebook.

    Solving and replaying start an event loop, and a thread can run one at most.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1, thread_name_prefix="gridloom") as pool:
        return pool.submit(work).result()


def _signals(stop: StopFlag) -> AbstractContextManager[Any]:
    # only the main thread may set handlers
    return stop_on_signals(stop) if threading.current_thread() is threading.main_thread() else nullcontext()


def _processes() -> AbstractContextManager[Ranks | None]:
    """Return the context of rank 0 if torchrun started several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return nullcontext()
    from gridloom.runtime.machine.ranks import Ranks
    from gridloom.runtime.training.follow import leading

    return leading(Ranks.of_environment())
