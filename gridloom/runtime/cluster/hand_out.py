"""Hand-out of a job's items to workers: one at a time, again after a worker was lost, and never a fourth time.

The state holds no clock, no process and no message, so that a simulation and the driver of a run share it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)
MAX_TRIES = 3
"""Number of workers that one item may take with it before it is set aside."""


@dataclass(slots=True)
class HandOut(Generic[Item]):
    """Items of a job: open, at a worker, done, or set aside.

    An item that was with a lost worker is handed out again alone, to a worker that does nothing else meanwhile: of
    several items at one worker only the guilty one is lost three times.
    """

    items: Iterable[Item]
    max_tries: int = MAX_TRIES
    open: deque[Item] = field(init=False)
    """Items to hand out, in order; lost ones first."""
    held: dict[Item, Hashable] = field(init=False, default_factory=dict)
    """Item -> worker that has it."""
    tries: dict[Item, int] = field(init=False, default_factory=dict)
    """Item -> number of workers lost with it."""
    done: set[Item] = field(init=False, default_factory=set)
    set_aside: list[Item] = field(init=False, default_factory=list)

    _of_worker: dict[Hashable, list[Item]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.open = deque(self.items)

    @property
    def is_over(self) -> bool:
        """Whether every item is done or set aside."""
        return not self.open and not self.held

    def held_by(self, worker: Hashable) -> list[Item]:
        """Return the items at a worker."""
        return [*self._of_worker.get(worker, ())]

    def take(self, worker: Hashable, slots: int = 1) -> Item | None:
        """Return the next item for a worker with that many places; None when it gets none now."""
        if not self.open:
            return None
        mine = self.held_by(worker)
        if len(mine) >= slots or any(self.tries.get(item, 0) for item in mine):
            return None
        if self.tries.get(self.open[0], 0) and mine:
            # a suspect runs alone; what is behind it need not wait for that
            innocent = next((item for item in self.open if not self.tries.get(item, 0)), None)
            if innocent is None:
                return None
            self.open.remove(innocent)
            item = innocent
        else:
            item = self.open.popleft()
        self.held[item] = worker
        self._of_worker.setdefault(worker, []).append(item)
        return item

    def bring_forward(self, item: Item) -> None:
        """Make an open item the next one; does nothing for any other."""
        if item in self.open:
            self.open.remove(item)
            self.open.appendleft(item)

    def finish(self, item: Item, worker: Hashable) -> bool:
        """Mark an item as done; False where the worker no longer holds it, and its result counts for nothing."""
        if self.held.get(item) != worker:
            return False
        self._release(item)
        self.done.add(item)
        return True

    def give_back(self, item: Item, worker: Hashable) -> None:
        """Return an unfinished item without a try, as after a stop signal."""
        if self.held.get(item) == worker:
            self._release(item)
            self.open.appendleft(item)

    def lose(self, worker: Hashable) -> list[Item]:
        """Take the items of a lost worker back; return those that are set aside by it."""
        aside: list[Item] = []
        for item in reversed(self.held_by(worker)):
            self._release(item)
            self.tries[item] = self.tries.get(item, 0) + 1
            if self.tries[item] >= self.max_tries:
                self.set_aside.append(item)
                aside.append(item)
            else:
                self.open.appendleft(item)
        return aside

    def _release(self, item: Item) -> None:
        worker = self.held.pop(item)
        mine = self._of_worker[worker]
        mine.remove(item)
        if not mine:
            del self._of_worker[worker]
