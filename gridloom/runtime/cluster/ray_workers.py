"""Workers as actors of a Ray cluster: mailboxes for the same messages, with journals on their nodes' own disks.

An actor holds a `Worker` in a thread of its own. Its journal lies in a temporary folder of the node, and every message
to the driver carries the lines that the driver lacks. Ray ends the actors of a driver that is gone.
"""

from __future__ import annotations

import asyncio
import os
import queue
import secrets
import shutil
import socket
import tempfile
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from gridloom.errors import GridloomError
from gridloom.runtime.cluster.messages import Message, decode, encode
from gridloom.runtime.cluster.where import Where
from gridloom.stores.workspace import Workspace
from gridloom.wording import first_line

LOOK_S = 0.5
"""Time between two looks of the listener at its end, s."""
GOODBYE_S = 5.0
"""Time that the workers have to end after `bye`, s."""
PATIENCE_S = 60.0
"""Time in which every node must answer whether it sees the driver's disk, s."""


CONNECT_S = 10.0
"""Time in which the cluster's address must take a connection, s."""
START = (
    "start one:  ray start --head  here, then  ray start --address HOST:PORT  on the other nodes; "
    "or name its address with --on ray://HOST:PORT"
)
"""Remedy where no cluster answers."""


class Mailbox:
    """Actor: a worker, its inbox in the order of the driver's numbers, and its outbox."""

    def __init__(self, name: str, index: int, root: str, sees_driver: bool) -> None:
        from gridloom.runtime.cluster.worker import Worker

        self._spool = Path(tempfile.mkdtemp(prefix=f"gridloom-{name}-"))
        spool = Workspace(self._spool / "workspace")
        self._outbox: deque[bytes] = deque()
        self._loop = asyncio.get_event_loop()
        self._news = asyncio.Event()
        self._early: dict[int, bytes] = {}
        self._next_number = 0
        self._worker = Worker(name, index, Workspace(Path(root)) if sees_driver else spool, self._out, spool=spool)
        self._thread = threading.Thread(target=self._work, name="gridloom-worker", daemon=True)
        self._thread.start()

    async def put(self, number: int, line: bytes) -> None:
        """Deliver a message of the driver; one that overtook another waits for it."""
        self._early[number] = line
        while (due := self._early.pop(self._next_number, None)) is not None:
            self._next_number += 1
            self._worker.deliver(decode(due))

    async def next(self) -> list[bytes]:
        """Return the messages to the driver, as soon as there is one."""
        await self._news.wait()
        self._news.clear()
        found = [*self._outbox]
        for _ in found:
            self._outbox.popleft()
        return found

    async def ended(self) -> None:
        """Return when the worker has ended."""
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        self._worker.run()
        shutil.rmtree(self._spool, ignore_errors=True)  # all of it is with the driver

    def _out(self, message: Message) -> None:
        self._outbox.append(encode(message))
        self._loop.call_soon_threadsafe(self._news.set)


def sees(path: str, token: str) -> bool:
    """Return whether this node sees a file that the driver wrote."""
    try:
        return Path(path).read_text(encoding="ascii") == token
    except OSError:
        return False


def import_ray() -> Any:
    """Import Ray with its usage statistics off. Raises GridloomError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise GridloomError("--on ray needs the package ray", "pip install 'gridloom[ray]'") from error
    return ray


def check_address(address: str) -> None:
    """Raise GridloomError where nothing listens at a cluster's address; Ray itself tries for more than five minutes.

    Args:
        address: `auto`, `HOST:PORT` or `ray://HOST:PORT`; `auto` is the variable RAY_ADDRESS where that is set.
    """
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, _, port = named.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        with socket.create_connection((host, int(port)), CONNECT_S):
            pass
    except (OSError, OverflowError) as error:
        of = " (of the variable RAY_ADDRESS)" if address == "auto" else ""
        raise GridloomError(f"no Ray cluster at {named!r}{of}: {first_line(error)}", START) from error


class RayWorkers:
    """Workers of a Ray cluster, one for each GPU, or for each processor where the cluster has no GPU."""

    ships_journals = True

    def __init__(self, where: Where, workspace: Workspace) -> None:
        """Connect to the cluster, and ask its nodes whether they see the workspace.

        Raises GridloomError: Ray is not installed, the cluster cannot be reached, or has no processors.
        """
        self._ray = ray = import_ray()
        self.workspace = workspace
        self._was_up = ray.is_initialized()
        if not self._was_up:
            check_address(where.address)
            try:
                ray.init(address=where.address, log_to_driver=False, logging_level="warning", configure_logging=True)
            except Exception as error:
                raise GridloomError(f"no Ray cluster at {where.address!r}: {first_line(error)}", START) from error
        resources = ray.cluster_resources()
        self._unit = {"num_gpus": 1} if resources.get("GPU") else {"num_cpus": 1}
        number = where.num_workers or int(resources.get("GPU") or resources.get("CPU", 0))
        if number < 1:
            raise GridloomError("the Ray cluster has neither processors nor GPUs", "start its nodes with --num-cpus")
        self.names = [f"ray-{index}" for index in range(number)]
        self.shares_disk = self._all_see()
        self._actors: dict[str, Any] = {}
        self._sent: dict[str, int] = {}
        self._waiting: dict[Any, str] = {}
        self._events: queue.SimpleQueue[tuple[str, Message]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="gridloom-ray", daemon=True)
        self._listener.start()

    def nodes(self) -> list[dict[str, Any]]:
        """Return the living nodes of the cluster, as Ray describes them."""
        return [node for node in self._ray.nodes() if node["Alive"]]

    def start(self, name: str) -> None:
        """Start an actor, also in the place of one that was lost; Ray chooses its node."""
        actor = self._ray.remote(Mailbox).options(scheduling_strategy="SPREAD", **self._unit)
        made = actor.remote(name, self.names.index(name), str(self.workspace.root), self.shares_disk)
        with self._lock:
            self._actors[name], self._sent[name] = made, 0
            self._waiting[made.next.remote()] = name

    def send(self, name: str, message: Message) -> None:
        """Send a message; to a lost worker it goes nowhere, and the event `gone` follows."""
        with self._lock:
            number = self._sent[name]
            self._sent[name] = number + 1
            self._actors[name].put.remote(number, encode(message))

    def next_event(self, timeout_s: float) -> tuple[str, Message] | None:
        """Return the next event (worker, message), None when none comes in that time."""
        with suppress(queue.Empty):
            return self._events.get(timeout=timeout_s)
        return None

    def close(self) -> None:
        """End all workers, and the connection if this object made it."""
        self._closed.set()
        self._listener.join()
        for name in self._actors:
            self.send(name, {"do": "bye"})
        # what counts of their journals was shipped with the results
        if ends := [actor.ended.remote() for actor in self._actors.values()]:
            self._ray.wait(ends, num_returns=len(ends), timeout=GOODBYE_S)
        for actor in self._actors.values():
            self._ray.kill(actor)
        if not self._was_up:
            self._ray.shutdown()

    def _listen(self) -> None:
        ray = self._ray
        while not self._closed.is_set():
            with self._lock:
                refs = [*self._waiting]
            if not refs:
                self._closed.wait(0.02)
                continue
            ready, _ = ray.wait(refs, num_returns=1, timeout=LOOK_S)
            for ref in ready:
                with self._lock:
                    name = self._waiting.pop(ref)
                try:
                    lines = ray.get(ref)
                except ray.exceptions.RayError as error:
                    self._events.put((name, {"is": "gone", "why": _why(error), "printed": ""}))
                    continue
                for line in lines:
                    self._events.put((name, decode(line)))
                with self._lock:
                    self._waiting[self._actors[name].next.remote()] = name

    def _all_see(self) -> bool:
        """Return whether every node sees the driver's workspace."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as OnNode

        ray = self._ray
        token = secrets.token_hex(8)
        path = self.workspace.ensure(self.workspace.root / "workers") / f"seen-{token}"
        path.write_text(token, encoding="ascii")
        try:
            asked = [
                ray.remote(sees)
                .options(num_cpus=0, scheduling_strategy=OnNode(node["NodeID"], soft=False))
                .remote(str(path), token)
                for node in self.nodes()
            ]
            return all(ray.get(asked, timeout=PATIENCE_S))
        except ray.exceptions.GetTimeoutError as error:
            raise GridloomError(
                f"{len(asked)} nodes of the Ray cluster were asked whether they see {path.parent}, "
                f"and not all answered within {PATIENCE_S:.0f} s",
                "see with  ray status  which nodes live and whether they are busy, then run again",
            ) from error
        except ray.exceptions.RayError as error:
            raise GridloomError(
                f"a node of the Ray cluster cannot run gridloom: {_why(error)}",
                "install the same gridloom on every node: gridloom cluster check --on ray",
            ) from error
        finally:
            path.unlink(missing_ok=True)


def _why(error: BaseException) -> str:
    """Return the line of an error of Ray that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if "cause" in line.lower() or "Error" in line]
    return (causes or lines or [type(error).__name__])[-1][:300]
