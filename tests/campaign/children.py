"""Commands of gridloom in forked processes: the imports are paid once, and every child is a process that can be killed.

The parent imports what commands use and starts no thread, so a fork is as good as a new interpreter. A child types one
command line in a folder of its own. Hooks in it count file operations, kill it at one of them, and report file
operations outside of the folders that it may touch.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .state import ROOT

PRELOADED = (
    "torch", "duckdb", "pyarrow", "pyarrow.parquet", "numba", "safetensors.torch", "orjson",
    "langgraph.graph", "rich.console", "rich.progress", "typer", "gridloom.cli.main", "gridloom.cli.commands.run",
    "gridloom.cli.commands.solve", "gridloom.cli.commands.ledger", "gridloom.cli.commands.runs",
    "gridloom.cli.commands.specs",
    "gridloom.cli.commands.models", "gridloom.cli.commands.data", "gridloom.cli.commands.state",
    "gridloom.cli.show.run_results", "gridloom.cli.show.progress", "gridloom.cli.show.tables",
    "gridloom.compiler.compile", "gridloom.compiler.render", "gridloom.runtime.execution.executor",
    "gridloom.runtime.execution.launch", "gridloom.runtime.planning.local", "gridloom.runtime.planning.plan",
    "gridloom.runtime.training.train",
    "gridloom.runtime.evaluation.vote", "gridloom.runtime.evaluation.puzzles",
    "gridloom.runtime.models.recursive.trm",
    "gridloom.runtime.data.stages", "gridloom.runtime.data.puzzles.puzzle_set",
    "gridloom.solvers.stages.solve", "gridloom.solvers.stages.score", "gridloom.solvers.replay.replay",
    "gridloom.stores.ledger",
)  # fmt: skip
LANGUAGE = ("transformers", "gridloom.runtime.models.language.llama", "gridloom.runtime.training.joint.train")
"""Further modules where a language model takes part."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "fcntl.flock",
           "os.chmod", "shutil.rmtree")  # fmt: skip
EXECUTES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn", "os.startfile")
"""Audit events of programs that are started."""


def preload(*more: str) -> None:
    """Import what commands use, and `more`. Raises RuntimeError where a thread runs then."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    import torch

    torch.set_num_threads(1)
    for name in (*PRELOADED[1:], *more):
        importlib.import_module(name)
    if threading.active_count() > 1:
        raise RuntimeError(f"threads run before the fork: {threading.enumerate()}")


def inherit(modules: Sequence[str]) -> None:
    """Import what a child had to import, so that later children do not. Raises RuntimeError as `preload`."""
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # children then do not scan, and so not copy, what they inherit
    if threading.active_count() > 1:
        raise RuntimeError(f"threads run before the fork: {threading.enumerate()}")


@dataclass(frozen=True)
class Kill:
    """Instant at which a child kills itself with SIGKILL."""

    operation: int | None = None
    """Number of the file operation, from 1; None for a time alone."""
    kind: str | None = None
    """Kind of the operations that are counted; all where None."""
    delay_s: float = 0.0
    """Time from the operation, or from the start, to the kill, s: hits what native code writes."""
    torn: float | None = None
    """Share of the bytes that an `os.write` hit by the kill still writes."""


@dataclass(frozen=True)
class Ended:
    """End of a child."""

    code: int
    """Exit status, or minus the number of the signal."""
    output: str
    """stdout and stderr, as the terminal would show them."""
    seconds: float
    timed_out: bool
    operations: Counter[str]
    """Kind of file operation -> number of them."""
    forbidden: tuple[str, ...]
    """Writes outside of the allowed folders, and programs that were started."""
    modules: tuple[str, ...]
    """Modules that it imported, in order; those of its parent are not among them."""

    @property
    def traceback(self) -> str:
        """The traceback in the output; empty without one."""
        at = self.output.find("Traceback (most recent call last)")
        return "" if at < 0 else self.output[at:]


def run_child(
    work: Callable[[], int],
    folder: Path,
    *,
    kill: Kill | None = None,
    allowed: Sequence[Path] = (),
    timeout_s: float = 60.0,
    max_bytes: int | None = None,
) -> Ended:
    """Fork, call `work` in the child with `folder` as the current one, and wait.

    Args:
        allowed: folders that the child may write in, beside `folder`; checked for `forbidden` of the result.
        timeout_s: time after which the child is killed, s.
        max_bytes: memory that the child may map beside what it inherits, bytes.
    """
    log, notes = folder.parent / f"{folder.name}.out", folder.parent / f"{folder.name}.notes"
    for path in (log, notes):
        path.unlink(missing_ok=True)
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _in_child(work, folder, kill, tuple(allowed), log, notes, timeout_s, max_bytes)
        finally:
            os._exit(code)
    status = _wait(pid, began + timeout_s + 2)
    seconds = time.monotonic() - began
    output = log.read_bytes().decode("utf-8", "replace") if log.exists() else ""
    lines = notes.read_text(encoding="utf-8", errors="replace").splitlines() if notes.exists() else []
    operations: Counter[str] = Counter()
    for line in lines:
        if line.startswith("count "):
            _, kind, number = line.split(" ")
            operations[kind] = int(number)
    forbidden = tuple(line.removeprefix("forbidden ") for line in lines if line.startswith("forbidden "))
    modules = tuple(line.removeprefix("module ") for line in lines if line.startswith("module "))
    for path in (log, notes):
        path.unlink(missing_ok=True)
    timed_out = status is None or "Timeout (" in output
    return Ended(
        -signal.SIGKILL if status is None else status, output, seconds, timed_out, operations, forbidden, modules
    )


def _wait(pid: int, deadline: float) -> int | None:
    """Return the exit status of a child; None where it was killed at the deadline."""
    pause = 0.001
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def _in_child(
    work: Callable[[], int],
    folder: Path,
    kill: Kill | None,
    allowed: tuple[Path, ...],
    log: Path,
    notes: Path,
    timeout_s: float,
    max_bytes: int | None,
) -> int:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if max_bytes is not None:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + max_bytes, mapped + max_bytes))
    os.chdir(folder)
    hooks = _Hooks(folder, allowed, notes, kill)
    hooks.install()
    faulthandler.dump_traceback_later(timeout_s, exit=True, file=2)
    try:
        code = work()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    hooks.active = False
    hooks.write_modules()
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.flush()
    sys.stderr.flush()
    hooks.write_counts()
    return code & 0xFF


class _Hooks:
    """File operations of a child: counted, reported where they are not allowed, and the instant of the kill."""

    def __init__(self, folder: Path, allowed: tuple[Path, ...], notes: Path, kill: Kill | None) -> None:
        self.active = True
        self.kill = kill
        self.counts: Counter[str] = Counter()
        self.folders = tuple(os.path.realpath(path) for path in (folder, *allowed))
        self.inside = os.path.realpath(folder)
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._write = os.write
        self._busy = False
        self.inherited = frozenset(sys.modules)

    def install(self) -> None:
        """Set the hooks and, for a kill by time alone, its clock."""
        os.write = self.write
        os.fsync = self._counted("fsync", os.fsync)
        os.ftruncate = self._counted("ftruncate", os.ftruncate)
        sys.addaudithook(self.audit)
        if self.kill is not None and self.kill.operation is None:
            self._kill_later(self.kill.delay_s)

    def write_counts(self) -> None:
        """Write the counts for the parent."""
        for kind, number in self.counts.items():
            self._write(self.notes, f"count {kind} {number}\n".encode())

    def write_modules(self) -> None:
        """Write the modules that the child imported beside those it inherited."""
        new = [name for name in sys.modules if name not in self.inherited]
        self._write(self.notes, "".join(f"module {name}\n" for name in new).encode())

    def write(self, descriptor: int, data: Any) -> int:
        """Stand for os.write: a kill in it leaves a part of the bytes."""
        if descriptor > 2 and self.active:
            if self.kill is not None and self.kill.torn is not None and self._is_due("write"):
                self._write(descriptor, bytes(data)[: int(len(data) * self.kill.torn)])
                os.kill(os.getpid(), signal.SIGKILL)
            self._count("write")
        return self._write(descriptor, data)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at an audit event of the interpreter."""
        if self._busy or not self.active:
            return
        self._busy = True
        try:
            if event == "open":
                path, mode, flags = arguments
                writes = isinstance(mode, str) and any(c in mode for c in "wax+")
                if writes or (isinstance(flags, int) and flags & WRITES):
                    self._seen("open", path)
            elif event in CHANGES:
                for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
                    self._check(event, path)
                if isinstance(arguments[0], int) or self._real(arguments[0]).startswith(self.inside):
                    self._count(event.rpartition(".")[2])
            elif event in EXECUTES:
                self._note(f"{event} {arguments!r}")
        finally:
            self._busy = False

    def _seen(self, kind: str, path: Any) -> None:
        self._check(kind, path)
        if not isinstance(path, int) and self._real(path).startswith(self.inside):
            self._count(kind)

    def _check(self, kind: str, path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            real = self._real(path)
            if "/__pycache__" in real and real.startswith(f"{ROOT}/gridloom/"):
                return  # numba keeps its machine code there
            if not real.startswith(("/dev/", "/proc/", *(f"{folder}/" for folder in self.folders), *self.folders)):
                self._note(f"{kind} {real}")

    def _real(self, path: Any) -> str:
        text = os.fsdecode(path)
        try:
            whole = Path.cwd() / text
            return str(Path(os.path.realpath(whole.parent)) / whole.name)
        except ValueError:  # a null byte: no file at all
            return self.inside

    def _note(self, text: str) -> None:
        self._write(self.notes, f"forbidden {text!a:.300}\n".encode())

    def _counted(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._count(kind)
            return function(*arguments)

        return call

    def _is_due(self, kind: str) -> bool:
        kill = self.kill
        if kill is None or kill.operation is None or (kill.kind is not None and kill.kind != kind):
            return False
        counted = self.counts.total() if kill.kind is None else self.counts[kind]
        return counted + 1 == kill.operation

    def _count(self, kind: str) -> None:
        if not self.active:
            return
        if self._is_due(kind):
            assert self.kill is not None
            if self.kill.delay_s:
                self._kill_later(self.kill.delay_s)
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        self.counts[kind] += 1

    def _kill_later(self, delay_s: float) -> None:
        def wait() -> None:
            time.sleep(delay_s)
            if self.active:
                os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=wait, daemon=True).start()


def typed(*words: str | Path) -> Callable[[], int]:
    """Return what types a command line in a child and gives its exit status."""

    def work() -> int:
        from gridloom.cli.main import main

        sys.argv = ["gridloom", *map(str, words)]
        main()
        return 0

    return work
