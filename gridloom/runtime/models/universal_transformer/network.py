"""Universal Transformer (Dehghani et al. 2018, arXiv 1807.03819): one block, several hops, halting at each position.

Shapes: B rows, L tokens or T time steps of F features, K answers of a position (or of the whole row), V classes.

    tokens   e = E[token], a table V x E, then a linear map to H;   vectors   s_0 = W x + b
    hop n    x_n = s_(n-1) + position signal + hop signal;   s_n = block(x_n)        (`layers`, `signals`)
    output   o = s_M, or with ACT the weighted states of each position               (`hops`)
    answer   linear map H -> K V of LN(o) (post-norm: of o), of each position or of the mean over the valid ones

    loss of a row = cross-entropy, averaged over the scored answers + tau * (N + R), averaged over the valid positions

N and R are as in arXiv 1603.08983; N is constant in the backward pass. A training step makes all hops of its rows, so
every row has halted after a step; the carry holds data and counts, no state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.kind import RowShape, refuse_problems
from gridloom.runtime.models.network import DTYPES, Network
from gridloom.runtime.models.recursive.layers import round_for_good, rounded_once
from gridloom.runtime.models.steps import (
    EVERY_STEP,
    Answers,
    HaltedTrace,
    Halting,
    Rows,
    Same,
    Trace,
    row_halting,
)
from gridloom.runtime.models.universal_transformer.figures import NUM_POSITION_SUMS, position_sums, summarise
from gridloom.runtime.models.universal_transformer.hops import Halted, Hops
from gridloom.runtime.models.universal_transformer.layers import Block, HaltingUnit, Norm, linear
from gridloom.runtime.models.universal_transformer.signals import Signals
from gridloom.runtime.models.universal_transformer.spec import UniversalTransformerModel
from gridloom.runtime.models.universal_transformer.tracing import Traced, run_traced
from gridloom.runtime.models.universal_transformer.values import (
    UniversalTransformerCarry,
    UniversalTransformerLosses,
    UniversalTransformerOutput,
)


class UniversalTransformer(Network):
    """Universal Transformer on tokens or vectors."""

    CARRY: ClassVar[type[Any]] = UniversalTransformerCarry
    STEP_FIGURES: ClassVar[tuple[str, ...]] = ("loss", "loss_classification", "loss_ponder", "ponder_weight")
    ROW_FIGURES: ClassVar[tuple[str, ...]] = ("exact_match", "cell_accuracy", "ponder_raw")

    def __init__(
        self, spec: UniversalTransformerModel, rows: RowShape, generator: torch.Generator | None = None
    ) -> None:
        """Build with fresh weights.

        Raises:
            ModelError: heads do not divide a depth, or positions by row and column on rows that are not square.
        """
        super().__init__()
        refuse_problems(spec)
        if spec.positions == "sinusoid_2d" and rows.canvas**2 != rows.cells:
            raise ModelError(
                f"positions sinusoid_2d need a square canvas; these rows have {rows.cells} positions in a line",
                "use positions: sinusoid",
            )
        self.spec: UniversalTransformerModel = spec
        self.rows, self.sides = rows, (rows.canvas,)
        self.dtype = DTYPES[spec.precision]
        self.max_hops = spec.halt_max_steps
        """Hops that the histogram of the training figures distinguishes."""
        width, embedding = spec.hidden_size, spec.embedding_size
        self.tokens: nn.Parameter | None = None
        self.widen: nn.Module | None = None
        if rows.num_features:
            self.features = linear(rows.num_features, width, generator=generator)
        else:
            self.tokens = nn.Parameter(torch.empty(rows.vocabulary, embedding).normal_(generator=generator))
            if embedding != width:
                self.widen = linear(embedding, width, bias=False, generator=generator)
        self.block = Block(spec, generator)
        self.halting_unit = HaltingUnit(width, spec.halt_bias, generator) if spec.act else None
        self.final_norm = Norm(width) if spec.norm == "pre" else nn.Identity()
        self.head = linear(width, rows.answers * rows.vocabulary, generator=generator)
        learned, num_memory = spec.positions == "learned", spec.memory_tokens
        self.learned = self._rows_of(rows.cells, width, generator) if learned else None
        self.memory = self._rows_of(num_memory, width, generator) if num_memory else None
        self.signals = Signals(width, spec.positions)

    @staticmethod
    def _rows_of(count: int, width: int, generator: torch.Generator | None) -> nn.Parameter:
        return nn.Parameter(torch.empty(count, width).normal_(std=0.5, generator=generator))

    @classmethod
    def for_rows(
        cls,
        spec: UniversalTransformerModel,
        rows: RowShape,
        ids: PuzzleIds,
        *,
        per_task: bool = False,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Build a network for rows of a shape; it has no puzzle embedding."""
        return cls(spec, rows, generator)

    def take_canvases(self, sides: Sequence[int]) -> None:
        """Accept rows on canvases of these sides. Raises ModelError for positions that mean another place on each."""
        if tuple(sides) != self.sides and not self.spec.any_canvas:
            raise ModelError(
                f"rows on canvases of {', '.join(map(str, sides))} need positions sinusoid_2d or none, not "
                f"{self.spec.positions}",
                "remove data.*.canvases, or set the model's positions",
            )
        self.sides = tuple(sorted(sides))

    def matrices(self) -> list[nn.Parameter]:
        """Return the matrices of the block, without those of embedding, halting unit and head."""
        block = self.block
        return [part.weight for part in (block.query, block.key_value, block.output, block.inner, block.outer)]

    def undecayed(self) -> list[nn.Parameter]:
        """Return embeddings, memory, norms, biases and the halting unit."""
        spared = [p for name, p in self.named_parameters() if p.ndim == 1 or name.startswith("halting_unit")]
        return [*spared, *(p for p in (self.tokens, self.learned, self.memory) if p is not None)]

    def rounded(self) -> AbstractContextManager[None]:
        """Round weights to the activation dtype once for all calls inside the context."""
        return rounded_once(self)

    def freeze_rounded(self) -> None:
        """Round weights to the activation dtype in place."""
        round_for_good(self)

    def initial_carry(
        self, batch: int, device: torch.device | str | None = None, num_cells: int | None = None
    ) -> UniversalTransformerCarry:
        """Return the carry of rows that take new data."""
        device = self.device if device is None else torch.device(device)
        return UniversalTransformerCarry(
            steps=torch.zeros(batch, dtype=torch.int32, device=device),
            halted=torch.ones(batch, dtype=torch.bool, device=device),
            labels=torch.zeros(batch, self.rows.num_labels(num_cells), dtype=torch.uint8, device=device),
            puzzle_ids=torch.zeros(batch, dtype=torch.int64, device=device),
        )

    @property
    def causal(self) -> bool:
        """Whether no position reads those behind it."""
        if self.spec.attention == "auto":
            return self.rows.num_features > 0 and not self.rows.whole
        return self.spec.attention == "causal"

    @property
    def pools(self) -> bool:
        """Whether answers are read from the mean over a row's positions."""
        return self.rows.whole if self.spec.readout == "auto" else self.spec.readout == "mean"

    def _embed(self, inputs: Tensor) -> Tensor:
        """Map tokens [B, L] or vectors [B, T, F] to [B, L, H]."""
        if self.tokens is None:
            embedded: Tensor = self.features(inputs.to(self.dtype))
            return embedded
        table = self.tokens.to(self.dtype)
        # the map is applied to the V rows of the table, not to every position
        return F.embedding(inputs.int(), table if self.widen is None else self.widen(table))

    def _valid(self, rows: Rows) -> Tensor | None:
        """Return bool [B, L], the positions before a row's length; None if rows have no lengths."""
        if rows.lengths is None:
            return None
        return torch.arange(rows.inputs.shape[1], device=rows.inputs.device) < rows.lengths[:, None]

    def hops(self, rows: Rows, *, plain: bool = False, seed: int | None = None, traced: bool = False) -> Hops:
        """Return the hops of rows, of which none is made yet.

        Args:
            plain: without halting, even if the network has a halting unit.
            seed: seed of dropout; None without.

        Raises:
            ModelError: rows of another length than that of learned positions, or of no square canvas.
        """
        length = rows.inputs.shape[1]
        if self.learned is not None and length != len(self.learned):
            raise ModelError(
                f"learned positions exist for rows of {len(self.learned)}, not of {length}",
                "use positions: sinusoid or none for rows of several lengths",
            )
        if self.spec.needs_square and math.isqrt(length) ** 2 != length:
            raise ModelError(f"positions sinusoid_2d need square canvases, not rows of {length}")
        generator = None if seed is None else torch.Generator(rows.inputs.device).manual_seed(seed)
        return Hops(
            self.spec,
            self.block,
            self.signals,
            None if plain else self.halting_unit,
            self._embed(rows.inputs),
            self._valid(rows),
            causal=self.causal,
            learned=self.learned,
            memory=self.memory,
            generator=generator,
            traced=traced,
        )

    def _read_out(self, state: Tensor, valid: Tensor) -> Tensor:
        """Map states [B, L, H] to logits [B, number of labels, V]."""
        answers, vocabulary = self.rows.answers, self.vocabulary
        batch, length = state.shape[:2]
        state = self.final_norm(state)
        if self.pools:
            count = valid.sum(dim=1, keepdim=True).clamp(min=1)
            state = (state * valid[:, :, None]).sum(dim=1) / count.to(state.dtype)
        elif self.rows.whole:
            last = (valid.sum(dim=1) - 1).clamp(min=0)
            state = state[torch.arange(batch, device=state.device), last]
        logits: Tensor = self.head(state)
        if state.ndim == 3 or self.rows.whole:
            return logits.reshape(batch, -1, vocabulary)
        return logits.view(batch, 1, answers, vocabulary).expand(-1, length, -1, -1).reshape(batch, -1, vocabulary)

    def output(self, halted: Halted, rows: Rows) -> UniversalTransformerOutput:
        """Return the prediction of rows from the result of their hops."""
        valid = self._valid(rows)
        valid = torch.ones_like(halted.forced) if valid is None else valid
        ponder = torch.zeros(len(valid), device=valid.device)
        if self.halting_unit is not None:
            cost = torch.where(valid, halted.steps + halted.remainder, 0.0)
            ponder = cost.sum(dim=1) / valid.sum(dim=1).clamp(min=1)
        return UniversalTransformerOutput(
            self._read_out(halted.state, valid), self._q_halt(halted, valid), halted, valid, ponder
        )

    def _q_halt(self, halted: Halted, valid: Tensor) -> Tensor:
        if self.halting_unit is None:
            return torch.zeros_like(halted.mass)
        return torch.logit(torch.where(valid, halted.mass, 1.0))

    def step(
        self,
        rows: Rows,
        carry: UniversalTransformerCarry,
        *,
        generator: torch.Generator | None = None,
        least_steps: Tensor | None = None,
        heads: bool = True,
    ) -> tuple[UniversalTransformerCarry, UniversalTransformerOutput]:
        """Make all hops of every row; padding has no effect and no ponder cost."""
        seed = None
        if self.training and self.spec.dropout:
            seed = int(torch.randint(2**62, (), generator=generator))
        if self.halting_unit is not None and self.training:
            self.halting_unit.frozen = self.optimizer_step < self.spec.halt_warmup_steps
        output = self.output(self.made(self.hops(rows, seed=seed), self.spec.halt_max_steps).outcome(), rows)
        labels = torch.zeros_like(carry.labels) if rows.labels is None else rows.labels
        steps = output.halted.steps.amax(dim=1)
        return UniversalTransformerCarry(steps, torch.ones_like(carry.halted), labels, carry.puzzle_ids), output

    @staticmethod
    def made(hops: Hops, most: int) -> Hops:
        """Make hops until every position has halted, at most `most`."""
        while not hops.over and hops.made < most:
            hops.advance(last=hops.made + 1 == most)
        return hops

    def losses(
        self, output: UniversalTransformerOutput, carry: UniversalTransformerCarry
    ) -> UniversalTransformerLosses:
        """Return cross-entropy over the scored answers and the weighted ponder cost."""
        scored = carry.labels != 0
        right = (output.logits.detach().argmax(dim=-1) == carry.labels) & scored
        weight = self.spec.ponder_weight_at(self.optimizer_step) if self.training else self.spec.ponder_weight
        return UniversalTransformerLosses(
            self.answer_loss(output.logits, carry.labels), weight * output.ponder, right.sum(dim=1), scored.sum(dim=1)
        )

    def figures(
        self,
        output: UniversalTransformerOutput,
        carry: UniversalTransformerCarry,
        losses: UniversalTransformerLosses,
        batch_size: int,
    ) -> Tensor:
        """Return fp32 sums: those of the base, then those over positions; see `figures`."""
        scored = losses.num_scored > 0
        share = len(scored) / batch_size  # a micro-batch adds its share of the weight
        of_rows = torch.stack(
            [
                losses.total().detach() / batch_size,
                losses.classification.detach().sum() / batch_size,
                losses.ponder.detach().sum() / batch_size,
                losses.ponder.new_tensor(self.spec.ponder_weight_at(self.optimizer_step) * share),
                (scored & (losses.num_right == losses.num_scored)).sum(),
                (losses.num_right / losses.num_scored.clamp(min=1)).sum(),
                torch.where(scored, output.ponder.detach(), 0.0).sum(),
                scored.sum(),
            ]
        )
        return torch.cat((of_rows, position_sums(output.halted, output.valid, self.max_hops)))

    @property
    def num_sums(self) -> int:
        """Number of sums that `figures` returns."""
        return super().num_sums + NUM_POSITION_SUMS + self.max_hops

    def figure_means(self, sums: Sequence[float], steps: float) -> dict[str, float]:
        """Return the means of the base, and the figures over the valid positions."""
        of_rows = super().num_sums
        means = super().figure_means(sums[:of_rows], steps)
        acts = self.halting_unit is not None
        if not acts:
            for name in ("ponder_raw", "ponder_weight", "loss_ponder"):
                means.pop(name, None)
        return means | summarise(sums[of_rows:], acts=acts)

    def answer(
        self,
        rows: Rows,
        steps: int | None = None,
        halting: Halting = EVERY_STEP,
        same: Same | None = None,
    ) -> Answers:
        """Return the answers of rows, and their losses if labels are given.

        `steps` of the answers is the hop at which a row's last position halted, `mean_steps` the mean over the
        positions (where the answers stop a row, all of them stop with it). Halting `none` and `score` are the
        network's own rule; `fixed` makes exactly `steps` hops without weights and reads the last state; `unchanged`
        stops a row by its answers from hop to hop. More hops than the spec's limit are made if asked for.

        Args:
            steps: hops at most; None for the spec's `halt_max_steps`.
        """
        most = self._most(steps)
        with torch.no_grad(), self.rounded():
            if halting.when == "unchanged":
                found = self._traced(rows, most, halting, same)
                logits, made, q_halt, row_hops = found.logits, found.steps, found.last_q, found.row_hops
                mean = made.float()
            else:
                hops = self.made(self.hops(rows, plain=halting.when == "fixed"), most)
                output = self.output(hops.outcome(), rows)
                logits, q_halt, row_hops = output.logits, row_halting(output.q_halt), hops.row_hops
                made, mean = output.halted.steps.amax(dim=1), output.mean_steps
            loss = None if rows.labels is None else self.answer_loss(logits, rows.labels)
        return Answers(logits.argmax(dim=-1).to(torch.uint8), q_halt, made, row_hops, loss, mean)

    def trace(self, rows: Rows, injection: Any = None, steps: int | None = None) -> Trace:
        """Run all hops by the network's own rule; entry n is what `answer` returns with `steps=n`.

        The trace ends where the last row has halted; a row that halted before keeps its logit and changes nothing.

        Raises:
            ModelError: a latent is injected; there is none.
        """
        self._refuse(injection)
        with torch.no_grad(), self.rounded():
            found = self._traced(rows, self._most(steps), EVERY_STEP, None)
        labels = torch.zeros_like(found.tokens) if rows.labels is None else rows.labels
        carry = UniversalTransformerCarry(
            found.steps, torch.ones_like(found.steps, dtype=torch.bool), labels, rows.puzzle_ids
        )
        return Trace(found.tokens, found.q_halt, found.changed, carry)

    def trace_halting(
        self,
        rows: Rows,
        halting: Halting,
        injection: Any = None,
        steps: int | None = None,
        same: Same | None = None,
    ) -> HaltedTrace:
        """Run rows until each halts, and record the history of each. Raises ModelError for an injected latent."""
        self._refuse(injection)
        with torch.no_grad(), self.rounded():
            found = self._traced(rows, self._most(steps), halting, same)
        ran = torch.arange(1, len(found.q_halt) + 1, device=found.steps.device)[:, None] <= found.steps
        return HaltedTrace(found.tokens, torch.where(ran, found.q_halt, 0.0), found.changed, found.steps)

    def _traced(self, rows: Rows, most: int, halting: Halting, same: Same | None) -> Traced:
        hops = self.hops(rows, plain=halting.when == "fixed", traced=True)
        return run_traced(hops, lambda halted: self.output(halted, rows), most, halting, same)

    def _most(self, steps: int | None) -> int:
        most = self.spec.halt_max_steps if steps is None else steps
        if most < 1:
            raise ModelError(f"hops must be at least 1, not {most}")
        return most
