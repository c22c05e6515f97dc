"""Where the model calls of concurrent graphs meet: they are run in shared batches once every graph waits for one.

There is no timer. Each graph either runs (and will come with a call, or end) or waits for an answer, so the moment
at which all wait is known exactly; it depends on nothing but the graphs themselves, and one graph alone never waits for
others. Within the single thread of the event loop the order of calls, and so every batch, is the same in every run.
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
    desk: Desk[Any, Any]
    call: Any
    future: asyncio.Future[Any]


@dataclass(slots=True)
class Hub:
    """Knows how many graphs are under way, and which calls wait."""

    num_members: int = 0
    num_flushes: int = 0
    _waiting: list[_Waiting] = field(default_factory=list)
    _flushing: bool = False

    @contextmanager
    def member(self) -> Iterator[None]:
        """Count one more graph under way; batches wait for its calls until the end of the block."""
        self.num_members += 1
        try:
            yield
        finally:
            self.num_members -= 1
            self._flush_if_all_wait()

    async def ask(self, desk: Desk[Call, Answer], call: Call) -> Answer:
        """Wait for the answer to a call."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(desk, call, future))
        self._flush_if_all_wait()
        return await future

    def _flush_if_all_wait(self) -> None:
        self._waiting = [waiting for waiting in self._waiting if not waiting.future.done()]
        if self._waiting and len(self._waiting) >= self.num_members and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Run everything that waits, desk by desk; a batch that fails, fails the calls in it alone."""
        self._flushing = False
        calls = [waiting for waiting in self._waiting if not waiting.future.done()]
        if len(calls) < self.num_members:
            self._waiting = calls
            return
        self._waiting = []
        self.num_flushes += 1
        for desk in dict.fromkeys(waiting.desk for waiting in calls):
            of_desk = [waiting for waiting in calls if waiting.desk is desk]
            for batch in desk.batches([waiting.call for waiting in of_desk]):
                try:
                    answers = desk.run([of_desk[index].call for index in batch])
                except Exception as error:  # whatever the model raises belongs to the graphs that asked
                    for index in batch:
                        of_desk[index].future.set_exception(error)
                    continue
                for index, answer in zip(batch, answers, strict=True):
                    of_desk[index].future.set_result(answer)


class Desk(Generic[Call, Answer]):
    """Answers calls of one kind in batches, and keeps count. Runs calls through a hub."""

    def __init__(
        self,
        hub: Hub,
        answer: Callable[[list[Call]], Sequence[Answer]],
        *,
        kind: Callable[[Call], object],
        size: Callable[[Call], int],
        max_size: int,
    ) -> None:
        """Set up a desk.

        Args:
            answer: runs calls of one kind in one batch, in order.
            kind: calls of different kinds are never run together.
            size: what a call takes up of a batch.
            max_size: of a batch; a larger call has a batch of its own.
        """
        self.hub = hub
        self._answer = answer
        self._kind, self._size, self._max_size = kind, size, max_size
        self.num_calls = self.num_batches = 0
        self.seconds = 0.0

    async def ask(self, call: Call) -> Answer:
        """Wait for the answer to a call, which may share its batch."""
        return await self.hub.ask(self, call)

    def batches(self, calls: Sequence[Call]) -> list[list[int]]:
        """Return the indices of the calls of each batch: by kind, in order, up to the size."""
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
        """Answer one batch."""
        began = time.perf_counter()
        answers = self._answer(calls)
        self.seconds += time.perf_counter() - began
        self.num_calls += len(calls)
        self.num_batches += 1
        return answers
