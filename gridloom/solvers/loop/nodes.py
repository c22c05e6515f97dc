"""Nodes of the loop for one task: each node takes the state and returns an update of the state.

All nodes are coroutines, also those that never wait: LangGraph would run plain functions in a thread pool, and then
the order in which concurrent tasks reach the models would depend on the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from gridloom.runtime.data.tasks import Task
from gridloom.solvers.loop.confirm import ask_again
from gridloom.solvers.loop.events import AttemptShown, Event, PicksShown, TaskShown
from gridloom.solvers.loop.policies import Experience, Policy, Situation, plan_attempt
from gridloom.solvers.loop.record_cache import RecordCache
from gridloom.solvers.loop.recording import AttemptScope, Outcome, attempt_of, pick_records
from gridloom.solvers.loop.select import is_accepted, is_settled, select
from gridloom.solvers.loop.text_grids import is_cut, with_text_grid
from gridloom.solvers.parts.services import Services
from gridloom.solvers.types import FinishedAttempt, LoopState, Plan, Proposal, Reasoning, Verdict
from gridloom.solvers.verifiers.judge import Judge
from gridloom.specs.solver import Search, Solver

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
            searches_alone=self.services.searches_alone,
        )
        plan = plan_attempt(self.policy, situation)
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
        """Run the TRM over all views; the LLaMA's grid is added to the candidates of the test input in its prompt.

        With `confirm`, a language model alone is then asked again.
        """
        plan = self._records.record(Plan, state["planned"])
        data = state.get("reasoning")
        reasoning = self._records.record(Reasoning, data) if data else None
        proposal = await self.services.proposer.propose(self.task, plan, reasoning.latent if reasoning else None)
        timings = {**state["timings"], "propose": proposal.seconds}
        if reasoning is not None:
            proposal = with_text_grid(proposal, self.task, plan, reasoning, cut=is_cut(reasoning))
            if self.settings.confirm is not None and proposal.only is not None:
                proposal = await self._confirm(proposal, plan, reasoning, self._records.history(state))
                timings["confirm"] = sum(ask.duration_s for ask in proposal.asks)
        return {"proposal": self._records.dump(proposal), "prefix": proposal.prefix, "timings": timings}

    async def _confirm(
        self, proposal: Proposal, plan: Plan, reasoning: Reasoning, history: tuple[FinishedAttempt, ...]
    ) -> Proposal:
        """Return the proposal with the answers to the questions that the task's budget of tokens has room for."""
        reasoner, confirm, budget = self.services.reasoner, self.settings.confirm, self.settings.budget.tokens
        assert reasoner is not None, "a text was written"
        assert confirm is not None, "the settings name it"
        spent = sum(entry.llm_tokens for entry in history) + reasoning.prompt_tokens + reasoning.new_tokens
        left = None if budget is None else budget - spent
        return await ask_again(reasoner, proposal, self.task, plan, confirm, tokens=left)

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
            llm_tokens=(reasoning.prompt_tokens + reasoning.new_tokens if reasoning else 0)
            + sum(ask.tokens for ask in proposal.asks),
            seconds=attempt.seconds,
        )
        self.show(AttemptShown(self.task, attempt))
        return {"history": [*state.get("history", []), self._records.dump_entry(entry)]}

    async def select(self, state: LoopState) -> Update:
        """Choose the final grids and write them to the ledger."""
        history = self._records.history(state)
        picks = select(history, len(self.task.tests))
        accepted = is_accepted(history, len(self.task.tests))
        self._append(*pick_records(self.scope, picks, accepted=accepted, num_attempts=len(history)))
        self.show(PicksShown(self.task, picks, accepted, len(history)))
        return {"picks": [pick.model_dump() for pick in picks]}

    def after_plan(self, state: LoopState) -> Literal["reason", "propose"]:
        """Return the node after `plan`: `reason` with a LLaMA, except for a search, else `propose`."""
        searches = state["planned"].get("search") is not None
        return "reason" if self.services.reasoner is not None and not searches else "propose"

    def after_record(self, state: LoopState) -> Literal["plan", "select"]:
        """Return `select` once an attempt is accepted, a budget is spent or the picks cannot change; else `plan`."""
        history = self._records.history(state)
        settings, budget = self.settings, self.settings.budget
        remaining = settings.max_attempts - len(history)
        done = (
            is_accepted(history, len(self.task.tests))
            or remaining <= 0
            or (self.services.searches_alone and len(history) >= len((settings.search or Search()).depths))
            or (budget.tokens is not None and sum(entry.llm_tokens for entry in history) >= budget.tokens)
            or (budget.seconds is not None and sum(entry.seconds for entry in history) >= budget.seconds)
            or (settings.early_stop and is_settled(history, len(self.task.tests), remaining))
        )
        return "select" if done else "plan"


def _timed(state: LoopState, node: str, began: float) -> dict[str, float]:
    return {**state.get("timings", {}), node: time.perf_counter() - began}
