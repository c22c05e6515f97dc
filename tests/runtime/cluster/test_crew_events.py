"""Tests of a crew by the events of its workers alone, in orders that real processes seldom take."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from toy_split import toy_job

from gridloom.errors import StageError
from gridloom.runtime.cluster.crew import Crew
from gridloom.runtime.cluster.messages import Message, hello
from gridloom.runtime.cluster.worker import Flag


class Scripted:
    """Workers whose messages a test writes: answers of a function to each message of the driver, and further events."""

    ships_journals, shares_disk = False, True

    def __init__(self, number: int, answer: Callable[[str, Message], Message | None]) -> None:
        self.names = [f"w{index}" for index in range(number)]
        self.sent: list[tuple[str, Message]] = []
        self._answer = answer
        self.slow = 0.0
        """Time before each answer to an item, s."""
        self._events: queue.SimpleQueue[tuple[str, Message]] = queue.SimpleQueue()

    def start(self, name: str) -> None:
        self.event(name, hello(name))

    def send(self, name: str, message: Message) -> None:
        self.sent.append((name, message))
        if (answer := self._answer(name, message)) is None:
            return
        if self.slow and message["do"] == "item":
            threading.Timer(self.slow, self.event, (name, answer)).start()
        else:
            self.event(name, answer)

    def event(self, name: str, message: Message) -> None:
        self._events.put((name, message))

    def next_event(self, timeout_s: float) -> tuple[str, Message] | None:
        with suppress(queue.Empty):
            return self._events.get(timeout=timeout_s)
        return None

    def close(self) -> None:
        pass


def usual(name: str, message: Message) -> Message | None:
    """Return the answer of a worker that answers every message it gets."""
    match message["do"]:
        case "begin":
            return {"is": "ready", "job": message["job"], "slots": 1}
        case "item":
            return {"is": "done", "job": message["job"], "item": message["item"], "value": {}}
        case "end":
            return {"is": "ended", "job": message["job"]}
    return None


@pytest.fixture
def closing() -> Iterator[list[Crew]]:
    made: list[Crew] = []
    yield made
    for crew in made:
        crew.close()


def run(crew: Crew, *items: str) -> list[str]:
    return crew.run(toy_job(), items, lambda item, lost: {}, lambda item, got: None, Flag())


def test_a_worker_that_is_ready_after_its_job_gives_its_models_up(closing: list[Crew]) -> None:
    def late(name: str, message: Message) -> Message | None:
        return None if name == "w1" and message["do"] == "begin" and message["job"] == 1 else usual(name, message)

    workers = Scripted(2, late)
    crew = Crew(workers, "cpu", lambda text: None)
    closing.append(crew)
    assert run(crew, "a", "b") == []
    workers.event("w1", {"is": "ready", "job": 1, "slots": 1})
    assert run(crew, "c", "d") == []
    received = [(message["do"], message["job"]) for name, message in workers.sent if name == "w1"]
    assert received[:2] == [("begin", 1), ("end", 1)], "before the next job's models are loaded"


def test_the_others_go_on_without_a_worker_that_cannot_be_started(closing: list[Crew]) -> None:
    def broken(name: str, message: Message) -> Message | None:
        if name == "w1" and message["do"] == "begin":
            return {"is": "gone", "why": "exit status 1", "printed": "no such library"}
        return usual(name, message)

    shown: list[str] = []
    workers = Scripted(2, broken)
    crew = Crew(workers, "cpu", shown.append)
    closing.append(crew)
    workers.slow = 0.05  # the other worker is not done before this one has ended three times
    done: list[str] = []
    assert crew.run(toy_job(), [*"abcdefgh"], lambda item, lost: {}, lambda item, got: done.append(item), Flag()) == []
    assert sorted(done) == [*"abcdefgh"]
    assert len([line for line in shown if "w1 was lost" in line]) == 3
    assert "w1 cannot be started: it ended 3 times before any work" in shown[-1]
    assert shown[-1].endswith("no such library\nw0 goes on without it")
    assert run(crew, "later") == []


def test_a_job_fails_when_no_worker_can_be_started(closing: list[Crew]) -> None:
    def broken(name: str, message: Message) -> Message | None:
        return {"is": "gone", "why": "exit status 1"} if message["do"] == "begin" else None

    crew = Crew(Scripted(2, broken), "cpu", lambda text: None)
    closing.append(crew)
    with pytest.raises(StageError, match=r"w[01] cannot be started: it ended 3 times"):
        run(crew, "a")


def test_a_worker_that_every_item_needs_is_not_given_up(closing: list[Crew]) -> None:
    def broken(name: str, message: Message) -> Message | None:
        return (
            {"is": "gone", "why": "exit status 1"}
            if name == "w1" and message["do"] == "begin"
            else usual(name, message)
        )

    crew = Crew(Scripted(2, broken), "cpu", lambda text: None)
    closing.append(crew)
    with pytest.raises(StageError, match="w1 cannot be started"):
        crew.run(toy_job(), ["w0", "w1"], lambda item, lost: {}, lambda item, got: None, Flag(), own=True)


def test_a_job_may_begin_while_a_worker_is_lost(closing: list[Crew]) -> None:
    beginning: list[Any] = []

    def fatal(name: str, message: Message) -> Message | None:
        if message["do"] == "item" and message["item"] == "bad":
            return {"is": "gone", "why": "killed"}
        return usual(name, message)

    def say(text: str) -> None:
        if "set aside" in text:  # while the crew goes through its jobs
            other = threading.Thread(target=run, args=(crew, "other"))
            other.start()
            beginning.append(other)
            deadline = time.monotonic() + 20
            while len(crew._jobs) < 3 and time.monotonic() < deadline:
                time.sleep(0.001)

    crew = Crew(Scripted(1, fatal), "cpu", say)
    closing.append(crew)
    waiting = threading.Thread(target=run, args=(crew, "later"))
    assert crew.run(toy_job(), ["bad"], lambda item, lost: _once(waiting), lambda item, got: None, Flag()) == ["bad"]
    for thread in (waiting, *beginning):
        thread.join(20)
        assert not thread.is_alive()


def _once(thread: threading.Thread) -> dict[str, Any]:
    if thread.ident is None:
        thread.start()
    return {}
