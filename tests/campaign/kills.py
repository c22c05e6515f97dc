"""SIGKILL at chosen file operations and at random times, over data building, training, joint training, solving and
evaluation; each campaign goes on until it is done and is compared with the same run that nobody killed.

A case is one project: a spec, one to four kills one after the other, some of them in a reading command, then a run to
the end. The ledger's rows, the rows of a ledger rebuilt from the journals, and the files of every artifact must equal
those of the reference.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import compare, places
from .children import LANGUAGE, Ended, Kill, inherit, preload, run_child, typed
from .state import Limits, State, case_random, group_of, scratch_folder

PROGRAM = "kills"
WEIGHTS = {"puzzles": 3, "mazes": 2, "parity": 2, "arc": 4, "joint": 2}
"""How often a spec is drawn."""
READS = (("sql", "from v_runs"), ("attempts", "--json"), ("runs",), ("gc",))
"""Commands between two runs, which fill the ledger from the journals; they are killed too."""
RUN_S = 120.0
FINE = (0, 1, 3)
"""Exit statuses of a command that was not killed: what nothing was recorded for is refused with 1."""


@dataclass(frozen=True)
class Reference:
    """The run that nobody killed."""

    snapshot: dict[str, Any]
    operations: Counter[str]
    seconds: float


@dataclass(frozen=True)
class Step:
    """A command of a case, and the kill in it."""

    words: tuple[str, ...]
    kill: Kill | None


def plan_case(chance: random.Random, name: str, reference: Reference) -> list[Step]:
    """Draw the commands and kills of a case."""
    steps = []
    for number in range(chance.choice((1, 1, 2, 2, 3, 4))):
        steps.append(Step(("run", f"{name}.yaml", "-q"), _kill(chance, reference, number)))
        if chance.random() < 0.25:
            killed = chance.random() < 0.6
            read = Kill(operation=chance.randint(1, 12), delay_s=chance.choice((0.0, 0.0, chance.uniform(0, 0.05))))
            steps.append(Step(chance.choice(READS), read if killed else None))
    return steps


def _kill(chance: random.Random, reference: Reference, number: int) -> Kill:
    shape = chance.random()
    if shape < 0.2:
        return Kill(delay_s=chance.uniform(0.01, reference.seconds * (1.0 if number == 0 else 0.6)))
    kinds = sorted(reference.operations)
    kind = chance.choice(kinds) if shape < 0.6 else None
    if kind == "write" and chance.random() < 0.5:
        return Kill(chance.randint(1, reference.operations[kind]), kind, torn=chance.random())
    total = reference.operations.total() if kind is None else reference.operations[kind]
    if number:
        total = max(total * 2 // 3, 1)  # a resumed run has less to do
    delay = chance.uniform(0.0, 0.03) if chance.random() < 0.3 else 0.0
    return Kill(chance.randint(1, total), kind, delay_s=delay)


class Kills:
    """The program: references by spec, and the folder where cases are run."""

    def __init__(self, state: State, scratch: Path, names: Sequence[str], *, is_long: bool) -> None:
        self.is_long = is_long
        self.state, self.scratch, self.names = state, scratch, tuple(names)
        self.cache = scratch / "cache"
        self.cache.mkdir(parents=True, exist_ok=True)
        os.environ["GRIDLOOM_CACHE"] = str(self.cache)
        os.environ.pop("GRIDLOOM_HOME", None)
        preload(*(LANGUAGE if "joint" in self.names else ()))
        self.project = scratch / "project"
        self.project.mkdir()
        self._write_project()
        self.references: dict[str, Reference] = {}

    def _write_project(self) -> None:
        """Write the specs in a child: saving a model starts a thread, that of its progress bar."""

        def work() -> int:
            places.write_project(self.project, self.names)
            return 0

        ended = run_child(work, self.project, timeout_s=5 * RUN_S)  # it imports everything, on a machine that is busy
        if ended.code:
            raise RuntimeError(ended.output)
        inherit(ended.modules)

    def reference(self, name: str) -> Reference:
        """Return the reference of a spec. A long program runs it twice, since the first run imports more modules."""
        if name not in self.references:
            for _ in range(2 if self.is_long else 1):
                folder = self._folder(name)
                ended = self._type(folder, Step(("run", f"{name}.yaml", "-q"), None))
                inherit(ended.modules)
                if ended.code:
                    raise RuntimeError(f"{name} fails without a kill:\n{ended.output}")
                made = Reference(self._snapshot(folder), ended.operations, ended.seconds)
                first = self.references.setdefault(name, made)
                if lines := compare.differences(first.snapshot, made.snapshot):
                    raise RuntimeError(f"two runs of {name} that nobody killed differ:\n" + "\n".join(lines))
            self.references[name] = made  # its operations and time are those of a process that has the modules
        return self.references[name]

    def case(self, number: int) -> None:
        """Run one case."""
        chance = case_random(PROGRAM, self.state.seed, number)
        weights = [WEIGHTS[name] for name in self.names]
        (name,) = chance.choices(self.names, weights)
        steps = plan_case(chance, name, self.reference(name))
        problem, log, kills = self.judge(name, steps)
        self.state.count(kills=kills, campaigns=1)
        if problem:
            for step in [step for step in steps if step.kill is not None] if len(steps) > 1 else []:
                alone, its_log, _ = self.judge(name, [step])
                if alone:
                    steps, problem, log = [step], alone, its_log
                    break
            written = json.dumps({"spec": name, "steps": [asdict(step) for step in steps]}, indent=1)
            spec = (self.project / f"{name}.yaml").read_text(encoding="utf-8")
            self.state.find(problem[0], number, {"steps.json": written, "spec.yaml": spec, "log.txt": log}, problem[1])

    def judge(self, name: str, steps: Sequence[Step]) -> tuple[tuple[str, str] | None, str, int]:
        """Run the steps in a new folder and then the spec to its end. Returns the fault, what was printed, the number
        of kills."""
        folder, kills, log = self._folder(name), 0, ""
        final = Step(("run", f"{name}.yaml", "-q"), None)
        for step in (*steps, final):
            ended = self._type(folder, step)
            kill = step.kill or "no kill"
            log += f"$ gridloom {' '.join(step.words)}   # {kill}: exit {ended.code}\n{ended.output}\n"
            if ended.code == -signal.SIGKILL and step.kill is not None and not ended.timed_out:
                kills += 1
                continue
            if (fault := _fault(ended, step is final)) is not None:
                return fault, log, kills
        try:
            found = self._snapshot(folder)
        except RuntimeError as error:
            return ("the ledger cannot be read", str(error)), log, kills
        lines = compare.differences(self.reference(name).snapshot, found)
        if lines:
            kinds = sorted({" ".join(line.split(":")[0].split()[:3]) for line in lines})
            kinds = [kind for kind in kinds if not kind.startswith("rebuilt")] or kinds
            return (f"recorded otherwise: {', '.join(kinds)[:70]}", "\n".join(lines)), log, kills
        shutil.rmtree(folder)
        return None, log, kills

    def _folder(self, name: str) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.scratch))
        shutil.copytree(self.project / "tasks", folder / "tasks")
        if name == "joint":
            shutil.copytree(self.project / "tiny", folder / "tiny")
        shutil.copy(self.project / f"{name}.yaml", folder)
        return folder

    def _type(self, folder: Path, step: Step) -> Ended:
        return run_child(typed(*step.words), folder, kill=step.kill, allowed=(self.cache,), timeout_s=RUN_S)

    def _snapshot(self, folder: Path) -> dict[str, Any]:
        """Return what a workspace holds, read in a child, since DuckDB starts threads."""
        path = folder.with_suffix(".snapshot")

        def work() -> int:
            path.write_text(json.dumps(compare.snapshot(folder / ".gridloom")), encoding="utf-8")
            return 0

        ended = run_child(work, folder, timeout_s=RUN_S)
        if ended.code or not path.exists():
            raise RuntimeError(ended.output)
        made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        return made


def _fault(ended: Ended, is_final: bool) -> tuple[str, str] | None:
    """Return what is wrong with the end of a command that was not killed."""
    if ended.timed_out:
        return "a hang", ended.output
    if ended.traceback:
        return f"a traceback: {group_of(ended.traceback)}", ended.output
    if ended.forbidden:
        return "a write outside", "\n".join(ended.forbidden)
    if ended.code < 0:
        return f"ended by signal {-ended.code}", ended.output
    if is_final and ended.code:
        message = next((line for line in ended.output.splitlines() if line.strip()), "nothing printed")
        return f"the last run exits {ended.code}: {message[:60]}", ended.output
    return None if ended.code in FINE else (f"exit {ended.code}", ended.output)


def run(state: State, limits: Limits, names: Sequence[str] = tuple(WEIGHTS)) -> None:
    """Run cases until the limits are reached."""
    base = scratch_folder("kills")
    program = Kills(state, base, names, is_long=limits.seconds is not None)
    try:
        if limits.case is not None:
            program.case(limits.case)
            return
        done, before = 0, state.seconds
        while not limits.reached(done):
            program.case(state.next_case)
            state.next_case, done = state.next_case + 1, done + 1
            state.seconds = before + limits.spent
            state.save()
    finally:
        shutil.rmtree(base, ignore_errors=True)
        sys.stdout.flush()
