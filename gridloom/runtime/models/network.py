"""Interface of networks of every family, for training, evaluation and solving.

Shapes: B rows; L tokens of a row, or T time steps of F features; V classes of an answer position.
A family implements `for_rows`, `initial_carry` and `step`, and for losses beyond cross-entropy `losses` and `figures`.
Inference (`answer`, `trace`) runs `step` until every row has halted, unless the family overrides it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.follow import follow_steps
from gridloom.runtime.models.kind import RowShape, row_problems
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.runtime.models.state_noise import StateNoise
from gridloom.runtime.models.steps import (
    EVERY_STEP,
    AnswerLosses,
    Answers,
    Followed,
    HaltedTrace,
    Halting,
    Losses,
    Rows,
    Same,
    StepOutput,
    Trace,
    row_halting,
)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

TRIAL_ROWS = 4
"""Number of rows for the trial of a compiled step that accepts any number of rows."""


class Network(nn.Module, ABC):
    """Base of the networks of every family."""

    CARRY: ClassVar[type[Any]]
    """Dataclass of the tensors [B, ...] that persist between ACT steps, with `halted` bool [B], `steps` int32 [B],
    `labels` and `puzzle_ids` int64 [B]. A saved training state holds all fields."""
    STEP_FIGURES: ClassVar[tuple[str, ...]] = ("loss",)
    """Training figures averaged over optimizer steps; the first is the loss."""
    ROW_FIGURES: ClassVar[tuple[str, ...]] = ("exact_match", "cell_accuracy", "act_steps")
    """Training figures averaged over the rows that halted."""

    spec: NetworkSpec
    rows: RowShape
    sides: tuple[int, ...]
    """Sides of the canvases of the rows in cells; (0,) if rows are not canvases."""
    packed: bool = False
    """Whether rows are rectangles of their own size, packed one after the other (`take_packed`)."""
    puzzle_emb: nn.Module | None
    """Puzzle embedding, whose rows have an optimiser of their own; None without one."""

    optimizer_step: int
    """Optimizer steps made before this one, counted by the trainer; schedules inside the loss follow it."""

    def __init__(self) -> None:
        super().__init__()
        self.puzzle_emb = None
        self.optimizer_step = 0

    @classmethod
    @abstractmethod
    def for_rows(
        cls,
        spec: Any,
        rows: RowShape,
        ids: PuzzleIds,
        *,
        per_task: bool = False,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Build a network with fresh weights.

        Args:
            ids: names of the puzzle ids of the rows.
            per_task: add an embedding row per task to the row per id.
            generator: generator of the initial weights; None for torch's global generator.

        Raises:
            ModelError: the spec's values contradict one another, or the network cannot read rows of this shape.
        """

    @abstractmethod
    def initial_carry(self, batch: int, device: torch.device | str | None = None, num_cells: int | None = None) -> Any:
        """Return a carry whose rows are all halted, so that the first step takes new data. `num_cells`: L or T."""

    @abstractmethod
    def step(
        self,
        rows: Rows,
        carry: Any,
        *,
        generator: torch.Generator | None = None,
        least_steps: Tensor | None = None,
        heads: bool = True,
    ) -> tuple[Any, StepOutput]:
        """Start halted rows on the given data, run one ACT step on every row, and decide which rows halt.

        Args:
            generator: source of randomness in training.
            least_steps: int [B], minimum number of steps of each row, drawn by `exploration`.
            heads: compute the logits; optional for a family whose losses read the state.
        """

    def inference_step(self, rows: Rows, carry: Any, number: int) -> tuple[Any, StepOutput]:
        """Run ACT step `number` of an inference run; by default `step`, whatever the number. A run ends where every row
        of the carry has halted."""
        return self.step(rows, carry)

    def losses(self, output: Any, carry: Any) -> Losses:
        """Return the losses of a step against the labels in the carry of the same step; by default cross-entropy."""
        scored = carry.labels != 0
        right = (output.logits.detach().argmax(dim=-1) == carry.labels) & scored
        return AnswerLosses(self.answer_loss(output.logits, carry.labels), right.sum(dim=1), scored.sum(dim=1))

    def figures(self, output: Any, carry: Any, losses: Any, batch_size: int) -> Tensor:
        """Return fp32 sums over the rows: STEP_FIGURES divided by `batch_size`, ROW_FIGURES over the scored rows that
        halted, and the number of those rows."""
        ended = carry.halted & (losses.num_scored > 0)
        right = losses.num_right / losses.num_scored.clamp(min=1)
        return torch.stack(
            [
                losses.total().detach() / batch_size,
                (ended & (losses.num_right == losses.num_scored)).sum(),
                torch.where(ended, right, 0.0).sum(),
                torch.where(ended, carry.steps, 0).sum(),
                ended.sum(),
            ]
        )

    def figure_means(self, sums: Sequence[float], steps: float) -> dict[str, float]:
        """Return means by name of what `figures` returned, summed over `steps` optimizer steps.

        A mean over no rows, or over no steps, is not defined: its name is absent. A family that returns more sums, such
        as a histogram, turns them into figures here.
        """
        *totals, ended = sums
        by_step = len(self.STEP_FIGURES)
        means: dict[str, float] = {}
        if steps:
            means |= {name: total / steps for name, total in zip(self.STEP_FIGURES, totals[:by_step], strict=True)}
        if ended:
            means |= {name: total / ended for name, total in zip(self.ROW_FIGURES, totals[by_step:], strict=True)}
        return means

    @property
    def num_sums(self) -> int:
        """Number of sums that `figures` returns."""
        return len(self.STEP_FIGURES) + len(self.ROW_FIGURES) + 1

    def undecayed(self) -> list[nn.Parameter]:
        """Return the weights that weight decay spares, such as a halting unit, norms and biases; by default none."""
        return []

    def exploration(self, batch: int, generator: torch.Generator | None) -> Tensor | None:
        """Draw the minimum numbers of steps [B] of rows in training, on the CPU; None without exploration."""
        return None

    def wants_to_halt(self, output: StepOutput) -> Tensor:
        """Return bool [B], True for rows that halt by their halting logit."""
        return row_halting(output.q_halt) > 0

    def halting_margin(self, output: StepOutput) -> Tensor:
        """Return fp32 [B], positive for rows that halt by their halting logit, and the larger the surer."""
        return row_halting(output.q_halt)

    def random_states(
        self, batch: int, num_cells: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw initial states from N(0, 1), for `Rows.start`. Raises ModelError for a network without such states."""
        raise ModelError(
            f"a {self.spec.kind} has no states that rows start from and keep between ACT steps",
            "use a recursive network, such as a trm",
        )

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return fp32 log-probabilities of logits [..., V], as the loss of the family reads them."""
        return F.log_softmax(logits.float(), dim=-1)

    def answer_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return fp32 [B]: mean cross-entropy of logits [B, L, V] over the scored positions of uint8 [B, L] labels."""
        scored = labels != 0
        surprise = F.cross_entropy(logits.float().transpose(1, 2), labels.long(), reduction="none")
        return torch.where(scored, surprise, 0.0).sum(dim=1) / scored.sum(dim=1).clamp(min=1)

    def matrices(self) -> list[nn.Parameter]:
        """Return the weights for Muon: linear maps other than embeddings and heads."""
        return []

    def take_canvases(self, sides: Sequence[int]) -> None:
        """Accept rows on canvases of these sides. Raises ModelError if the network runs on one shape only."""
        if tuple(sides) != self.sides:
            raise ModelError(
                f"a {self.spec.kind} runs on rows of one shape, not on canvases of {', '.join(map(str, sides))}",
                "remove data.*.canvases",
            )

    def take_packed(self) -> None:
        """Accept packed rows. Raises ModelError if the network cannot read them."""
        raise ModelError(
            f"a {self.spec.kind} reads no packed rows", "write rows: square in the data, or use a trm with rope_2d"
        )

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
        """Compile the step with torch.compile if `compile:` in the spec requests it; return the seconds spent.

        Args:
            wanted: value of `compile:` in the spec.
            lengths: tokens of a row, for each canvas.
            rows: number of rows per call.
            depths: spec in each phase of a training.
            frozen: training starts with the puzzle embedding alone.
            any_rows: later calls may have any number of rows, without gradient.
        """
        if wanted not in ("auto", "off"):
            say(f"compile: {wanted} has no effect on a {self.spec.kind}, which has no compiled form")
        return 0.0

    def uncompiled(self) -> AbstractContextManager[None]:
        """Run without the compiled step inside the context, for rows of other shapes than it was compiled for."""
        return nullcontext()

    def rounded(self) -> AbstractContextManager[None]:
        """Round weights to the activation dtype once for all calls inside the context; by default do nothing."""
        return nullcontext()

    def freeze_rounded(self) -> None:
        """Round weights to the activation dtype in place, for a network that is only run; by default do nothing."""

    def problems_with(self, rows: RowShape) -> list[str]:
        """Return why the network cannot answer rows of a shape, in words; empty where it can.

        By default rows have the shape of the training; `any_length` in the spec allows longer and shorter ones.
        """
        return row_problems(self.spec, self.rows, rows)

    @property
    def canvas(self) -> int:
        """Side of the square token canvas in cells; 0 if rows are not square."""
        return self.rows.canvas

    @property
    def num_cells(self) -> int:
        """Tokens L or time steps T of a row."""
        return self.rows.cells

    @property
    def vocabulary(self) -> int:
        """Number V of tokens."""
        return self.rows.vocabulary

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def answer(
        self,
        rows: Rows,
        steps: int | None = None,
        halting: Halting = EVERY_STEP,
        same: Same | None = None,
    ) -> Answers:
        """Return the answers of rows, and their losses if labels are given.

        Args:
            steps: ACT steps of every row; None for the spec's `halt_max_steps`.
            same: comparison of answers for `unchanged`; None to compare all tokens.
        """
        found = self._run(rows, steps, halting, same)
        loss = None if rows.labels is None else self.answer_loss(found.logits, rows.labels)
        made = found.trace.steps
        return Answers(found.trace.tokens, found.last_q, made, found.num_computed, loss)

    def trace(self, rows: Rows, injection: Any = None, steps: int | None = None) -> Trace:
        """Run all ACT steps, and record halting logits and numbers of changed positions.

        Raises:
            ModelError: a latent is injected, and the family has no latent state.
        """
        self._refuse(injection)
        found = self._run(rows, steps, Halting(), None)
        return Trace(found.trace.tokens, found.trace.q_halt, found.trace.changed, found.carry)

    def trace_halting(
        self,
        rows: Rows,
        halting: Halting,
        injection: Any = None,
        steps: int | None = None,
        same: Same | None = None,
    ) -> HaltedTrace:
        """Run rows until each halts, and record the history of each."""
        self._refuse(injection)
        return self._run(rows, steps, halting, same).trace

    def follow(self, rows: Rows, steps: int | None = None, noise: StateNoise | None = None) -> Followed:
        """Run every row for all ACT steps, more than `halt_max_steps` where wanted, and record each step.

        Args:
            noise: noise on the states of a recursive network.

        Raises:
            ModelError: noise is given, and the network has no states for it.
        """
        if noise is not None:
            self.random_states(1, 1)
        return follow_steps(self, rows, self.spec.halt_max_steps if steps is None else steps)

    def _refuse(self, injection: Any) -> None:
        if injection is not None:
            raise ModelError(f"a {self.spec.kind} takes no latent", "use a network with two states, such as a trm")

    @torch.no_grad()
    def _run(self, rows: Rows, steps: int | None, halting: Halting, same: Same | None) -> _Run:
        most = self.spec.halt_max_steps if steps is None else steps
        if most < 1:
            raise ModelError(f"ACT steps must be at least 1, not {most}")
        same = _all_equal if same is None else same
        batch, num_cells = rows.inputs.shape[:2]
        carry = self.initial_carry(batch, rows.inputs.device, num_cells)
        running = torch.ones(batch, dtype=torch.bool, device=rows.inputs.device)
        streak = torch.zeros(batch, dtype=torch.int32, device=rows.inputs.device)
        made = torch.zeros_like(streak)
        tokens: Tensor | None = None
        logits: Tensor | None = None
        q_halt: list[Tensor] = []
        changed: list[Tensor] = []
        with self.rounded():
            for step in range(1, most + 1):
                carry, output = self.inference_step(rows, carry, step)
                new = output.logits.argmax(dim=-1).to(torch.uint8)
                q = row_halting(output.q_halt)
                before = torch.full_like(new, 255) if tokens is None else tokens
                differs = (new != before) & running[:, None]
                if halting.when == "score":
                    agrees = self.wants_to_halt(output)
                else:
                    agrees = torch.zeros_like(running) if tokens is None else same(before, new)
                tokens = torch.where(running[:, None], new, before)
                logits = output.logits if logits is None else torch.where(running[:, None, None], output.logits, logits)
                q_halt.append(torch.where(running, q, 0.0))
                changed.append(differs.sum(dim=1, dtype=torch.int32))
                made = torch.where(running, step, made)
                streak = torch.where(agrees, streak + 1, 0)
                if not halting.every_step:
                    running = running & (streak < halting.patience)
                # a family that ponders within one step has halted now: the next step would take new data
                if not bool(running.any()) or bool(carry.halted.all()):
                    break
        assert tokens is not None
        assert logits is not None
        made = made.to(torch.int32)
        history = torch.stack(q_halt)
        last_q = history[made.long() - 1, torch.arange(batch, device=history.device)]
        found = HaltedTrace(tokens, history, torch.stack(changed), made)
        return _Run(found, carry, logits, last_q, int(made.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """History of a run, its carry, and the logits [B, L, V] of each row's last step."""

    trace: HaltedTrace
    carry: Any
    logits: Tensor
    last_q: Tensor
    """fp32 [B]"""
    num_computed: int


def _all_equal(before: Tensor, after: Tensor) -> Tensor:
    return (before == after).all(dim=1)
