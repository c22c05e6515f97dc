"""Fakes of the models that follow a script: for tests, and for trying a policy or a verifier without weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gridloom.runtime.data.arc.prompts import BuiltPrompt
from gridloom.runtime.data.files.grids import GridRows
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.types import ActStep, Candidate, FinishedAttempt, Plan, Proposal, Reasoning


@dataclass(slots=True)
class ScriptedReasoner:
    """Answers attempt n of a task with text n of the script, the last from there on; keeps what it was asked."""

    texts: Sequence[str] = ("",)
    hidden_size: int = 8
    """0 for one whose states nothing reads."""
    model: str = "scripted"
    prompts: list[str] = field(default_factory=list)
    """Every prompt answered, in order."""
    prefixes: list[bytes | None] = field(default_factory=list)
    """The latent prefix that came with each."""

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Name the task and tell the feedback of the attempts before."""
        told = [f"attempt {entry.attempt}: {entry.feedback}" for entry in history]
        text = "\n".join([f"{task.task_id} test input {plan.focus + 1}", *told])
        return BuiltPrompt(text=text, num_tokens=len(text.split()))

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Answer from the script; the latent depends on prompt, prefix, temperature and seed."""
        self.prompts.append(prompt.text)
        self.prefixes.append(prefix)
        text = self.texts[min(plan.attempt, len(self.texts)) - 1]
        asked = f"{prompt.text}|{prefix!r}|{plan.temperature}|{plan.seed}|{text}"
        source = np.random.default_rng(int.from_bytes(hashlib.sha256(asked.encode()).digest()[:8], "big"))
        return Reasoning(
            prompt=prompt.text,
            text=text,
            latent=source.standard_normal(self.hidden_size).astype(np.float16).tobytes() or None,
            prompt_tokens=prompt.num_tokens,
            new_tokens=len(text.split()),
            prefix=prefix,
            prefix_tokens=1 if prefix else 0,
            dropped_demos=prompt.dropped_demos,
            dropped_attempts=prompt.dropped_attempts,
            over_budget=prompt.over_budget,
        )


@dataclass(slots=True)
class ScriptedProposer:
    """Proposes what the script says for a task and attempt; attempts beyond the script repeat the last."""

    script: Mapping[str, Sequence[Sequence[GridRows]]]
    """Task id -> per attempt -> the grid of each test input; [] for none."""
    votes: int = 8
    num_views: int = 8
    view_names: tuple[str, ...] = tuple(f"t{turn}|||0123456789" for turn in range(1, 8))
    checks_right: bool = True
    """Whether the check pairs are reproduced."""
    calls: list[tuple[str, int]] = field(default_factory=list)
    """(task id, attempt) of every proposal made."""

    @property
    def act_steps(self) -> int:
        """Two, as every proposal shows."""
        return 2

    def views(self, task: Task) -> tuple[str, ...]:
        """Return the same views for every task."""
        return self.view_names

    def adapt(self, latent: bytes) -> dict[str, Any]:
        """Return the latent's own digest and scale."""
        values = np.frombuffer(latent, dtype=np.float16).astype(np.float64)
        return {"sha256": hashlib.sha256(latent).hexdigest(), "rms": float(np.sqrt((values**2).mean()))}

    async def propose(self, task: Task, plan: Plan, latent: bytes | None) -> Proposal:
        """Propose the scripted grids."""
        self.calls.append((task.task_id, plan.attempt))
        attempts = self.script[task.task_id]
        grids = attempts[min(plan.attempt, len(attempts)) - 1]
        wrong: GridRows = [[0]]
        checks = [self._ranked(pair.output.tolist() if self.checks_right else wrong) for pair in task.check_pairs]
        digest = hashlib.sha256(repr((grids, latent)).encode()).digest()
        return Proposal(
            candidates=tuple(self._ranked(grid) for grid in grids),
            checks=tuple(checks),
            steps=(ActStep(q_halt=-1.0, changed_cells=4), ActStep(q_halt=2.0, changed_cells=0)),
            digest=digest.hex(),
            prefix=None if latent is None else digest[:16],
            geometry={"device": "none"},
        )

    def _ranked(self, grid: GridRows) -> tuple[Candidate, ...]:
        if not grid:
            return ()
        return (
            Candidate(grid=grid, source="trm", votes=self.votes, num_views=self.num_views, confidence=0.9, whole=1.0),
        )
