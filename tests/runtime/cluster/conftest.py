"""Fixtures: crews of worker processes of this machine, with what the crew said and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gridloom.runtime.cluster.crew import Crew
from gridloom.runtime.cluster.local_workers import Command, LocalWorkers, command
from gridloom.runtime.cluster.worker import Flag
from gridloom.runtime.stage import Job
from gridloom.stores.workspace import Workspace


@dataclass
class Watched:
    """A crew, and what it said, recorded and returned."""

    workspace: Workspace
    workers: LocalWorkers
    said: list[str] = field(default_factory=list)
    recorded: list[tuple[str, str]] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    stop: Flag = field(default_factory=Flag)
    crew: Crew = field(init=False)

    def __post_init__(self) -> None:
        self.crew = Crew(
            self.workers, "cpu", self.said.append, lambda name, status, _: self.recorded.append((name, status))
        )

    def run(self, job: Job, **items: dict[str, Any]) -> list[str]:
        """Run items, each called by what it is; n is its place."""
        values = {name: {"n": number, **value} for number, (name, value) in enumerate(items.items())}
        return self.crew.run(
            job,
            [*items],
            lambda item, lost: values[item],
            lambda item, got: self.results.update({item: got}),
            self.stop,
        )


@pytest.fixture
def crew_of(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Watched]]:
    """Return what makes a crew of so many workers, and end all of them afterwards."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "support"))
    made: list[Watched] = []

    def make(number: int = 1, command: Command = command) -> Watched:
        made.append(Watched(workspace, LocalWorkers(number, workspace, command)))
        return made[-1]

    yield make
    for one in made:
        one.crew.close()
