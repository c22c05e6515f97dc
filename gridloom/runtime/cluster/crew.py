"""The crew of a run: its workers, the jobs that stages hand to them, and one thread that carries the messages.

Stages call `Crew.run` from threads of their own; results come back to the caller's thread. The crew starts a lost
worker again, hands its items out again, and sets aside an item that takes three workers with it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from gridloom.errors import GridloomError, StageError
from gridloom.progress import StopSignal
from gridloom.runtime.cluster.hand_out import HandOut
from gridloom.runtime.cluster.messages import MAX_SKEW_S, Message, error_of, skew_s, version_problem
from gridloom.runtime.cluster.shipped import Shipped
from gridloom.runtime.stage import Job
from gridloom.wording import duration, listed

POLL_S = 0.05
"""Longest wait of a stage for its next event before it looks at the stop signal, s."""
MAX_FALSE_STARTS = 3
"""Number of times in a row that a worker may end before it does any work; then the others go on without it."""


class Workers(Protocol):
    """Kind of cluster: starts workers, carries messages, reports lost workers by the event `gone`."""

    names: list[str]
    ships_journals: bool
    """Whether journals come with the messages; else workers write into the workspace."""
    shares_disk: bool
    """Whether every worker sees the workspace of the driver."""

    def start(self, name: str) -> None: ...
    def send(self, name: str, message: Message) -> None: ...
    def next_event(self, timeout_s: float) -> tuple[str, Message] | None: ...
    def close(self) -> None: ...


class Events(Protocol):
    """Recorder of a worker's life."""

    def __call__(self, worker: str, status: str, greeting: Message) -> None:
        """Record that a worker started, ended or was lost."""


def unrecorded(worker: str, status: str, greeting: Message) -> None:
    """Record nothing."""


@dataclass(slots=True)
class _Place:
    """One worker as the driver sees it."""

    name: str
    greeting: Message | None = None
    """Its `hello`; None while it starts."""
    slots: dict[int, int] = field(default_factory=dict)
    """Job -> places, for the jobs that it has loaded."""
    asked: set[int] = field(default_factory=set)
    """Jobs that it was sent and has not answered."""
    busy: dict[int, int] = field(default_factory=dict)
    """Job -> number of its items here."""
    false_starts: int = 0

    @property
    def is_given_up(self) -> bool:
        """Whether it is not started again."""
        return self.false_starts >= MAX_FALSE_STARTS


@dataclass(slots=True)
class _Running:
    """One job in progress."""

    job: Job
    hand_out: HandOut[str]
    value: Callable[[str, int], Mapping[str, Any]]
    events: queue.SimpleQueue[tuple[str, str, Any]] = field(default_factory=queue.SimpleQueue)
    """(what, item or worker, value) for the caller's thread."""
    own: bool = False
    stopping: bool = False
    ending: set[str] = field(default_factory=set)
    """Workers that have not yet synced their journals of this job."""


class Crew:
    """Workers of a run. `close` ends them."""

    def __init__(
        self,
        workers: Workers,
        device: str,
        say: Callable[[str], None],
        record: Events = unrecorded,
        journals: Shipped | None = None,
    ) -> None:
        self.workers, self.device, self._say, self._record = workers, device, say, record
        self._journals = journals
        self._places = {name: _Place(name) for name in workers.names}
        self._jobs: dict[int, _Running] = {}
        self._asks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._number = 0
        self._broken: GridloomError | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="gridloom-crew", daemon=True)
        self._is_started = False

    @property
    def num_workers(self) -> int:
        """Number of workers, started or not."""
        return len(self._places)

    @property
    def shares_disk(self) -> bool:
        """Whether every worker sees the workspace of the driver."""
        return self.workers.shares_disk

    def run(
        self,
        job: Job,
        items: Sequence[str],
        value: Callable[[str, int], Mapping[str, Any]],
        take: Callable[[str, Mapping[str, Any]], None],
        stop: StopSignal,
        *,
        own: bool = False,
    ) -> list[str]:
        """Have every item done by some worker; return the items that were set aside, in order.

        Args:
            value: function (item, number of workers lost with it) -> what the worker gets; called by the crew's thread.
            take: called in this thread with each item and its result.
            stop: when it is set, workers save and stop; the call returns when all have.
            own: items are names of workers, and each goes to the worker of its name.

        Raises:
            GridloomError: an item failed, as in the lone run, or no worker can be started.
        """
        running = _Running(job, HandOut(items), value, own=own)
        with self._lock:
            self._number += 1
            number = self._number
            self._jobs[number] = running
            if not self._is_started:
                self._is_started = True
                self._thread.start()
        self._asks.put(self._serve)
        try:
            return self._watch(number, running, take, stop)
        finally:
            with self._lock:
                self._jobs.pop(number, None)

    def _watch(
        self, number: int, running: _Running, take: Callable[[str, Mapping[str, Any]], None], stop: StopSignal
    ) -> list[str]:
        failure: GridloomError | None = None
        while True:
            if stop and not running.stopping:
                running.stopping = True
                self._asks.put(lambda: self._pass_stop(stop.reason))
            if self._broken is not None:
                raise self._broken
            with suppress(queue.Empty):
                what, item, value = running.events.get(timeout=POLL_S)
                if what == "done":
                    take(item, value)
                elif what == "failed":
                    failure = failure or value
                    running.stopping = True  # no further items; those at work end
                elif what == "over":
                    break
        if failure is not None:
            raise failure
        return running.hand_out.set_aside

    def close(self) -> None:
        """End all workers."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._is_started:
            self._thread.join()
        for name, place in self._places.items():
            if place.greeting is not None:
                self._record(name, "done", place.greeting)
        self.workers.close()

    # the crew's thread, and nothing else, calls what follows

    def _carry(self) -> None:
        try:
            for name in self._places:
                self.workers.start(name)
            while not self._closed.is_set():
                with suppress(queue.Empty):
                    while True:
                        self._asks.get_nowait()()
                if (event := self.workers.next_event(POLL_S)) is not None:
                    self._take(*event)
        except GridloomError as error:
            self._broken = error
        except BaseException as error:  # a bug here must not leave the stages waiting
            self._broken = StageError(f"the crew of workers failed: {type(error).__name__}: {error}")
            raise

    def _take(self, name: str, message: Message) -> None:
        place = self._places[name]
        if self._journals is not None:
            for part in message.get("journal", ()):
                self._journals.add(part["name"], part["at"], part["bytes"])
        match message["is"]:
            case "hello":
                self._welcome(place, message)
            case "say":
                self._say(message["text"])
            case "ready":
                self._ready(place, message)
            case "lacks":
                self._send_artifacts(place, message)
            case "refused":
                place.asked.discard(message["job"])
                self._fail(message["job"], error_of(message["error"], name))
            case "done" | "failed" | "interrupted":
                self._result(place, message)
            case "ended":
                if (running := self._jobs.get(message["job"])) is not None:
                    running.ending.discard(name)
            case "gone":
                self._lost(place, message)
        # a result frees a place at its worker alone; anything else may concern all
        self._serve([place] if message["is"] in ("done", "ready", "say") else None)

    def _welcome(self, place: _Place, greeting: Message) -> None:
        if problem := version_problem(greeting):
            raise StageError(problem, "install the same gridloom on every node, then run again: the run resumes")
        ahead = skew_s(greeting, time.time())
        if abs(ahead) > MAX_SKEW_S:
            self._say(
                f"the clock of {place.name} ({greeting['host']}) is {duration(abs(ahead))} "
                f"{'ahead' if ahead > 0 else 'behind'}: results do not depend on it, times in the ledger do"
            )
        place.greeting = greeting
        self._record(place.name, "started", greeting)

    def _ready(self, place: _Place, message: Message) -> None:
        number = message["job"]
        place.asked.discard(number)
        if number in self._jobs:
            place.slots[number] = message["slots"]
        else:  # over before this worker had its models, which the next job's must not join in memory
            self.workers.send(place.name, {"do": "end", "job": number})

    def _result(self, place: _Place, message: Message) -> None:
        number, item = message["job"], message["item"]
        place.false_starts = 0
        self._less(place, number)
        running = self._jobs.get(number)
        if running is None:
            return
        if message["is"] == "done":
            if running.hand_out.finish(item, place.name):
                running.events.put(("done", item, message["value"]))
        else:
            running.hand_out.give_back(item, place.name)
            running.stopping = True
            if message["is"] == "failed":
                running.events.put(("failed", item, error_of(message["error"], place.name)))

    @staticmethod
    def _less(place: _Place, number: int) -> None:
        place.busy[number] = place.busy.get(number, 0) - 1
        if place.busy[number] <= 0:
            place.busy.pop(number)

    def _fail(self, number: int, error: GridloomError) -> None:
        running = self._jobs.get(number)
        if running is not None:
            running.stopping = True
            running.events.put(("failed", "", error))

    def _lost(self, place: _Place, message: Message) -> None:
        why = message["why"]
        if place.greeting is not None:
            self._record(place.name, "lost", {**place.greeting, "error": why})
        had: list[str] = []
        with self._lock:  # stages begin and end jobs meanwhile
            jobs = [*self._jobs.values()]
        for running in jobs:
            had += running.hand_out.held_by(place.name)
            for item in running.hand_out.lose(place.name):
                self._say(f"{running.job.node.name}: {item} is set aside, three workers were lost with it")
            running.ending.discard(place.name)
        self._say(
            f"worker {place.name} was lost ({why})"
            + (f" with {listed(had, 3)}, which another worker takes" if had else "")
        )
        place.false_starts += 0 if had else 1
        place.greeting, place.slots, place.asked, place.busy = None, {}, set(), {}
        if not place.is_given_up:
            self.workers.start(place.name)
            return
        printed = str(message.get("printed", "")).strip()
        problem = (
            f"worker {place.name} cannot be started: it ended {MAX_FALSE_STARTS} times before any work ({why})"
            + (f"; it printed:\n{printed}" if printed else "")
        )
        left = [other.name for other in self._places.values() if not other.is_given_up]
        if not left or any(running.own for running in jobs):
            raise StageError(problem, "run without --on to see whether the stage itself runs here")
        self._say(f"{problem}\n{listed(left, 3)} {'goes' if len(left) == 1 else 'go'} on without it")

    def _pass_stop(self, reason: str) -> None:
        for place in self._places.values():
            if place.greeting is not None:
                self.workers.send(place.name, {"do": "stop", "reason": reason})

    def _send_artifacts(self, place: _Place, message: Message) -> None:
        from gridloom.runtime.cluster.artifact_files import pack

        running = self._jobs.get(message["job"])
        if running is None:
            return
        by_key = {artifact.key: artifact for artifact in running.job.inputs.values()}
        for key in message["keys"]:
            files = pack(by_key[key])
            self.workers.send(place.name, {"do": "artifact", "job": message["job"], "key": key, "files": files})
        self.workers.send(place.name, self._begin(message["job"], running.job))

    def _begin(self, number: int, job: Job) -> Message:
        message = job.message(number)
        if self.device in ("auto", "cuda"):
            message["device"] = self.device  # each node decides by what it has
        return message

    def _serve(self, places: Sequence[_Place] | None = None) -> None:
        """Give workers (all when None) with a free place an item, in the order of the jobs; end jobs that are over."""
        with self._lock:
            jobs = [*self._jobs.items()]
        open_to_work = [place for place in places or self._places.values() if place.greeting is not None]
        # breadth first: every worker gets one item before any gets its second
        while open_to_work:
            open_to_work = [place for place in open_to_work if any(self._offer(place, *one) for one in jobs)]
        for number, running in jobs:
            self._end_if_over(number, running)

    def _offer(self, place: _Place, number: int, running: _Running) -> bool:
        """Send an item to a worker that has room for it, or the job first; return whether an item was sent."""
        others = {one for one in place.busy if one != number}
        if running.stopping or not running.hand_out.open:
            return False
        if others and (running.job.alone or any(self._is_alone(one) for one in others)):
            return False
        if number not in place.slots:
            # a worker loads a second job only when it has nothing else to do
            if number not in place.asked and not place.busy and not place.asked:
                place.asked.add(number)
                self.workers.send(place.name, self._begin(number, running.job))
            return False
        if running.own:
            running.hand_out.bring_forward(place.name)
            if running.hand_out.open[0] != place.name:
                return False
        item = running.hand_out.take(place.name, place.slots[number])
        if item is None:
            return False
        place.busy[number] = place.busy.get(number, 0) + 1
        value = running.value(item, running.hand_out.tries.get(item, 0))
        self.workers.send(place.name, {"do": "item", "job": number, "item": item, "value": value})
        return True

    def _is_alone(self, number: int) -> bool:
        return number in self._jobs and self._jobs[number].job.alone

    def _end_if_over(self, number: int, running: _Running) -> None:
        hand_out = running.hand_out
        if hand_out.held or (hand_out.open and not running.stopping):
            return
        if not hand_out.is_over and not running.stopping:
            return
        mine = [place for place in self._places.values() if number in place.slots]
        if mine:
            running.ending = {place.name for place in mine}
            for place in mine:
                del place.slots[number]
                self.workers.send(place.name, {"do": "end", "job": number})
        elif not running.ending:
            running.events.put(("over", "", None))
