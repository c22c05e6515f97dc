"""State of a program of the campaign: numbered cases from a seed, counts, findings; kept in a file, so it resumes.

A case is a function of (program, seed, number) alone: the same seed gives the same cases in any order and process.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""Checkout of gridloom, from which the commands in findings are typed."""


ROOMY = 4_000_000_000
"""Free bytes of a file system in memory from which the cases live there."""


def scratch_folder(name: str) -> Path:
    """Make a folder for cases: below `GRIDLOOM_SCRATCH`, in memory where there is room, or among temporary files.

    A process that dies loses nothing that the kernel has, on a disk or in memory; only the time of fsync differs.
    """
    memory = Path("/dev/shm")
    chosen = os.environ.get("GRIDLOOM_SCRATCH")
    if chosen is None and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOMY:
        chosen = str(memory)
    return Path(tempfile.mkdtemp(prefix=f"gridloom-{name}-", dir=chosen))


def case_random(program: str, seed: int, number: int, part: str = "") -> random.Random:
    """Return the random numbers of a case; equal in every process and under every hash seed."""
    return random.Random(f"{program}/{seed}/{number}/{part}")


def repeat_command(program: str, seed: int, number: int) -> str:
    """Return the command that repeats one case."""
    return f".venv/bin/python -m tests.campaign {program} --seed {seed} --case {number}"


@dataclass
class State:
    """Progress of a program under one seed."""

    program: str
    seed: int
    folder: Path
    next_case: int = 0
    """Every case with a smaller number was tried."""
    seconds: float = 0.0
    """Time over all processes that worked on it, s."""
    counts: dict[str, int] = field(default_factory=dict)
    findings: dict[str, int] = field(default_factory=dict)
    """Kind of fault -> number of cases that showed it."""

    @classmethod
    def open(cls, program: str, seed: int, folder: Path, *, fresh: bool = False) -> State:
        """Return the state in `folder`, an empty one where there is none or `fresh` asks for it."""
        state = cls(program, seed, folder)
        if not fresh and state.path.exists():
            saved = json.loads(state.path.read_text(encoding="utf-8"))
            state.next_case, state.seconds = saved["next_case"], saved["seconds"]
            state.counts, state.findings = saved["counts"], saved["findings"]
        return state

    @property
    def path(self) -> Path:
        """File of the state."""
        return self.folder / f"{self.program}-{self.seed}.json"

    def save(self) -> None:
        """Replace the file in one step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = {name: getattr(self, name) for name in ("next_case", "seconds", "counts", "findings")}
        aside = self.path.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        aside.replace(self.path)

    def count(self, **amounts: int) -> None:
        """Add to the counts."""
        for name, amount in amounts.items():
            self.counts[name] = self.counts.get(name, 0) + amount

    def find(self, kind: str, number: int, files: Mapping[str, str | bytes], detail: str) -> Path:
        """Record a fault: its input, what was seen, and the command that repeats it. Only the first ten of a kind keep
        their files. Returns the folder of the finding."""
        self.findings[kind] = self.findings.get(kind, 0) + 1
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", kind)[:80].strip("-")
        place = self.folder / "findings" / self.program / name / f"{self.seed}-{number}"
        if self.findings[kind] <= 10:
            place.mkdir(parents=True, exist_ok=True)
            for file, content in files.items():
                data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
                (place / file).write_bytes(data)
            repeat = repeat_command(self.program, self.seed, number)
            (place / "repeat.txt").write_text(f"{kind}\n\n{repeat}\n\n{detail}\n", encoding="utf-8", errors="replace")
        print(f"{self.program} case {number}: {kind} -> {place}", flush=True)
        return place

    def summary(self) -> str:
        """Return the line that a program ends with."""
        counts = ", ".join(f"{amount:,} {name.replace('_', ' ')}" for name, amount in self.counts.items())
        rate = self.next_case / self.seconds if self.seconds else 0.0
        found = ", ".join(f"{kind} ({amount})" for kind, amount in sorted(self.findings.items())) or "no finding"
        return (
            f"{self.program}: seed {self.seed}, {self.next_case:,} cases in {self.seconds:,.0f} s ({rate:,.1f}/s): "
            f"{counts}; {found}"
        )


@dataclass(frozen=True)
class Limits:
    """End of a program: a time, a number of cases, or one case alone."""

    seconds: float | None = None
    cases: int | None = None
    case: int | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Time in this process, s."""
        return time.monotonic() - self.began

    def reached(self, done: int) -> bool:
        """Return whether a program that tried `done` cases in this process ends now."""
        return (self.seconds is not None and self.spent >= self.seconds) or (
            self.cases is not None and done >= self.cases
        )


def group_of(error: str) -> str:
    """Return the kind of a traceback: its exception and the innermost frame of gridloom."""
    frames = re.findall(r'File "[^"]*?/(gridloom/[^"]+)", line \d+, in (\S+)', error)
    last = next((line for line in reversed(error.strip().splitlines()) if line and not line.startswith(" ")), "")
    name = last.split(":")[0].strip()[:60]
    return f"{name} in {frames[-1][0]} {frames[-1][1]}" if frames else name or "unknown"


def as_json(value: Any) -> str:
    """Return canonical JSON."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
