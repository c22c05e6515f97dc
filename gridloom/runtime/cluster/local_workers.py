"""Workers as child processes of the driver, joined by pipes, started again when one is lost.

They run on this machine, or where the command that starts them takes them (`srun_workers`).
"""

from __future__ import annotations

import io
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from gridloom.runtime.cluster.messages import Message, decode, encode
from gridloom.stores.workspace import Workspace

GOODBYE_S = 5.0
"""Time that a worker has to end after `bye`, s."""
MAX_PRINTED = 2000
"""Characters of a lost worker's standard error that its error quotes."""

Command = Callable[[str, int, Workspace], Sequence[str]]
"""Function (name, index, workspace) -> command line of a worker."""


def command(name: str, index: int, workspace: Workspace) -> list[str]:
    """Return the command line of a worker."""
    return [sys.executable, "-m", "gridloom.runtime.cluster.worker", name, str(index), str(workspace.root)]


class LocalWorkers:
    """Worker processes of this machine; events come from one queue, in the order of each worker's messages."""

    ships_journals = False
    shares_disk = True

    def __init__(
        self, number: int, workspace: Workspace, command: Command = command, nodes: int = 1, kind: str = "local"
    ) -> None:
        """Prepare workers; none is started.

        Args:
            number: number of workers, named KIND-0, KIND-1, ...
            nodes: number of machines over which the command spreads them, in turn.
        """
        self.workspace, self._command, self._nodes = workspace, command, nodes
        self.names = [f"{kind}-{index}" for index in range(number)]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._events: queue.SimpleQueue[tuple[str, Message]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closing = False

    def start(self, name: str) -> None:
        """Start a worker, also one that was lost."""
        index = self.names.index(name)
        environment = os.environ.copy()
        if "OMP_NUM_THREADS" not in environment:  # the workers of a machine share its cores
            cores = len(os.sched_getaffinity(0))
            environment["OMP_NUM_THREADS"] = str(max(1, cores * self._nodes // len(self.names)))
        log = self._log(name)
        with log.open("wb") as printed:
            process = subprocess.Popen(
                self._command(name, index, self.workspace),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                env=environment,
                bufsize=0,
            )
        self._processes[name] = process
        thread = threading.Thread(target=self._listen, args=(name, process), name=f"gridloom-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def send(self, name: str, message: Message) -> None:
        """Send a message; to a lost worker it goes nowhere, and the event `gone` follows."""
        pipe = self._processes[name].stdin
        assert pipe is not None, "it is a pipe"
        line = memoryview(encode(message))
        with suppress(OSError, ValueError):
            while line:
                line = line[pipe.write(line) :]

    def next_event(self, timeout_s: float) -> tuple[str, Message] | None:
        """Return the next event (worker, message), None when none comes in that time."""
        with suppress(queue.Empty):
            return self._events.get(timeout=timeout_s)
        return None

    def close(self) -> None:
        """End all workers; one that does not end in time is killed."""
        self._closing = True
        for name, process in self._processes.items():
            self.send(name, {"do": "bye"})
            with suppress(OSError, ValueError):
                assert process.stdin is not None, "it is a pipe"
                process.stdin.close()
        for process in self._processes.values():
            try:
                process.wait(GOODBYE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in self._threads:
            thread.join()

    def pids(self) -> dict[str, int]:
        """Return the process id of each worker that was started."""
        return {name: process.pid for name, process in self._processes.items()}

    def _log(self, name: str) -> Path:
        return self.workspace.ensure(self.workspace.root / "workers") / f"{name}-{os.getpid()}.log"

    def _listen(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None, "it is a pipe"
        with io.BufferedReader(cast(io.RawIOBase, process.stdout)) as pipe:
            for line in pipe:
                try:
                    message = decode(line)
                except ValueError:
                    break  # torn by the death of the worker
                self._events.put((name, message))
        status = process.wait()
        if process.stdin is not None:
            process.stdin.close()
        log = self._log(name)
        printed = log.read_text("utf-8", "replace").strip()[-MAX_PRINTED:] if log.exists() else ""
        if not printed:
            log.unlink(missing_ok=True)
        if not self._closing:
            self._events.put((name, {"is": "gone", "why": _why(status), "printed": printed}))


def _why(status: int) -> str:
    """Return how a process ended: 'killed by SIGKILL', 'exit status 3'."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
