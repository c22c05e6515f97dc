"""Order of a plan's stages on several workers: each starts when its inputs are there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from gridloom.runtime.planning.plan import PlannedStage

MOST_AT_ONCE = 64
"""Largest number of stages in progress; each has a thread of the driver, and most of them wait for workers."""
LOOK_S = 0.2
"""Time between two looks of the main thread, which signals interrupt, s."""


def walk_in_parallel(
    stages: Sequence[PlannedStage], step: Callable[[PlannedStage], None], ended: Callable[[], Collection[str]]
) -> None:
    """Call `step` for every stage, in threads, once all of its inputs have ended.

    Args:
        ended: names of the stages that are done, cached, failed or blocked.

    Raises the first error of a step, after the steps in progress have returned; no step begins after it.
    """
    waiting = [*stages]
    running: dict[Future[None], PlannedStage] = {}
    failure: BaseException | None = None
    with ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="gridloom-stage") as pool:
        while running or (waiting and failure is None):
            if failure is None:
                over = {*ended()}
                names = {planned.node.name for planned in stages}
                ready = [p for p in waiting if {*p.node.inputs.values()} & names <= over]
                for planned in ready:
                    waiting.remove(planned)
                    running[pool.submit(step, planned)] = planned
            for future in wait(running, LOOK_S, FIRST_COMPLETED).done:
                del running[future]
                failure = failure or future.exception()
    if failure is not None:
        raise failure
