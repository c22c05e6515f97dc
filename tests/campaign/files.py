"""Hostile files: checkpoints, task files, damaged workspaces, SQL. Each command ends with a message and an exit status;
nothing in a file is executed, nothing is written outside of the folder, no file outside is read into an answer."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from . import hostile, places, unusual
from .children import Ended, Kill, inherit, preload, run_child, typed
from .state import Limits, State, case_random, group_of, scratch_folder

PROGRAM = "files"
EXITS = (0, 1, 2, 3)
"""Exit statuses of a command that nobody interrupts and whose output is a file."""
MAKERS = {**hostile.MAKERS, **unusual.MAKERS}
COMMAND_S = 60.0
MAX_BYTES = 6_000_000_000
"""Memory that a command may map beside its libraries, bytes."""
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
RUN_ID = re.compile(r"^run (\S+): ", re.MULTILINE)
DATA = ("--json", "--csv")
"""Options whose output is data and stays exact."""


class Files:
    """The program: a project with a finished run, copied for each case."""

    def __init__(self, state: State, scratch: Path, kinds: Sequence[str]) -> None:
        self.state, self.scratch, self.kinds = state, scratch, tuple(kinds)
        self.run_id = "none"
        self.cache = scratch / "cache"
        self.cache.mkdir()
        os.environ["GRIDLOOM_CACHE"] = str(self.cache)
        os.environ.pop("GRIDLOOM_HOME", None)
        preload()
        self.outside = scratch / "outside"
        self.outside.mkdir()
        self.secret = self.outside / "secret.txt"
        self.secret.write_text(f"{hostile.CANARY}\n", encoding="ascii")
        self.template = scratch / "template"
        places.write_project(self.template, ("arc", "puzzles"))
        self.attempts = self._prepare()

    def _prepare(self) -> tuple[str, ...]:
        for words in (("run", "arc.yaml", "-q"), ("attempts", "--json")):
            ended = self._type(self.template, words)
            if ended.code:
                raise RuntimeError(ended.output)
            inherit(ended.modules)
        if "state" in self.kinds:
            self._export_state()
        return tuple(row["attempt_id"] for row in json.loads(ended.output))

    def _export_state(self) -> None:
        """Put the state of a training that was killed into the template. Raises RuntimeError where none is left."""
        folder = self.scratch / "killed"
        export = ("state", "export", "puzzles.yaml", unusual.CARRIED)
        for operation in range(4, 16):
            places.write_project(folder, ("puzzles",))
            run = typed("run", "puzzles.yaml", "-q")
            run_child(run, folder, kill=Kill(operation, "rename"), allowed=(self.cache,), timeout_s=COMMAND_S)
            ended = self._type(folder, export)
            if ended.code == 0:
                shutil.copytree(folder / unusual.CARRIED, self.template / unusual.CARRIED)
                return
            shutil.rmtree(folder)
        raise RuntimeError(ended.output)

    def case(self, number: int) -> None:
        """Run one case."""
        chance = case_random(PROGRAM, self.state.seed, number)
        kind = self.kinds[number % len(self.kinds)]
        folder = self.scratch / f"case-{number}"
        shutil.copytree(self.template, folder, symlinks=True)
        marker = self.outside / f"marker-{number}"
        place = hostile.Place(folder, marker, self.secret, self.attempts)
        commands = MAKERS[kind](chance, place)
        self.state.count(cases=1, **{kind: 1}, commands=len(commands))
        for words in commands:
            before = sorted(path.name for path in self.outside.iterdir())
            ended = self._type(folder, words)
            beside = sorted({path.name for path in self.outside.iterdir()} - {*before})
            if fault := _fault(words, ended, beside):
                shown = " ".join(words)
                kept = {
                    str(path.relative_to(folder)).replace("/", "__"): path.read_bytes()
                    for path in sorted(folder.rglob("*"))
                    if path.is_file() and path.stat().st_mtime > self.template.stat().st_mtime
                    and not path.is_symlink() and path.stat().st_size < 200_000
                }  # fmt: skip
                detail = f"$ gridloom {shown[:2000]}   # exit {ended.code}\n{ended.output[-6000:]}"
                self.state.find(f"{kind}: {fault}", number, dict([*kept.items()][:12]), detail)
                break
        _remove(folder)

    def _type(self, folder: Path, words: Sequence[str]) -> Ended:
        words = [self.run_id if word == unusual.RUN else word for word in words]
        ended = run_child(typed(*words), folder, allowed=(self.cache,), timeout_s=COMMAND_S, max_bytes=MAX_BYTES)
        if found := RUN_ID.search(ended.output):
            self.run_id = found[1]
        return ended


def _fault(words: Sequence[str], ended: Ended, beside: Sequence[str]) -> str:
    """Return what is wrong with the end of a command; empty where nothing is."""
    if beside:
        return "a file outside, or code that was executed"
    if ended.forbidden:
        return f"a write outside or a program: {ended.forbidden[0][:60]}"
    if hostile.CANARY in ended.output:
        return "a file outside was read into the output"
    if ended.timed_out:
        return f"a hang of {words[0]}"
    if ended.traceback:
        return f"a traceback: {group_of(ended.traceback)}"
    if ended.code < 0:
        return f"{words[0]} ended by signal {-ended.code}"
    if ended.code not in EXITS:
        return f"{words[0]} exits {ended.code}"
    if ended.code and not ended.output.strip():
        return f"{words[0]} exits {ended.code} without a message"
    if not set(DATA).intersection(words) and CONTROLS.search(ended.output):
        return f"a control character in the output of {words[0]}"
    return ""


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def run(state: State, limits: Limits, kinds: Sequence[str] = tuple(MAKERS)) -> None:
    """Run cases until the limits are reached."""
    base = scratch_folder("files")
    try:
        program = Files(state, base, kinds)
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
