"""Scripted substitutes of the models, for tests, and to try a policy or a verifier without weights."""

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
    """Reasoner that answers attempt n with text n of the script, or its last text; prompts and prefixes are kept."""

    texts: Sequence[str] = ("",)
    hidden_size: int = 8
    """Width of the latent; 0 for a reasoner without hidden states."""
    model: str = "scripted"
    prompts: list[str] = field(default_factory=list)
    """Prompts of all calls, in order."""
    prefixes: list[bytes | None] = field(default_factory=list)
    """Latent prefixes of all calls, in order."""

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Return a prompt with the task's id and the feedback of earlier attempts."""
        feedback = [f"attempt {entry.attempt}: {entry.feedback}" for entry in history]
        text = "\n".join([f"{task.task_id} test input {plan.focus + 1}", *feedback])
        return BuiltPrompt(text=text, num_tokens=len(text.split()))

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Return the scripted text; the latent depends on prompt, prefix, temperature, seed and text."""
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
    """Proposer of the script's grids for a task and attempt; attempts beyond the script repeat the last."""

    script: Mapping[str, Sequence[Sequence[GridRows]]]
    """Task id -> per attempt -> the grid of each test input; [] for none."""
    votes: int = 8
    num_views: int = 8
    view_names: tuple[str, ...] = tuple(f"t{turn}|||0123456789" for turn in range(1, 8))
    checks_right: bool = True
    """Whether the proposals reproduce the check pairs."""
    calls: list[tuple[str, int]] = field(default_factory=list)
    """(task id, attempt) of all proposals, in order."""

    @property
    def act_steps(self) -> int:
        """Number of ACT steps, 2 in every proposal."""
        return 2

    def views(self, task: Task) -> tuple[str, ...]:
        """Return the same views for every task."""
        return self.view_names

    def adapt(self, latent: bytes) -> dict[str, Any]:
        """Return sha256 and RMS of the latent itself."""
        values = np.frombuffer(latent, dtype=np.float16).astype(np.float64)
        return {"sha256": hashlib.sha256(latent).hexdigest(), "rms": float(np.sqrt((values**2).mean()))}

    async def propose(self, task: Task, plan: Plan, latent: bytes | None) -> Proposal:
        """Return a proposal of the scripted grids."""
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
