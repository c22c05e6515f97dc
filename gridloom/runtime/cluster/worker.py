"""Worker process: loads a job's models once, does items as they come, and writes a journal of its own.

`python -m gridloom.runtime.cluster.worker NAME INDEX WORKSPACE` is a worker of this machine: it reads messages from
its standard input and writes them to its standard output. The end of the input means that the driver is gone, and ends
the worker at once; what it appended to its journal is whole.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gridloom.errors import StageInterrupted
from gridloom.runtime.cluster.messages import Message, decode, describe_error, encode, hello
from gridloom.stores.workspace import Workspace

SHIP_EVERY_S = 2.0
"""Time between two shipments of the journal while items run, s."""
SHIP_BYTES = 8 << 20
"""Largest shipment of journal bytes in one message."""


@dataclass(slots=True)
class Flag:
    """Stop signal that the driver's message sets."""

    reason: str = ""

    def __bool__(self) -> bool:
        return bool(self.reason)


class _NoBar:
    def advance(self, amount: float = 1, **fields: Any) -> None:
        """Show nothing: the driver counts."""


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Progress reporter whose lines go to the driver; bars and live blocks stay there."""

    send: Callable[[Message], None]

    @contextmanager
    def task(self, label: str, total: float | None, unit: str = "it", done: float = 0) -> Iterator[_NoBar]:
        """Open a bar that shows nothing."""
        yield _NoBar()

    def say(self, text: str) -> None:
        """Send a line to the driver, which prints it."""
        self.send({"is": "say", "text": text})

    def show(self, renderable: Any) -> None:
        """Show nothing."""


@dataclass(slots=True)
class Worker:
    """One worker, whatever carries its messages. `deliver` may be called from any thread; `run` ends with `bye`."""

    name: str
    index: int
    workspace: Workspace
    """Workspace with the artifacts."""
    out: Callable[[Message], None]
    """Function that sends a message to the driver."""
    spool: Workspace | None = None
    """Folder of this node for the journal, which is shipped to the driver; None to write into the workspace."""
    stop: Flag = field(default_factory=Flag)
    _jobs: dict[int, Any] = field(default_factory=dict)
    _begun: dict[int, bytes] = field(default_factory=dict)
    """What each job was begun with, but its number."""
    _kept: tuple[bytes, Any] | None = None
    """Job that ended last, with its models: a stage that hands out items in rounds begins the same job again."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writer: Any = None
    _shipped: dict[str, int] = field(default_factory=dict)
    _sending: threading.Lock = field(default_factory=threading.Lock)
    _loop: asyncio.AbstractEventLoop | None = None
    _inbox: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    _started: threading.Event = field(default_factory=threading.Event)

    def deliver(self, message: Message) -> None:
        """Take a message of the driver."""
        if message["do"] == "stop":  # at once, also while a stage keeps the loop busy
            self.stop.reason = message["reason"]
        self._started.wait()
        assert self._loop is not None, "the loop runs"
        self._loop.call_soon_threadsafe(self._inbox.put_nowait, message)

    def send(self, message: Message) -> None:
        """Send a message, with the journal's new bytes where the journal is shipped."""
        if self.spool is None:
            self.out(message)
            return
        with self._sending:  # a stage sends from a thread of its own, and the parts must leave in their order
            if parts := self._shipment():
                message = {**message, "journal": parts}
            self.out(message)

    def run(self) -> None:
        """Work until the message `bye`."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()
        self.send(hello(self.name))
        shipping = asyncio.create_task(self._ship()) if self.spool is not None else None
        try:
            while (message := await self._inbox.get())["do"] != "bye":
                self._take(message)
        finally:
            if shipping is not None:
                shipping.cancel()
            for task in self._tasks:
                task.cancel()
            if self._writer is not None:
                self._writer.close()

    def _take(self, message: Message) -> None:
        match message["do"]:
            case "begin":
                self._begin(message)
            case "item":
                task = asyncio.create_task(self._do(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case "end":
                if (made := self._jobs.pop(message["job"], None)) is not None:
                    self._kept = self._begun.pop(message["job"]), made
                if self._writer is not None:
                    self._writer.sync()
                self.send({"is": "ended", "job": message["job"]})
            case "artifact":
                self._unpack(message)

    def _begin(self, message: Message) -> None:
        number = message["job"]
        same = encode({**message, "job": 0})
        made = self._kept[1] if self._kept is not None and self._kept[0] == same else None
        self._kept = None  # another job's models must be gone before new ones are loaded
        try:
            lacks: list[str] = []
            if made is None:
                lacks, made = self._prepare(message)
        except Exception as error:
            self.send({"is": "refused", "job": number, "error": describe_error(error)})
            return
        if lacks:
            self.send({"is": "lacks", "job": number, "keys": lacks})
            return
        self._jobs[number], self._begun[number] = made, same
        self.send({"is": "ready", "job": number, "slots": made.slots})

    def _prepare(self, message: Message) -> tuple[list[str], Any]:
        """Return the keys of artifacts that are not here, or none and the object that does the items."""
        from gridloom.compiler.graph import StageNode
        from gridloom.plugins import load_place
        from gridloom.runtime.stage import StageContext
        from gridloom.stores.artifacts import ArtifactStore
        from gridloom.stores.ledger import LedgerWriter

        store = ArtifactStore(self.workspace)
        found = {name: store.find(key) for name, key in message["inputs"].items()}
        if lacks := sorted(message["inputs"][name] for name, artifact in found.items() if artifact is None):
            return lacks, None
        inputs = {name: artifact for name, artifact in found.items() if artifact is not None}
        for artifact in inputs.values():
            store.verify(artifact)
        node = StageNode.model_validate(message["node"])
        if self._writer is None:
            self._writer = LedgerWriter(self.spool or self.workspace, message["run_id"])
        work = store.work_path(node.key)
        context = StageContext(
            run_id=message["run_id"],
            device=self._device(message["device"]),
            work=work,
            out=work,
            base=Path(message["base"]),
            ledger=self._writer,
            progress=Forwarding(self.send),
            stop=self.stop,
        )
        stage = load_place(message["place"])()
        return [], stage.worker(node, inputs, context, message["shared"])

    def _device(self, wanted: str) -> str:
        """Return the device of this worker: of several GPUs of a machine each worker takes its own in turn."""
        if wanted == "cpu":
            return wanted
        from gridloom.runtime.machine.device import make_current, resolve_device

        device = resolve_device(wanted)
        if wanted in ("auto", "cuda", "cuda:0") and device.startswith("cuda"):
            import torch

            device = f"cuda:{self.index % torch.cuda.device_count()}"
        make_current(device)
        return device

    async def _do(self, message: Message) -> None:
        answer: Message = {"job": message["job"], "item": message["item"]}
        try:
            value = await self._jobs[message["job"]].do(message["value"])
        except StageInterrupted:
            self.send({"is": "interrupted", **answer})
        except Exception as error:
            self.send({"is": "failed", **answer, "error": describe_error(error)})
        else:
            self.send({"is": "done", **answer, "value": value})

    def _unpack(self, message: Message) -> None:
        from gridloom.runtime.cluster.artifact_files import unpack

        try:
            unpack(self.workspace, message["key"], message["files"])
        except Exception as error:
            self.send({"is": "refused", "job": message["job"], "error": describe_error(error)})

    async def _ship(self) -> None:
        while True:
            await asyncio.sleep(SHIP_EVERY_S)
            if self._is_behind():
                self.send({"is": "journal"})

    def _is_behind(self) -> bool:
        path = None if self._writer is None else self._writer.journal_path
        return path is not None and path.stat().st_size > self._shipped.get(path.name, 0)

    def _shipment(self) -> list[Message]:
        """Return the whole lines of the journal that the driver does not have."""
        path = None if self._writer is None else self._writer.journal_path
        if path is None:
            return []
        parts: list[Message] = []
        with path.open("rb") as file:
            start = self._shipped.get(path.name, 0)
            file.seek(start)
            while part := file.read(SHIP_BYTES):
                parts.append({"name": path.name, "at": start, "bytes": part})
                start += len(part)
        self._shipped[path.name] = start
        return parts


def main() -> None:
    """Be a worker of this machine, over standard input and output."""
    name, index, root = sys.argv[1:4]
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        # of a terminal's whole group, or of a Slurm job's steps: the driver stops its workers
        signal.signal(number, signal.SIG_IGN)
    pipe = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not come between two messages
    lock = threading.Lock()

    def send(message: Message) -> None:
        line = memoryview(encode(message))
        with lock:
            while line:
                line = line[os.write(pipe, line) :]

    worker = Worker(name, int(index), Workspace(Path(root)), send)

    def listen() -> None:
        for line in sys.stdin.buffer:
            worker.deliver(decode(line))
        os._exit(0)  # the driver is gone

    threading.Thread(target=listen, name="gridloom-messages", daemon=True).start()
    try:
        worker.run()
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
