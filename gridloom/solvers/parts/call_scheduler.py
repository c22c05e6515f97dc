"""Scheduler of model calls of concurrent graphs: calls run in shared batches once every graph waits for a result.

There is no timer. Each graph either runs (and will submit a call, or end) or waits for a result, so the moment at which
all graphs wait is determined by the graphs alone, and a single graph never waits for others. The event loop has one
thread, so the order of calls, and so every batch, is the same in every run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Call = TypeVar("Call")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Waiting:
    queue: CallQueue[Any, Any]
    call: Any
    future: asyncio.Future[Any]


@dataclass(slots=True)
class CallScheduler:
    """Scheduler that counts the running graphs and holds their waiting calls."""

    num_members: int = 0
    num_flushes: int = 0
    _waiting: list[_Waiting] = field(default_factory=list)
    _flushing: bool = False

    @contextmanager
    def member(self) -> Iterator[None]:
        """Count one more running graph; batches wait for its calls until the end of the block."""
        self.num_members += 1
        try:
            yield
        finally:
            self.num_members -= 1
            self._flush_if_all_wait()

    async def submit(self, queue: CallQueue[Call, Answer], call: Call) -> Answer:
        """Submit a call to a queue and return its result."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(queue, call, future))
        self._flush_if_all_wait()
        return await future

    def _flush_if_all_wait(self) -> None:
        self._waiting = [waiting for waiting in self._waiting if not waiting.future.done()]
        if self._waiting and len(self._waiting) >= self.num_members and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Run all waiting calls, queue by queue; the error of a batch is raised in the calls of that batch only."""
        self._flushing = False
        calls = [waiting for waiting in self._waiting if not waiting.future.done()]
        if len(calls) < self.num_members:
            self._waiting = calls
            return
        self._waiting = []
        self.num_flushes += 1
        for queue in dict.fromkeys(waiting.queue for waiting in calls):
            of_queue = [waiting for waiting in calls if waiting.queue is queue]
            for batch in queue.batches([waiting.call for waiting in of_queue]):
                try:
                    answers = queue.run([of_queue[index].call for index in batch])
                except Exception as error:  # any error of the model is raised in the graphs that submitted the calls
                    for index in batch:
                        of_queue[index].future.set_exception(error)
                    continue
                for index, answer in zip(batch, answers, strict=True):
                    of_queue[index].future.set_result(answer)


class CallQueue(Generic[Call, Answer]):
    """Queue of calls to one model, which runs calls in batches and counts calls, batches and seconds."""

    def __init__(
        self,
        scheduler: CallScheduler,
        answer: Callable[[list[Call]], Sequence[Answer]],
        *,
        kind: Callable[[Call], object],
        size: Callable[[Call], int],
        max_size: int,
    ) -> None:
        """Create a queue of the scheduler.

        Args:
            answer: function that runs calls of one kind in one batch and returns the results in the same order.
            kind: function of a call; calls of different kinds never share a batch.
            size: size of a call, in the unit of `max_size`.
            max_size: limit of the sum of sizes in a batch; a larger call runs in a batch of its own.
        """
        self.scheduler = scheduler
        self._answer = answer
        self._kind, self._size, self._max_size = kind, size, max_size
        self.num_calls = self.num_batches = 0
        self.seconds = 0.0

    async def submit(self, call: Call) -> Answer:
        """Submit a call and return its result; other calls may share the batch."""
        return await self.scheduler.submit(self, call)

    def batches(self, calls: Sequence[Call]) -> list[list[int]]:
        """Return the indices of the calls of each batch: calls of one kind, in order, up to `max_size`."""
        found: list[list[int]] = []
        for kind in dict.fromkeys(self._kind(call) for call in calls):
            room = 0
            for index, call in enumerate(calls):
                if self._kind(call) != kind:
                    continue
                size = self._size(call)
                if size > room or not found or self._kind(calls[found[-1][0]]) != kind:
                    found.append([])
                    room = self._max_size
                found[-1].append(index)
                room -= size
        return found

    def run(self, calls: list[Call]) -> Sequence[Answer]:
        """Run one batch and return its results."""
        began = time.perf_counter()
        answers = self._answer(calls)
        self.seconds += time.perf_counter() - began
        self.num_calls += len(calls)
        self.num_batches += 1
        return answers
