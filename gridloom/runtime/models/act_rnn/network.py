"""ACT-RNN (Graves 2016, arXiv 1603.08983): a recurrent cell runs several ponder steps on each input.

Shapes: B rows, T inputs of a row, F features, H width, V classes + 1, K answers of an input or a row, L tokens.
`ponder.py` has the equations of pondering, `cells.py` those of the cells. Around them:

    vectors: mean state of input t -> linear H to K V; answers of the whole row are read after its last input
    tokens:  embedding V x E -> flat L E -> linear to H -> ReLU -> one pondered input -> linear H to L V
    loss:    cross-entropy + tau (N + R), the cost averaged over a row's inputs (or summed: `ponder_reduction`)

A training step processes whole rows, so every row has halted after a step; the carry holds data and counts, no state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.act_rnn.cells import CELLS
from gridloom.runtime.models.act_rnn.figures import NUM_SUMS, ROW_FIGURES, STEP_FIGURES, figure_sums, means_of
from gridloom.runtime.models.act_rnn.ponder import Pondered, Rule, Weights, ponder
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.kind import RowShape, refuse_problems
from gridloom.runtime.models.network import DTYPES, Network
from gridloom.runtime.models.steps import EVERY_STEP, Answers, Halting, Rows, Same

SUREST = 16.0
"""Bound of a halting logit, about that of the largest fp32 below 1."""


@dataclass(frozen=True, slots=True)
class ActRnnCarry:
    """Data and counts of rows; no state persists beyond a row."""

    steps: Tensor
    """int32 [B], ponder steps of the row, over its valid inputs."""
    halted: Tensor
    """bool [B], True."""
    labels: Tensor
    """uint8 [B, T * K] or [B, K], class + 1; [B, L] tokens. Label 0 is not scored."""
    puzzle_ids: Tensor
    """int64 [B], 0."""


@dataclass(frozen=True, slots=True)
class ActRnnOutput:
    """Prediction of a row, and how each of its inputs was pondered."""

    logits: Tensor
    """[B, T * K, V] or [B, K, V]; [B, L, V] of tokens."""
    pondered: Pondered
    """How each input was pondered, [T, B, ...]."""
    lengths: Tensor | None
    """int64 [B] on the CPU, inputs of each row; None if all are valid."""
    fixed: bool
    """Whether the number of steps was fixed."""
    puzzle_rows: None = None

    @property
    def steps(self) -> Tensor:
        """N of each input, fp32 [B, T]; 0 behind a row's length."""
        return self.pondered.steps.t()

    @property
    def remainder(self) -> Tensor:
        """R of each input, fp32 [B, T]; 0 behind a row's length and for fixed steps."""
        return self.pondered.remainder.t()

    @property
    def natural(self) -> Tensor:
        """Whether the halting unit ended the pondering of an input, bool [B, T]."""
        return self.pondered.natural.t()

    @property
    def forced(self) -> Tensor:
        """Whether the limit ended it, bool [B, T]."""
        return torch.zeros_like(self.natural) if self.fixed else self.valid & ~self.natural

    @property
    def valid(self) -> Tensor:
        """Inputs of each row, bool [B, T]."""
        return self.pondered.steps.t() > 0

    @property
    def num_inputs(self) -> Tensor | int:
        """Inputs of each row, int64 [B], or their number where all rows have as many."""
        steps = self.pondered.steps
        return steps.shape[0] if self.lengths is None else self.lengths.to(steps.device)

    @property
    def q_halt(self) -> Tensor:
        """Logit of the mean halting probability over an input's ponder steps, fp32 [B, T]; 16 behind a row's length."""
        steps = self.steps
        mean = (self.pondered.mass.t() / steps.clamp(min=1)).clamp(max=1.0)
        return torch.where(steps > 0, torch.logit(mean).clamp(-SUREST, SUREST), SUREST)


@dataclass(frozen=True, slots=True)
class ActRnnLosses:
    """Losses of rows."""

    classification: Tensor
    """fp32 [B], cross-entropy averaged over the scored answers."""
    ponder: Tensor
    """fp32 [B], ponder cost times its weight tau."""
    weight: float
    """Weight tau of this optimizer step."""
    num_right: Tensor
    """int64 [B]"""
    num_scored: Tensor
    """int64 [B]"""

    def total(self) -> Tensor:
        """Sum over the rows of classification loss and ponder cost."""
        return (self.classification + self.ponder).sum()


class ActRnn(Network):
    """Recurrent network with adaptive computation time, on vectors or on tokens."""

    CARRY: ClassVar[type[Any]] = ActRnnCarry
    STEP_FIGURES: ClassVar[tuple[str, ...]] = STEP_FIGURES
    ROW_FIGURES: ClassVar[tuple[str, ...]] = ROW_FIGURES

    def __init__(self, spec: ActRnnModel, rows: RowShape, generator: torch.Generator | None = None) -> None:
        """Build with fresh weights."""
        super().__init__()
        refuse_problems(spec)
        self.spec: ActRnnModel = spec
        self.rows, self.sides = rows, (rows.canvas,)
        self.dtype = DTYPES[spec.precision]
        self._bins = spec.most_steps
        width, gates = spec.hidden_size, spec.gates * spec.hidden_size
        features = rows.num_features or width
        if not rows.num_features:
            self.embedding = nn.Embedding(rows.vocabulary, spec.embedding_size)
            self.encoder = nn.Linear(rows.cells * spec.embedding_size, width)
        self.cell_input = nn.Linear(features + 1, gates)
        # a GRU multiplies its reset gate with the product, so it alone has a bias there
        self.cell_state = nn.Linear(width, gates, bias=spec.cell == "gru")
        self.halting_unit = nn.Linear(width, 1)
        answers = rows.answers if rows.num_features else rows.cells
        self.output = nn.Linear(width, answers * rows.vocabulary)
        linears = [self.cell_input, self.cell_state, self.output, self.halting_unit]
        with torch.no_grad():
            if not rows.num_features:
                self.embedding.weight.normal_(generator=generator)
                linears.insert(0, self.encoder)
            for linear in linears:
                bound = linear.in_features**-0.5
                for parameter in linear.parameters():
                    parameter.uniform_(-bound, bound, generator=generator)
            self.halting_unit.bias.fill_(spec.halt_bias)

    @classmethod
    def for_rows(
        cls,
        spec: ActRnnModel,
        rows: RowShape,
        ids: PuzzleIds,
        *,
        per_task: bool = False,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Build a network for rows of a shape; it has no puzzle embedding."""
        return cls(spec, rows, generator)

    def matrices(self) -> list[nn.Parameter]:
        """Return the matrices of the cell, and that which reads a board of tokens."""
        linears = [self.cell_input, self.cell_state, *([] if self.rows.num_features else [self.encoder])]
        return [weight for linear in linears for weight in linear.parameters() if weight.ndim == 2]

    def undecayed(self) -> list[nn.Parameter]:
        """Return the halting unit, the embedding and every bias."""
        spared = [self.halting_unit, *([] if self.rows.num_features else [self.embedding])]
        matrices = [p for module in spared for p in module.parameters() if p.ndim == 2]
        return [*matrices, *(p for p in self.parameters() if p.ndim == 1)]

    def initial_carry(
        self, batch: int, device: torch.device | str | None = None, num_cells: int | None = None
    ) -> ActRnnCarry:
        """Return the carry of rows that take new data."""
        device = self.device if device is None else torch.device(device)
        return ActRnnCarry(
            steps=torch.zeros(batch, dtype=torch.int32, device=device),
            halted=torch.ones(batch, dtype=torch.bool, device=device),
            labels=torch.zeros(batch, self.rows.num_labels(num_cells), dtype=torch.uint8, device=device),
            puzzle_ids=torch.zeros(batch, dtype=torch.int64, device=device),
        )

    def step(
        self,
        rows: Rows,
        carry: ActRnnCarry,
        *,
        generator: torch.Generator | None = None,
        least_steps: Tensor | None = None,
        heads: bool = True,
    ) -> tuple[ActRnnCarry, ActRnnOutput]:
        """Ponder every input of every row; inputs behind a row's length have no effect and no ponder cost."""
        output = self.pondered(rows, self.rule())
        labels = torch.zeros_like(carry.labels) if rows.labels is None else rows.labels
        steps = output.steps.sum(dim=1).to(torch.int32)
        return ActRnnCarry(steps, torch.ones_like(carry.halted), labels, carry.puzzle_ids), output

    def rule(self, steps: int | None = None, fixed: bool = False) -> Rule:
        """Return the rule for a ponder limit, by default the spec's. Raises ModelError for a limit below 1."""
        limit = self.spec.most_steps if steps is None else steps
        if limit < 1:
            raise ModelError(f"ponder steps must be at least 1, not {limit}", "1 turns pondering off")
        return Rule(limit, self.spec.halt_epsilon, fixed or self.spec.fixed_steps is not None)

    def pondered(self, rows: Rows, rule: Rule) -> ActRnnOutput:
        """Ponder every input of every row by a rule. Raises ModelError for rows of another shape."""
        # the columns of the input and that of the flag, in one operation: its backward pass writes one gradient
        columns, flag = torch.split(self.cell_input.weight, [self.cell_input.in_features - 1, 1], dim=1)
        x, lengths = self._inputs(rows.inputs, columns), None
        num_inputs, batch, _ = x.shape
        if self.rows.num_features and rows.lengths is not None and num_inputs > 1:
            lengths = rows.lengths.to("cpu", torch.int64).clamp(1, num_inputs)
            lengths = None if bool((lengths == num_inputs).all()) else lengths
        made = ponder(x, self._weights(flag), CELLS[self.spec.cell], rule, lengths)
        logits = self._linear(self.output, made.state[-1] if self.rows.whole else made.state)
        classes = self.rows.vocabulary
        if self.rows.num_features == 0:  # classes outside, cells inside: softmax and maxima run along the cells
            logits = logits.view(batch, classes, -1).transpose(1, 2)
        else:
            logits = (logits if self.rows.whole else logits.transpose(0, 1)).reshape(batch, -1, classes)
        return ActRnnOutput(logits, made, lengths, rule.fixed)

    def _weights(self, flag: Tensor) -> Weights:
        unit: tuple[Tensor, Tensor] = self.halting_unit.weight.view(-1), self.halting_unit.bias
        if self.training and self.optimizer_step < self.spec.halt_warmup_steps:
            unit = unit[0].detach(), unit[1].detach()
        state = self.cell_state
        return Weights(flag.view(-1), state.weight.to(self.dtype), state.bias, *unit)

    def _inputs(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return the share of the inputs in the cell's pre-activations, fp32 [T, B, G], without the flag's.

        Args:
            weight: [G, F], columns of the cell's input matrix but for the flag's.
        """
        bias = self.cell_input.bias
        if self.rows.num_features:
            if inputs.ndim != 3 or inputs.shape[2] != self.rows.num_features:
                raise ModelError(
                    f"this act_rnn reads vectors of {self.rows.num_features} numbers, not rows of shape "
                    f"{list(inputs.shape[1:])}",
                    "for parity of more bits than were trained on, train with data.*.width of that many",
                )
            context = inputs.transpose(0, 1)
        else:
            if inputs.ndim != 2 or inputs.shape[1] != self.rows.cells:
                raise ModelError(
                    f"this act_rnn reads boards of {self.rows.cells} tokens at once, not rows of shape "
                    f"{list(inputs.shape[1:])}",
                    "use data of the size it was trained on",
                )
            context = self._board(inputs)[None]
        dtype = self.dtype
        return F.linear(context.to(dtype), weight.to(dtype), bias.to(dtype)).float()

    def _board(self, tokens: Tensor) -> Tensor:
        """Return ReLU of the linear map of all embeddings of a row, [B, H].

        With few tokens in the vocabulary, the embedding of each goes through the map once for each place, and a product
        with ones and zeros picks the places of a row: B L E H multiply-adds become V L E H + B L V H.
        """
        batch, cells = tokens.shape
        vocabulary, width = self.embedding.weight.shape
        if vocabulary * (width + batch) >= batch * width:
            return torch.relu(self._linear(self.encoder, self.embedding(tokens.long()).flatten(1)))
        by_place = self.encoder.weight.to(self.dtype).view(-1, width)
        table = (by_place @ self.embedding.weight.to(self.dtype).t()).view(-1, cells * vocabulary)
        places = tokens.long() + torch.arange(0, cells * vocabulary, vocabulary, device=tokens.device)
        chosen = table.new_zeros(batch, cells * vocabulary).scatter_(1, places, 1.0)
        return torch.relu(F.linear(chosen, table, self.encoder.bias.to(self.dtype)))

    def _linear(self, linear: nn.Linear, x: Tensor) -> Tensor:
        bias = None if linear.bias is None else linear.bias.to(self.dtype)
        return F.linear(x.to(self.dtype), linear.weight.to(self.dtype), bias)

    def losses(self, output: ActRnnOutput, carry: ActRnnCarry) -> ActRnnLosses:
        """Return cross-entropy over the scored answers and the weighted ponder cost; the final weight in evaluation."""
        tau = self.spec.ponder_weight_at(self.optimizer_step) if self.training else self.spec.ponder_weight
        logits, labels = output.logits, carry.labels
        scored = labels != 0
        right = (classes_of(logits.detach()) == labels).logical_and_(scored)
        # label 0 is not scored: its surprise is 0
        if labels.shape[1] == 1:
            surprise = F.cross_entropy(logits[:, 0].float(), labels[:, 0].long(), ignore_index=0, reduction="none")
            num_right, num_scored, classification = right[:, 0].long(), scored[:, 0].long(), surprise
        else:
            surprise = F.cross_entropy(logits.float().transpose(1, 2), labels.long(), ignore_index=0, reduction="none")
            num_right, num_scored = right.sum(dim=1), scored.sum(dim=1)
            classification = surprise.sum(dim=1) / num_scored.clamp(min=1)
        cost = output.pondered.cost
        if cost.shape[0] == 1:
            cost = cost[0]
        elif self.spec.ponder_reduction == "sum":
            cost = cost.sum(dim=0)
        elif output.lengths is None:
            cost = cost.mean(dim=0)
        else:
            cost = cost.sum(dim=0) / output.lengths.clamp(min=1).to(cost.device)
        return ActRnnLosses(classification, tau * cost, tau, num_right, num_scored)

    def figures(self, output: ActRnnOutput, carry: ActRnnCarry, losses: ActRnnLosses, batch_size: int) -> Tensor:
        """Return the sums that `figure_means` reads, fp32 [NUM_SUMS + bins]."""
        return figure_sums(output, losses, batch_size, self._bins)

    def figure_means(self, sums: Sequence[float], steps: float) -> dict[str, float]:
        """Return means by name of what `figures` returned, summed over `steps` optimizer steps."""
        return means_of(sums, steps)

    @property
    def num_sums(self) -> int:
        """Number of sums that `figures` returns."""
        return NUM_SUMS + self._bins

    @torch.no_grad()
    def answer(
        self,
        rows: Rows,
        steps: int | None = None,
        halting: Halting = EVERY_STEP,
        same: Same | None = None,
    ) -> Answers:
        """Return the answers of rows, and their losses if labels are given.

        `Answers.steps` is N, int32; of rows with several inputs the mean of their N, fp32. `q_halt` is the logit of the
        mean halting probability over the ponder steps of the input that halts last: near 16 where the first step
        halted, low where many steps were made.

        Args:
            steps: ponder steps of an input at most; None for the spec's limit. With `fixed` that many exactly.
            halting: `none` and `score`: the halting unit decides. `unchanged`: the limit grows until it changes no
                answer, and is what `Answers.steps` holds. `fixed`: every step is made, and the last state is taken.
        """
        if halting.when == "unchanged":
            return super().answer(rows, steps, halting, same)
        output = self.pondered(rows, self.rule(steps, halting.when == "fixed"))
        loss = None if rows.labels is None else self.answer_loss(output.logits, rows.labels)
        made = output.steps.sum(dim=1)
        mean = made.to(torch.int32) if output.steps.shape[1] == 1 else made / output.num_inputs
        return Answers(
            classes_of(output.logits).to(torch.uint8),
            output.q_halt.min(dim=1).values,
            mean,
            int(output.steps.sum()),
            loss,
        )

    def inference_step(self, rows: Rows, carry: ActRnnCarry, number: int) -> tuple[ActRnnCarry, ActRnnOutput]:
        """Return the answers under a ponder limit of `number`: rows that have halted below it stay as they are."""
        output = self.pondered(rows, self.rule(number))
        return replace(carry, halted=self.wants_to_halt(output)), output

    def wants_to_halt(self, output: Any) -> Tensor:
        """Return bool [B], True for rows whose inputs were all ended by the halting unit."""
        halted: Tensor = (output.natural | ~output.valid).all(dim=1)
        return halted

    def _run(self, rows: Rows, steps: int | None, halting: Halting, same: Same | None) -> Any:
        return super()._run(rows, self.spec.most_steps if steps is None else steps, halting, same)


def classes_of(logits: Tensor) -> Tensor:
    """Return the class of the largest logit, int64 [B, L]; `argmax` is slow where classes lie apart."""
    return logits.transpose(1, 2).max(dim=1).indices
