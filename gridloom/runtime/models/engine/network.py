"""The model engine behind the `Network` interface: a recursive core with the parts that its spec switches on.

One ACT step of a row:

    read the row         tokens -> embeddings, or drawn image -> patches -> capsules (vision, capsules, unified)
    recall               term added to the input (memory)
    H x L cycles         z_L <- f(z_L, z_H + x);  z_H <- f(z_H, z_L); losses at earlier cycles (deep_supervision),
                         codes of capsule states added from the second on (concepts)
    plan                 z <- z + g LN(GELU(W u)) (planning)
    heads                logits, halting logit; tokens ahead (multi_token); decision (dqn)

Shapes: B rows, L tokens of a row, A answers, S positions (see `layout`), D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.models.engine.body import EngineBody
from gridloom.runtime.models.engine.capsules import Encoded
from gridloom.runtime.models.engine.carry import EngineCarry, EngineLosses, EngineOutput
from gridloom.runtime.models.engine.decoding import Decoding, replace_labels, step_record
from gridloom.runtime.models.engine.halting import Action
from gridloom.runtime.models.engine.layers import masked_mean
from gridloom.runtime.models.engine.memory import row_hash
from gridloom.runtime.models.engine.planning import Plan
from gridloom.runtime.models.engine.tape import Tape
from gridloom.runtime.models.engine.training_terms import MEASURES, Scores, part_terms, q_terms, scores, surprise
from gridloom.runtime.models.recursive.layers import round_for_good, rounded_once
from gridloom.runtime.models.recursive.losses import log_stablemax
from gridloom.runtime.models.steps import EVERY_STEP, Answers, HaltedTrace, Halting, Rows, Same, StepOutput, Trace

SHARED_STATE = ("capsules", "memory", "concepts", "dqn")
"""Parts whose buffers a training step changes, which several processes would not agree on."""


class Decided(NamedTuple):
    """Decision about a step."""

    wants: Tensor
    """bool [B], rows that halt."""
    opened: Tensor
    """bool [B, k]"""
    mean: Tensor
    """fp32 [B, D] or [B, 0]"""
    view: Tensor
    """fp32 [B, D + 3] or [B, 0]"""
    action: Tensor
    """int64 [B]"""
    all_open: Tensor
    """bool [B], whether no capsule is left to open."""
    values: Tensor | None
    """fp32 [B, 2 or 3]"""


class Engine(EngineBody):
    """Network of kind `engine`. Without parts, weights and answers equal those of a TRM of the same seed."""

    STEP_FIGURES: ClassVar[tuple[str, ...]] = ("loss", "lm_loss", "q_halt_loss", *MEASURES)
    ROW_FIGURES: ClassVar[tuple[str, ...]] = ("exact_match", "cell_accuracy", "q_halt_accuracy", "act_steps")

    def step(
        self,
        rows: Rows,
        carry: EngineCarry,
        *,
        generator: torch.Generator | None = None,
        least_steps: Tensor | None = None,
        heads: bool = True,
    ) -> tuple[EngineCarry, EngineOutput]:
        """Run one ACT step of every row; in training also compute the losses of the parts, and record what they keep.

        With a decoder the labels of `rows` are read as the answer tokens before each answer.
        """
        if self.training:
            self._refuse_ranks()
            if self.halting_q is not None:
                self.halting_q.follow(self.optimizer_step)
        started = carry.halted
        carry = self.start_rows(carry, rows)
        puzzle = self.puzzle_emb(carry.puzzle_ids)
        x, place, valid, found = self.read_rows(carry, puzzle)
        recall, address = None, None
        if self.memory is not None:
            address = masked_mean(x[:, : self.layout.pooled].detach() * self.signs, valid)
            recall = self.memory.read(address, row_hash(carry.inputs), generator)
            x = x + recall.term.to(x.dtype)[:, None]
        z_H, z_L, earlier = self.cycles(carry.z_H, carry.z_L, x, place)
        plan: Plan | None = None
        if self.planner is not None:
            plan = self.planner(z_H, self.layout.pooled, self.mask, valid, generator, self.tape)
            z_H = plan.state
        if self.tape is not None:
            self.tape.steps.append(step_record(recall, valid, plan))
        logits, q = self.predict(z_H), self.halting(z_H)
        steps = carry.steps + 1
        decided = self._decide(carry, steps, z_H, q, found, valid, generator)
        after = replace(
            carry, z_H=z_H.detach(), z_L=z_L.detach(), steps=steps, mean=decided.mean, opened=decided.opened
        )
        terms: dict[str, Tensor] = {}
        measures: dict[str, Tensor] = {}
        halted = steps >= self.spec.halt_max_steps
        if self.training:
            graded = scores(logits, carry.labels)
            terms, measures = part_terms(self, carry, plan, found, z_H, logits, generator)
            if self.halting_q is None:
                least = self.exploration(len(steps), generator) if least_steps is None else least_steps
                held = 0 if least is None else least.to(steps.device)
                halted = halted | (decided.wants & (steps >= held))
            else:
                more, figures = q_terms(
                    self, carry, started, steps, decided.view, decided.action, decided.all_open, graded, generator
                )
                terms, measures = terms | more, measures | figures
                halted = halted | decided.wants
            after = replace(
                after,
                view=decided.view,
                action=decided.action[:, None] if self.halting_q is not None else carry.action,
                accuracy=graded.accuracy[:, None] if self.halting_q is not None else carry.accuracy,
            )
            if self.memory is not None and recall is not None and address is not None:
                self._remember(address, z_H, carry, halted, graded)
                measures["memory_gate"], measures["memory_fill"] = recall.gate.mean(), self.memory.fill
        after = replace(after, halted=halted)
        output = EngineOutput(
            logits=logits,
            q_halt=q[:, 0],
            puzzle_rows=puzzle,
            z_H=z_H,
            wants=decided.wants,
            earlier=earlier,
            terms=terms,
            measures=measures,
            plan=plan,
            recall=recall,
            encoded=found,
            values=decided.values,
        )
        return after, output

    def _decide(
        self,
        carry: EngineCarry,
        steps: Tensor,
        z_H: Tensor,
        q: Tensor,
        found: Encoded | None,
        valid: Tensor | None,
        generator: torch.Generator | None,
    ) -> Decided:
        """Decide which rows halt, and which capsules open: by Q values with `dqn`, else by the halting logit.

        With capsules a row may halt before its last step only where its checksums reach the threshold.
        """
        passes = torch.ones_like(carry.halted)
        known = torch.ones(len(steps), device=steps.device)
        if found is not None and self.spec.capsules is not None:
            known = found.reconstructability.detach()
            passes = known >= self.spec.capsules.checksum_threshold
        action = torch.zeros(len(steps), dtype=torch.int64, device=steps.device)
        all_open = torch.ones_like(passes)
        if self.halting_q is None:
            return Decided(
                self.halts(q.detach()) & passes, carry.opened, carry.mean, carry.view, action, all_open, None
            )
        if self.halting_q.expands:
            all_open = carry.opened.all(dim=1)
        mean = masked_mean(z_H.detach()[:, : self.layout.pooled], valid)
        view = self.halting_q.features(mean, carry.mean, steps, self.spec.halt_max_steps, known)
        decision = self.halting_q.decide(view, all_open, self.optimizer_step, generator)
        # the action that is executed is the one that is stored: a refused halt is a further step
        refused = (decision.action == Action.HALT) & ~passes
        action = torch.where(refused, int(Action.CONTINUE), decision.action)
        opened = carry.opened
        if self.halting_q.expands and found is not None:
            best = found.expand.detach().masked_fill(opened, float("-inf")).argmax(dim=1)
            opens = (action == Action.EXPAND)[:, None] & F.one_hot(best, opened.shape[1]).bool()
            opened = opened | opens
        return Decided(action == Action.HALT, opened, mean, view, action, all_open, decision.values)

    @torch.no_grad()
    def _remember(self, address: Tensor, z_H: Tensor, carry: EngineCarry, halted: Tensor, graded: Scores) -> None:
        """Write rows that halt with a reward above the threshold: 1 where exact, else -0.5."""
        assert self.memory is not None
        reward = torch.where(graded.exact, 1.0, -0.5)
        chosen = halted & graded.scored & (reward > self.memory.part.reward_threshold)
        self.memory.write(address, z_H.detach().float().mean(dim=1), row_hash(carry.inputs), chosen)

    def _refuse_ranks(self) -> None:
        shared = [part for part in self.spec.active if part in SHARED_STATE]
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        if shared and several and torch.distributed.get_world_size() > 1:
            raise ModelError(
                f"an engine with {', '.join(shared)} is trained by one process: each would keep its own state",
                "train on one device, or switch these parts off",
            )

    def wants_to_halt(self, output: StepOutput) -> Tensor:
        """Return bool [B], rows that halt by the rule of the network."""
        assert isinstance(output, EngineOutput)
        return output.wants

    def losses(self, output: EngineOutput, carry: EngineCarry) -> EngineLosses:
        """Return the losses of a step against the labels in the carry; rows without a label contribute 0."""
        lm = surprise(output.logits, carry.labels)
        graded = scores(output.logits, carry.labels)
        supervised = lm
        if output.earlier:
            before = torch.stack([surprise(self.predict(z), carry.labels) for z in output.earlier])
            supervised = (lm + before.mean(dim=0)) / 2
            output.measures["supervision_loss"] = before.detach().mean()
        halting = F.binary_cross_entropy_with_logits(output.q_halt, graded.exact.float(), reduction="none")
        return EngineLosses(
            lm=lm,
            supervised=supervised,
            q_halt=torch.where(graded.scored, halting, 0.0),
            correct=graded.exact,
            accuracy=graded.accuracy,
            scored=graded.scored,
            terms=output.terms,
        )

    @property
    def num_sums(self) -> int:
        """Number of sums: three losses, four figures and the number of rows, and two for each measure."""
        return 3 + len(self.ROW_FIGURES) + 1 + 2 * len(MEASURES)

    def figures(self, output: EngineOutput, carry: EngineCarry, losses: EngineLosses, batch_size: int) -> Tensor:
        """Return fp32 sums: losses / batch_size, figures of halted rows, their number; measures and their weights."""
        ended = carry.halted & losses.scored
        right_halt = (output.q_halt.detach() >= 0) == losses.correct
        share = len(carry.steps) / batch_size
        zero = torch.zeros((), device=ended.device)
        measured = [output.measures.get(name) for name in MEASURES]
        values = [zero if value is None else value.detach().float() * share for value in measured]
        weights = [zero if value is None else zero + share for value in measured]
        return torch.stack(
            [
                (losses.total() / batch_size).detach(),
                losses.lm.detach().sum() / batch_size,
                losses.q_halt.detach().sum() / batch_size,
                (losses.correct & ended).sum(),
                torch.where(ended, losses.accuracy, 0.0).sum(),
                (right_halt & ended).sum(),
                torch.where(ended, carry.steps, 0).sum(),
                ended.sum(),
                *values,
                *weights,
            ]
        )

    def figure_means(self, sums: Sequence[float], steps: float) -> dict[str, float]:
        """Return means by name; the figure of a part that computed none, or of rows where none halted, is absent."""
        count = 3 + len(self.ROW_FIGURES) + 1
        losses, by_row, ended = sums[:3], sums[3 : count - 1], sums[count - 1]
        values, weights = sums[count : count + len(MEASURES)], sums[count + len(MEASURES) :]
        means: dict[str, float] = {}
        if steps:
            means |= {name: total / steps for name, total in zip(self.STEP_FIGURES[:3], losses, strict=True)}
        means |= {name: value / weight for name, value, weight in zip(MEASURES, values, weights, strict=True) if weight}
        if ended:
            means |= {name: total / ended for name, total in zip(self.ROW_FIGURES, by_row, strict=True)}
        return means

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return fp32 log-probabilities of logits [..., V]: stablemax, as the loss reads them."""
        return log_stablemax(logits).float()

    def answer_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the stablemax cross-entropy fp32 [B] of logits [B, A, V], averaged over the scored positions."""
        return surprise(logits, labels)

    def answer(
        self,
        rows: Rows,
        steps: int | None = None,
        halting: Halting = EVERY_STEP,
        same: Same | None = None,
    ) -> Answers:
        """Return the answers of rows; with a decoder token by token, never reading the labels.

        The loss of a decoder is that of the labels, each read after the labels before it.
        """
        if self.spec.decoder is None:
            return super().answer(rows, steps, halting, same)
        with self.encoding_once():
            tokens = self.decode(rows, steps, halting)
            found = super().answer(replace_labels(rows, tokens), steps, halting, same)
            loss = None if rows.labels is None else super().answer(rows, steps, halting, same).loss
        return Answers(tokens, found.q_halt, found.steps, found.num_computed, loss)

    @torch.no_grad()
    def decode(
        self,
        rows: Rows,
        steps: int | None = None,
        halting: Halting = EVERY_STEP,
        most: int | None = None,
        cache: bool = True,
    ) -> Tensor:
        """Return the most likely answer tokens, uint8 [B, A], each from all ACT steps over the tokens before it.

        Args:
            most: number of tokens to decode; the rest stays 0.
            cache: keep keys and values; `halting` by unchanged answers compares whole answers, and keeps none.
        """
        tokens = torch.zeros(len(rows.inputs), self.num_cells, dtype=torch.uint8, device=rows.inputs.device)
        count = min(self.num_cells, self.num_cells if most is None else most)
        decoding = Decoding(self, rows, steps, halting, cache)
        for place in range(count):
            tokens[:, place] = decoding.logits(tokens, place).argmax(dim=-1).to(torch.uint8)
        return tokens

    @torch.no_grad()
    def record(
        self, rows: Rows, tokens: Tensor, place: int, steps: int | None, halting: Halting
    ) -> tuple[Tape, Tensor, Tensor]:
        """Run the source and the answers up to `place`, whose tokens before are in uint8 [B, A].

        Returns the tape, the logits [B, V] of `place`, and the ACT steps int32 [B].
        """
        self.tape = Tape(self.layout.first_answer + place + 1, self.layout.answers - place - 1)
        try:
            found = self._run(replace_labels(rows, tokens), steps, halting, None)
            return self.tape, found.logits[:, place], found.trace.steps
        finally:
            self.tape = None

    def logits_of(self, rows: Rows, steps: int | None, halting: Halting) -> tuple[Tensor, Tensor]:
        """Return the logits [B, A, V] of the labels as answers, and the ACT steps int32 [B]."""
        found = self._run(rows, steps, halting, None)
        return found.logits, found.trace.steps

    def trace(self, rows: Rows, injection: Any = None, steps: int | None = None) -> Trace:
        """Run all ACT steps and record halting logits and changes; with a decoder over the decoded answer."""
        self._refuse(injection)
        return super().trace(self._with_decoded(rows, steps, EVERY_STEP), None, steps)

    def trace_halting(
        self,
        rows: Rows,
        halting: Halting,
        injection: Any = None,
        steps: int | None = None,
        same: Same | None = None,
    ) -> HaltedTrace:
        """Run rows until each halts, and record the history of each; with a decoder over the decoded answer."""
        self._refuse(injection)
        return super().trace_halting(self._with_decoded(rows, steps, halting), halting, None, steps, same)

    def _with_decoded(self, rows: Rows, steps: int | None, halting: Halting) -> Rows:
        return rows if self.spec.decoder is None else replace_labels(rows, self.decode(rows, steps, halting))

    @contextmanager
    def encoding_once(self) -> Iterator[None]:
        """Encode the images of the rows of a run once for all its ACT steps; nested contexts share the result."""
        outer = self._encoded
        if outer is None and not self.training:
            self._encoded = {}
        try:
            yield
        finally:
            self._encoded = outer

    def _run(self, rows: Rows, steps: int | None, halting: Halting, same: Same | None) -> Any:
        with self.encoding_once():
            return super()._run(rows, steps, halting, same)

    def rounded(self) -> AbstractContextManager[None]:
        """Round weights to the activation dtype once for all calls inside the context."""
        return rounded_once(self)

    def freeze_rounded(self) -> None:
        """Round weights to the activation dtype in place."""
        round_for_good(self)
