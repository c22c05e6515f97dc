"""Nodes of the loop for one task: each node takes the state and returns an update of the state.

All nodes are coroutines, also those that never wait: LangGraph would run plain functions in a thread pool, and then
the order in which concurrent tasks reach the models would depend on the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from gridloom.runtime.data.arc.parsing import parse_grid
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.loop.events import AttemptShown, Event, PicksShown, TaskShown
from gridloom.solvers.loop.policies import Experience, Policy, Situation
from gridloom.solvers.loop.record_cache import RecordCache
from gridloom.solvers.loop.recording import AttemptScope, Outcome, attempt_of, pick_records
from gridloom.solvers.loop.select import is_settled, select
from gridloom.solvers.parts.services import Services
from gridloom.solvers.types import Candidate, FinishedAttempt, LoopState, Plan, Proposal, Reasoning, Verdict
from gridloom.solvers.verifiers.judge import Judge
from gridloom.specs.solver import Solver

Update = dict[str, Any]
Show = Callable[[Event], None]


class Nodes:
    """Methods plan, reason, adapt, propose, verify, record and select of one task, with its models and ledger."""

    def __init__(
        self,
        task: Task,
        *,
        settings: Solver,
        seed: int,
        services: Services,
        policy: Policy,
        scope: AttemptScope,
        experience: Experience | None = None,
        append: Callable[..., None],
        show: Show = lambda _event: None,
    ) -> None:
        self.task = task
        self.settings = settings
        self.seed = seed
        self.services = services
        self.policy = policy
        self.scope = scope
        self.experience = experience or {}
        self.show = show
        self._append = append
        self._judge = Judge(task, settings.verifier)
        self._records = RecordCache()

    async def plan(self, state: LoopState) -> Update:
        """Plan the next attempt."""
        began = time.perf_counter()
        history = self._records.history(state)
        if not history:
            self.show(TaskShown(self.task))
        situation = Situation(
            task_id=self.task.task_id,
            num_tests=len(self.task.tests),
            views=self.services.proposer.views(self.task),
            history=history,
            settings=self.settings,
            seed=self.seed,
            has_llm=self.services.reasoner is not None,
            act_steps=self.services.proposer.act_steps,
            experience=self.experience,
            has_prefix=bool(state.get("prefix")),
        )
        plan = self.policy.plan(situation)
        return {
            "attempt": plan.attempt,
            "planned": self._records.dump(plan),
            "reasoning": None,
            "adapted": None,
            "started_at": time.time(),
            "timings": {"plan": time.perf_counter() - began},
        }

    async def reason(self, state: LoopState) -> Update:
        """Run the LLaMA on the attempt's prompt."""
        began = time.perf_counter()
        reasoner = self.services.reasoner
        assert reasoner is not None, "the graph enters `reason` only with a LLaMA"
        plan = self._records.record(Plan, state["planned"])
        prompt = reasoner.prompt(self.task, plan, self._records.history(state) if plan.feedback else ())
        prompt_s = time.perf_counter() - began
        # the wait for calls that share the batch is not counted for this attempt, its share of the batch's time is
        reasoning = await reasoner.reason(prompt, plan, state.get("prefix") if plan.prefix else None)
        timings = {**state["timings"], "reason": prompt_s + reasoning.duration_s}
        return {"reasoning": self._records.dump(reasoning), "timings": timings}

    async def adapt(self, state: LoopState) -> Update:
        """Map the LLaMA's latent to the TRM's space with the adapter."""
        began = time.perf_counter()
        reasoning = state["reasoning"]
        assert reasoning is not None, "`reason` ran before"
        if reasoning["latent"] is None:  # no adapter reads the LLaMA's hidden state
            return {"adapted": None}
        return {
            "adapted": self.services.proposer.adapt(reasoning["latent"]),
            "timings": _timed(state, "adapt", began),
        }

    async def propose(self, state: LoopState) -> Update:
        """Run the TRM over all views; the LLaMA's grid is added to the candidates of the test input in its prompt."""
        plan = self._records.record(Plan, state["planned"])
        reasoning = state.get("reasoning")
        proposal = await self.services.proposer.propose(self.task, plan, reasoning["latent"] if reasoning else None)
        if reasoning:
            proposal = with_text_grid(proposal, plan, reasoning["text"])
        return {
            "proposal": self._records.dump(proposal),
            "prefix": proposal.prefix,
            "timings": {**state["timings"], "propose": proposal.seconds},
        }

    async def verify(self, state: LoopState) -> Update:
        """Judge the proposal without the held-out answer."""
        began = time.perf_counter()
        verdict = self._judge.verdict(self._records.record(Proposal, state["proposal"]))
        return {"verdict": self._records.dump(verdict), "timings": _timed(state, "verify", began)}

    async def record(self, state: LoopState) -> Update:
        """Write the attempt to the ledger, in one append, and add it to the history."""
        reasoning_data = state.get("reasoning")
        outcome = Outcome(
            plan=self._records.record(Plan, state["planned"]),
            reasoning=self._records.record(Reasoning, reasoning_data) if reasoning_data else None,
            adapted=state.get("adapted"),
            proposal=self._records.record(Proposal, state["proposal"]),
            verdict=self._records.record(Verdict, state["verdict"]),
            timings=state["timings"],
            started_at=state["started_at"],
            ended_at=time.time(),
        )
        reasoner = self.services.reasoner
        attempt = attempt_of(self.scope, outcome, reasoner.model if reasoner else None)
        self._append(*attempt.records())
        plan, reasoning, proposal, verdict = outcome.plan, outcome.reasoning, outcome.proposal, outcome.verdict
        entry = FinishedAttempt(
            attempt=plan.attempt,
            arm=plan.arm,
            only=proposal.only,
            text=reasoning.text if reasoning else "",
            candidates=proposal.candidates,
            weights=verdict.weights,
            score=verdict.score,
            accepted=verdict.accepted,
            feedback=verdict.feedback,
            llm_tokens=reasoning.prompt_tokens + reasoning.new_tokens if reasoning else 0,
            seconds=attempt.seconds,
        )
        self.show(AttemptShown(self.task, attempt))
        return {"history": [*state.get("history", []), self._records.dump_entry(entry)]}

    async def select(self, state: LoopState) -> Update:
        """Choose the final grids and write them to the ledger."""
        history = self._records.history(state)
        picks = select(history, len(self.task.tests))
        accepted = history[-1].accepted
        self._append(*pick_records(self.scope, picks, accepted=accepted, num_attempts=len(history)))
        self.show(PicksShown(self.task, picks, accepted, len(history)))
        return {"picks": [pick.model_dump() for pick in picks]}

    def after_plan(self, _state: LoopState) -> Literal["reason", "propose"]:
        """Return the node after `plan`: `reason` with a LLaMA, else `propose`."""
        return "reason" if self.services.reasoner is not None else "propose"

    def after_record(self, state: LoopState) -> Literal["plan", "select"]:
        """Return `select` once an attempt is accepted, a budget is spent or the picks cannot change; else `plan`."""
        history = self._records.history(state)
        settings, budget = self.settings, self.settings.budget
        remaining = settings.max_attempts - len(history)
        done = (
            history[-1].accepted
            or remaining <= 0
            or (budget.tokens is not None and sum(entry.llm_tokens for entry in history) >= budget.tokens)
            or (budget.seconds is not None and sum(entry.seconds for entry in history) >= budget.seconds)
            or (settings.early_stop and is_settled(history, len(self.task.tests), remaining))
        )
        return "select" if done else "plan"


def with_text_grid(proposal: Proposal, plan: Plan, text: str) -> Proposal:
    """Return the proposal with the LLaMA's grid as the last candidate of test input `plan.focus`; unchanged if none."""
    grid = parse_grid(text)
    if grid is None or plan.focus >= len(proposal.candidates):
        return proposal
    written = Candidate(grid=grid, source="llama", votes=1, num_views=1 + len(plan.views))
    candidates = list(proposal.candidates)
    candidates[plan.focus] = (*candidates[plan.focus], written)
    return proposal.model_copy(update={"candidates": tuple(candidates)})


def _timed(state: LoopState, node: str, began: float) -> dict[str, float]:
    return {**state.get("timings", {}), node: time.perf_counter() - began}
