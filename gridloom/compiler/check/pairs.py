"""Comparison of held-out pairs with the pairs that training reads, by their keys.

A pair counts as read if it equals the held-out one up to rotation, reflection and any exchange of colours. Where the
held-out task shows it so among its own demonstrations, only a copy cell by cell counts, and no copy if the task shows
that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from gridloom.compiler.facts import PairKey, TaskKey

Finding = Literal["answer", "small", "input"]
"""The held-out pair; its recolouring, so small that this can be chance; its input, with another output."""
STRENGTH: tuple[Finding, ...] = get_args(Finding)

REPEATED = {"23ea45a407cf": {"070dd51e", "40853293"}, "915f173a22c3": {"50a16a69", "caa06a1f"}}
"""Pairs that the published ARC-1 has twice: `pair` of the held-out one, and the tasks; the second is recoloured.
Published figures on ARC-1 count both."""
REPEATED_INPUTS = {"9477ab173c9c": {"6ea4a07e", "8719f442"}}
"""As `REPEATED`, `input` of a 3x3 test input."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Held-out test input of a task with the strongest finding about it."""

    held: TaskKey
    test: int
    """Index of the test input, from 0."""
    trained: TaskKey
    pair: PairKey
    """The pair of `trained` that was read."""
    finding: Finding

    @property
    def published(self) -> bool:
        """Whether the published ARC-1 itself has this twice."""
        tasks = {self.held.task_id, self.trained.task_id}
        if self.finding == "input":
            return REPEATED_INPUTS.get(self.pair.input) == tasks
        return REPEATED.get(self.pair.pair) == tasks

    @property
    def text(self) -> str:
        """Description of the finding, for a note."""
        pair = f"test pair {self.test + 1} of {self.held.task_id}"
        if self.finding == "input":
            return f"the input of {pair} has another output in {self.trained.task_id}"
        return f"{pair} is a pair of {self.trained.task_id}" + (" recoloured" if self.finding == "small" else "")


@dataclass(slots=True)
class ReadPairs:
    """Pairs that training reads, by their keys."""

    by_pair: dict[str, list[tuple[TaskKey, PairKey]]] = field(default_factory=lambda: defaultdict(list))
    by_input: dict[str, list[tuple[TaskKey, PairKey]]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, tasks: Iterable[TaskKey], roles: Sequence[str]) -> ReadPairs:
        """Index the pairs of the tasks that have one of the roles."""
        found = cls()
        for task in tasks:
            for pair in task.pairs:
                if pair.role in roles:
                    found.by_input[pair.input].append((task, pair))
                    if pair.pair:
                        found.by_pair[pair.pair].append((task, pair))
        return found

    def seen(self, tasks: Iterable[TaskKey]) -> list[Seen]:
        """Return the strongest finding about each held-out test input of the tasks, in their order."""
        found = []
        for task in tasks:
            for index in range(sum(pair.role == "held" for pair in task.pairs)):
                every = list(self.matches(task, index))
                found += sorted(every, key=lambda one: (STRENGTH.index(one.finding), one.published))[:1]
        return found

    def matches(self, task: TaskKey, index: int) -> Iterator[Seen]:
        """Yield every read pair that has the held-out pair, or its input, of one test input."""
        test = [pair for pair in task.pairs if pair.role == "held"][index]
        if test.pair not in self.by_pair and test.input not in self.by_input:
            return  # most of them, and the rest takes a while for a collection of tasks
        shown = [pair for pair in task.pairs if pair.role in ("demo", "check")]
        by_itself = any(pair.pair == test.pair for pair in shown)
        by_copy = any(pair.cells == test.cells for pair in shown)
        for trained, pair in self.by_pair.get(test.pair, ()) if test.pair else ():
            copied = pair.cells == test.cells
            if by_copy or (by_itself and not copied):
                continue
            certain = copied or pair.turned == test.turned or not test.small
            yield Seen(task, index, trained, pair, "answer" if certain else "small")
        # an input of one colour, or one that the task shows as well, does not point at the test
        if test.plain_input or any(pair.input == test.input for pair in shown):
            return
        demos = {pair.pair for pair in shown}
        for trained, pair in self.by_input.get(test.input, ()):
            if test.pair and pair.pair == test.pair:
                continue
            near = not test.small_input or pair.input_cells == test.input_cells
            if near or any(one.pair in demos for one in trained.pairs):
                yield Seen(task, index, trained, pair, "input")
