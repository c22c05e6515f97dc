"""Recursive networks behind the `Network` interface: steps, losses, figures, inference, compilation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.runtime.models.recursive import follow as following
from gridloom.runtime.models.recursive import halting as halting_runs
from gridloom.runtime.models.recursive import inference
from gridloom.runtime.models.recursive.carry import Carry, Injection, Output
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.layers import round_for_good, rounded_once
from gridloom.runtime.models.recursive.losses import RowLosses, answer_loss, log_stablemax, row_losses
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.recursive.torch_compile import CompiledLoop, compile_loop
from gridloom.runtime.models.state_noise import StateNoise
from gridloom.runtime.models.steps import (
    EVERY_STEP,
    Answers,
    Followed,
    HaltedTrace,
    Halting,
    Rows,
    Same,
    StepOutput,
    Trace,
)


class RecursiveNetwork(RecursiveCore):
    """Base of the TRM and its relatives."""

    CARRY: ClassVar[type[Any]] = Carry
    STEP_FIGURES: ClassVar[tuple[str, ...]] = ("loss", "lm_loss", "q_halt_loss")
    ROW_FIGURES: ClassVar[tuple[str, ...]] = ("exact_match", "cell_accuracy", "q_halt_accuracy", "act_steps")

    @classmethod
    def for_rows(
        cls,
        spec: TrmModel,
        rows: RowShape,
        ids: PuzzleIds,
        *,
        per_task: bool = False,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Build a network with fresh weights. Raises ModelError if the spec's values or the rows do not fit."""
        return cls(
            spec,
            rows.canvas,
            len(ids),
            task_of=ids.task_of if per_task or spec.embeds_views else None,
            views=ids.views if spec.embeds_views else None,
            vocabulary=rows.vocabulary,
            num_cells=rows.num_cells,
            generator=generator,
        )

    def step(
        self,
        rows: Rows,
        carry: Carry,
        *,
        generator: torch.Generator | None = None,
        least_steps: Tensor | None = None,
        heads: bool = True,
    ) -> tuple[Carry, Output]:
        """Run one ACT step of every row; see `act_step`."""
        return self.act_step(
            carry,
            rows.inputs,
            rows.puzzle_ids,
            None if rows.start is None else Injection(*rows.start),
            labels=rows.labels,
            generator=generator,
            heads=heads,
            least_steps=least_steps,
        )

    def losses(self, output: Output, carry: Carry) -> RowLosses:
        """Return stablemax cross-entropy and halting losses of a step."""
        return row_losses(self, output, carry.labels)

    def figures(self, output: Output, carry: Carry, losses: RowLosses, batch_size: int) -> Tensor:
        """Return fp32 [8]: losses / batch_size, exact rows, cell accuracy, halting accuracy, ACT steps, rows."""
        ended = carry.halted & losses.scored
        right_halt = (output.q_halt.detach() >= 0) == losses.correct
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
            ]
        )

    def answer(
        self,
        rows: Rows,
        steps: int | None = None,
        halting: Halting = EVERY_STEP,
        same: Same | None = None,
    ) -> Answers:
        """Return the answers of rows tile by tile, with their losses if labels are given; see `inference`."""
        labels = rows.labels
        loss = None if labels is None else lambda logits, place: answer_loss(logits, labels[place])
        return inference.answer(self, rows.inputs, rows.puzzle_ids, steps, halting, same, loss, rows.shapes)

    def trace(self, rows: Rows, injection: Injection | None = None, steps: int | None = None) -> Trace:
        """Run all steps and record halting logits and changes; see `inference`."""
        return inference.trace(self, rows.inputs, rows.puzzle_ids, injection, steps, rows.shapes)

    def trace_halting(
        self,
        rows: Rows,
        halting: Halting,
        injection: Injection | None = None,
        steps: int | None = None,
        same: Same | None = None,
    ) -> HaltedTrace:
        """Run rows until each halts; see `halting`."""
        return halting_runs.trace_halting(
            self, rows.inputs, rows.puzzle_ids, halting, injection, steps, same, rows.shapes
        )

    def halting_margin(self, output: StepOutput) -> Tensor:
        """Return fp32 [B], the margin by which rows halt; see `margin`."""
        assert isinstance(output, Output)
        return self.margin(torch.stack((output.q_halt, output.q_continue), dim=1))

    def random_states(
        self, batch: int, num_cells: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw z_H and z_L of rows of `num_cells` tokens from N(0, 1), at every position: [B, S, D]."""
        like = self.initial_carry(batch, self.device, num_cells)
        z_H, z_L = (
            torch.randn(state.shape, generator=generator, device=state.device).to(state.dtype)
            for state in (like.z_H, like.z_L)
        )
        return z_H, z_L

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return fp32 log-probabilities by stablemax."""
        return log_stablemax(logits)

    def follow(self, rows: Rows, steps: int | None = None, noise: StateNoise | None = None) -> Followed:
        """Run every row for all ACT steps tile by tile, and record each step; see `follow`."""
        return following.follow(self, rows, steps, noise)

    def take_packed(self) -> None:
        """Accept packed rows. Raises ModelError for positions or a mixing that belong to a canvas."""
        if problem := self.spec.packing_problem:
            raise ModelError(f"packed rows need {problem}", "write rows: square in the data, or change the model")
        self.packed = True

    def compile_step(
        self,
        wanted: str,
        lengths: Sequence[int],
        rows: int,
        say: Callable[[str], None],
        *,
        depths: Sequence[NetworkSpec] = (),
        frozen: bool = False,
        any_rows: bool = False,
    ) -> float:
        """Compile the H x L loop; see `torch_compile`. Packed rows, of other lengths in every step, run uncompiled."""
        if self.packed:
            if wanted not in ("auto", "off"):
                say(f"compile: {wanted} has no effect on packed rows, whose lengths differ in every step")
            return 0.0
        return compile_loop(self, wanted, lengths, rows, say, depths=depths, frozen=frozen, any_rows=any_rows)

    @contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Run the plain loop inside the context."""
        loop = self.recur
        if isinstance(loop, CompiledLoop):
            self.recur = loop.plain  # type: ignore[method-assign]
        try:
            yield
        finally:
            if isinstance(loop, CompiledLoop):
                self.recur = loop  # type: ignore[method-assign]

    def rounded(self) -> AbstractContextManager[None]:
        """Round weights to the activation dtype once for all calls inside the context."""
        return rounded_once(self)

    def freeze_rounded(self) -> None:
        """Round weights to the activation dtype in place."""
        round_for_good(self)
