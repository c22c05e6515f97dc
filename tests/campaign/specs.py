"""Mutated specs: each ends in a graph or in diagnostics, within five seconds, with the same key in two processes.

Two workers compile blocks of cases, each with hash seeds of its own; what compiled, and a tenth of the rest, is
compiled again by the other one, and digests of graphs, keys and messages are compared.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import mutate, spec_worker
from .state import ROOT, Limits, State, scratch_folder

BLOCK = 500
"""Cases of a block."""


class Worker:
    """A process that compiles."""

    def __init__(self, seed: int, hash_seed: int, folder: Path) -> None:
        environment = os.environ | {
            "PYTHONHASHSEED": str(hash_seed),
            "GRIDLOOM_CACHE": str(folder / "cache"),
            "HOME": str(folder.parent),  # messages have the place of `~`
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
        }
        environment.pop("GRIDLOOM_HOME", None)
        words = [sys.executable, "-m", "tests.campaign.spec_worker", str(seed), str(folder / "project")]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )

    def ask(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return the verdicts of the cases."""
        return self._answers(" ".join(map(str, numbers)))

    def smaller(self, number: int) -> mutate.Case:
        """Return a smaller case with the fault of a case."""
        (found,) = self._answers(f"smaller {number}")
        return mutate.Case(bytes.fromhex(found["text"]), tuple(found["overrides"]), found["local"])

    def _answers(self, line: str) -> list[dict[str, Any]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        found: list[dict[str, Any]] = []
        for answer in self.process.stdout:
            made = json.loads(answer)
            if not made:
                return found
            found.append(made)
        raise RuntimeError(f"a worker ended with {self.process.wait()}")

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Specs:
    """The program: blocks, what the other worker still has to compile, and the state."""

    def __init__(self, state: State, limits: Limits, folder: Path) -> None:
        self.state, self.limits, self.folder = state, limits, folder
        self.lock = threading.Lock()
        self.started = state.next_case
        self.next_block = state.next_case
        self.unfinished: set[int] = set()
        self.again: tuple[deque[tuple[int, dict[int, str]]], ...] = (deque(), deque())
        self.before = state.seconds
        self.failures: list[BaseException] = []

    def drive(self, number: int) -> None:
        """Give a worker blocks until the limits are reached and its queue is empty."""
        worker = None
        try:
            worker = Worker(self.state.seed, number + 1, self.folder / f"worker-{number}")
            while not self.failures:
                with self.lock:
                    repeat = self.again[number].popleft() if self.again[number] else None
                    block = None if repeat else self._take()
                    idle = not repeat and block is None
                    over = idle and not self.unfinished
                if over:
                    return
                if repeat:
                    self._compare(repeat, worker, worker.ask([*repeat[1]]))
                elif block is not None:
                    self._judge(block, number, worker, worker.ask(self._numbers(block)))
                else:
                    threading.Event().wait(0.05)  # the other worker may still have something to repeat
        except BaseException as failure:
            self.failures.append(failure)
        finally:
            if worker is not None:
                worker.close()

    def _take(self) -> int | None:
        if self.limits.reached(self.next_block - self.started):
            return None
        block, self.next_block = self.next_block, self.next_block + len(self._numbers(self.next_block))
        self.unfinished.add(block)
        return block

    def _numbers(self, block: int) -> range:
        end = block + BLOCK
        if self.limits.cases is not None:
            end = min(end, self.started + self.limits.cases)
        return range(block, end)

    def _judge(self, block: int, number: int, worker: Worker, verdicts: list[dict[str, Any]]) -> None:
        smaller = self._made_smaller(worker, verdicts)
        with self.lock:
            good = {v["case"]: v["digest"] for v in verdicts if "digest" in v}
            compiled = sum(v.get("compiled", False) for v in verdicts)
            self.state.count(specs=len(verdicts), compiled=compiled)
            for v in verdicts:
                if "fault" in v:
                    self._find(v, smaller.get(v["case"]))
            chosen = {v["case"] for v in verdicts if v.get("compiled") or v["case"] % 10 == 0}
            self.again[1 - number].append((block, {case: good[case] for case in good if case in chosen}))

    def _made_smaller(self, worker: Worker, verdicts: list[dict[str, Any]]) -> dict[int, mutate.Case]:
        """Return the smaller input of the first case of each new fault, by number."""
        fresh: dict[str, int] = {}
        for v in verdicts:
            if "fault" in v and v["fault"] not in self.state.findings:
                fresh.setdefault(v["fault"], v["case"])
        return {number: worker.smaller(number) for number in fresh.values()}

    def _compare(self, repeat: tuple[int, dict[int, str]], worker: Worker, verdicts: list[dict[str, Any]]) -> None:
        block, digests = repeat
        with self.lock:
            self.state.count(compiled_twice=len(verdicts))
            for v in verdicts:
                if "fault" in v:
                    self._find({**v, "fault": f"in the second process: {v['fault']}"})
                elif v["digest"] != digests[v["case"]]:
                    self._find({**v, "fault": "another key or message in a second process", "detail": str(v)})
            self.unfinished.discard(block)
            self.state.next_case = min(self.unfinished, default=self.next_block)
            self.state.seconds = self.before + self.limits.spent
            self.state.save()

    def _find(self, v: dict[str, Any], smaller: mutate.Case | None = None) -> None:
        whole = spec_worker.drawn(self.state.seed, v["case"])
        case = smaller or whole
        words = " ".join(f"--set {override!r}" for override in case.overrides)
        facts = "with facts of the disk" if case.local else "with the facts of tests/support/compiler_support.py"
        detail = f"{facts}; overrides: {words or 'none'}\n\n{v['detail']}"
        self.state.find(v["fault"], v["case"], {"spec.yaml": case.text, "whole.yaml": whole.text}, detail)


def judge_alone(case: mutate.Case, folder: Path) -> dict[str, Any]:
    """Compile one case in an interpreter of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "case.json").write_text(
        json.dumps({"text": case.text.hex(), "overrides": case.overrides, "local": case.local}), encoding="utf-8"
    )
    environment = os.environ | {"GRIDLOOM_CACHE": str(folder / "cache"), "HOME": str(folder)}
    script = (
        "import sys, json, os; from pathlib import Path; from tests.campaign import spec_worker as w, mutate\n"
        "scratch = Path(sys.argv[1]); given = json.loads((scratch / 'case.json').read_text())\n"
        "w.prepare(scratch / 'project'); os.chdir(scratch / 'project'); w.load()\n"
        "case = mutate.Case(bytes.fromhex(given['text']), tuple(given['overrides']), given['local'])\n"
        "print(json.dumps(w.supervise([(0, case)])[0]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    verdict: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return verdict


def run(state: State, limits: Limits) -> None:
    """Compile blocks until the limits are reached."""
    folder = scratch_folder("specs")
    try:
        program = Specs(state, limits, folder)
        if limits.case is not None:
            case = spec_worker.drawn(state.seed, limits.case)
            verdict = judge_alone(case, folder / "alone")
            print(json.dumps(verdict, indent=1).replace("\\n", "\n"))
            if "fault" in verdict:
                program._find({"case": limits.case, **verdict})
            return
        drivers = [threading.Thread(target=program.drive, args=(number,)) for number in (0, 1)]
        for driver in drivers:
            driver.start()
        for driver in drivers:
            driver.join()
        if program.failures:
            raise program.failures[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
