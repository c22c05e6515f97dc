"""Base of recursive networks: embedding, carry, reset, halting, heads and the training step.

Shapes: B rows, L grid tokens (canvas * canvas), P prefix positions, S = P + L, D width, V vocabulary.
A training step is one ACT step of every row; a row that halted is reset and takes the next sample. The carry between
ACT steps is detached. Each network defines in `recur` how an ACT step updates the states.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gridloom.errors import ModelError
from gridloom.runtime.models.kind import RowShape, refuse_problems
from gridloom.runtime.models.network import DTYPES, Network
from gridloom.runtime.models.recursive.carry import Carry, Injection, Output
from gridloom.runtime.models.recursive.layers import (
    Block,
    Embedding,
    Linear,
    PuzzleEmbedding,
    Rope,
    SquareRope,
    Stack,
    ViewTokens,
    line_angles,
    truncated_normal,
)
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.specs.data import VOCABULARY


class RecursiveCore(Network, ABC):
    """Base of recursive networks. Parameter and buffer names equal those of the original's `inner` module.

    Subclasses create stacks and initial states in `build`, and update the states in `recur`.
    """

    def __init__(
        self,
        spec: TrmModel,
        canvas: int,
        num_puzzles: int,
        *,
        task_of: Sequence[int] | Tensor | None = None,
        views: NDArray[np.uint8] | None = None,
        vocabulary: int = VOCABULARY,
        num_cells: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build with fresh weights.

        Args:
            canvas: side of the square token canvas; 30 for the original, 0 for sequences.
            num_puzzles: rows of the puzzle embedding, id 0 being `<blank>`.
            task_of: int [num_puzzles], task of each id; adds an embedding row per task to the row per id.
            views: uint8 [num_puzzles, 11], dihedral transform and colours of each id's view, for `task_view`.
            num_cells: tokens L of a row that is not square.
            generator: generator of the initial weights; None for torch's global generator.
        """
        super().__init__()
        self.spec: TrmModel
        self.puzzle_emb: PuzzleEmbedding
        width, head_width = spec.hidden_size, spec.hidden_size // spec.num_heads
        refuse_problems(spec)
        by_view = spec.embeds_views
        if by_view and (task_of is None or views is None):
            raise ModelError("puzzle_embedding task_view needs the tasks and views of the puzzle ids")
        self.spec, self.rows = spec, RowShape(canvas, canvas * canvas if num_cells is None else num_cells, vocabulary)
        self.sides: tuple[int, ...] = (canvas,)
        self.prefix_len = spec.puzzle_embedding_len
        self.num_positions = self.count_positions()
        self.dtype = DTYPES[spec.precision]
        self.scale = math.sqrt(width)
        self.embed_tokens = Embedding(vocabulary, width, generator=generator)
        self.embed_pos = (
            Embedding(self.num_positions, width, generator=generator) if spec.positions == "learned" else None
        )
        self.rope = self._rope(head_width)
        self.build(generator)
        self.lm_head = Linear(width, vocabulary, generator=generator)
        self.q_head = Linear(width, 2, bias=True)
        with torch.no_grad():
            # initially no state halts: training starts with the full number of ACT steps
            self.q_head.weight.zero_()
            self.q_head.bias.fill_(-5)  # type: ignore[union-attr]
        self.puzzle_emb = PuzzleEmbedding(
            num_puzzles, width, None if task_of is None else torch.as_tensor(task_of), per_id=not by_view
        )
        self.view_tokens = None
        if by_view and views is not None:
            self.view_tokens = ViewTokens(width, torch.from_numpy(views), generator=generator)

    def count_positions(self) -> int:
        """Return the number of positions S of a state: prefix and cells."""
        return self.prefix_len + self.num_cells

    def take_canvases(self, sides: Sequence[int]) -> None:
        """Accept rows on canvases of these sides, the largest being `canvas`. Raises ModelError without rope_2d.

        With rope_2d no weight depends on a position, so rows of any square length can run.
        """
        if tuple(sides) != (self.canvas,) and not self.spec.any_canvas:
            raise ModelError(
                f"rows on canvases of {', '.join(map(str, sides))} need positions rope_2d, not {self.spec.positions}",
                "remove data.*.canvases, or set the model's positions",
            )
        self.sides = tuple(sorted(sides))

    def _rope(self, head_width: int) -> Rope | None:
        if self.spec.positions == "rope":
            return Rope(line_angles(head_width, self.num_positions))
        if self.spec.positions == "rope_2d":
            if self.canvas**2 != self.num_cells:
                raise ModelError(
                    f"rope_2d needs a square canvas; these rows have {self.num_cells} tokens in a line",
                    "use positions: rope",
                )
            return SquareRope(head_width, self.prefix_len, self.canvas)
        return None

    @abstractmethod
    def build(self, generator: torch.Generator | None) -> None:
        """Create the stacks and the initial states."""

    @abstractmethod
    def starts(self) -> tuple[Tensor, Tensor]:
        """Return the initial states [1, 1, D] of z_H and z_L; [1, 6, 1, D] for six latents, [1, 0, D] for none."""

    @abstractmethod
    def recur(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Run the H cycles of one ACT step; the last is differentiated, all of them with `grad_all_rounds`."""

    def halts(self, q: Tensor) -> Tensor:
        """Return bool [B], rows that halt in training, from logits [B, 2]."""
        return q[:, 0] > 0

    def margin(self, q: Tensor) -> Tensor:
        """Return fp32 [B], positive for rows that `halts`, from logits [B, 2]."""
        return q[:, 0]

    def continue_target(self, z_H: Tensor, z_L: Tensor, x: Tensor, last: Tensor) -> Tensor | None:
        """Return the target of q_continue, fp32 [B]; None if q_continue is not trained."""
        return None

    def stack(self, generator: torch.Generator | None) -> Stack:
        """Return a new stack of `spec.layers` blocks."""
        spec = self.spec
        return Stack(
            [
                Block(
                    spec.hidden_size,
                    spec.num_heads,
                    spec.expansion,
                    self.num_positions,
                    spec.mixing,
                    generator=generator,
                )
                for _ in range(spec.layers)
            ]
        )

    def register_start(self, name: str, generator: torch.Generator | None) -> None:
        """Draw a fixed initial state [D] as a buffer, which is saved but never trained."""
        start = truncated_normal((self.spec.hidden_size,), 1.0, generator=generator, dtype=self.dtype)
        self.register_buffer(name, start)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.lm_head.weight.device

    def matrices(self) -> list[nn.Parameter]:
        """Return the weights of the stacks' linear maps, without embeddings and heads."""
        return [p for module in self.children() if isinstance(module, Stack) for p in module.parameters()]

    def initial_carry(
        self, batch: int, device: torch.device | str | None = None, num_cells: int | None = None
    ) -> Carry:
        """Return a carry whose rows are all halted, so that the first step resets them and takes new data.

        Args:
            num_cells: tokens of a row on another canvas than `canvas`.
        """
        device = self.device if device is None else torch.device(device)
        num_cells = self.num_cells if num_cells is None else num_cells
        num_positions = self.prefix_len + num_cells
        z_H, z_L = (
            torch.zeros(
                batch,
                *start.shape[1:-2],
                num_positions * start.shape[-2],
                start.shape[-1],
                dtype=self.dtype,
                device=device,
            )
            for start in self.starts()
        )
        tokens = torch.zeros(batch, num_cells, dtype=torch.uint8, device=device)
        return Carry(
            z_H=z_H,
            z_L=z_L,
            steps=torch.zeros(batch, dtype=torch.int32, device=device),
            halted=torch.ones(batch, dtype=torch.bool, device=device),
            inputs=tokens,
            labels=tokens,
            puzzle_ids=torch.zeros(batch, dtype=torch.int64, device=device),
        )

    def reset(
        self,
        carry: Carry,
        inputs: Tensor,
        puzzle_ids: Tensor,
        labels: Tensor | None = None,
        injection: Injection | None = None,
    ) -> Carry:
        """Reset halted rows to the given data and to the initial states or the injection; keep the other rows."""
        new = carry.halted
        start_H, start_L = self.starts()
        if injection is not None and injection.z_H is not None:
            start_H = injection.z_H.to(self.dtype)
        if injection is not None and injection.z_L is not None:
            start_L = injection.z_L.to(self.dtype)
        labels = torch.zeros_like(carry.labels) if labels is None else labels
        return Carry(
            z_H=torch.where(_along_rows(new, carry.z_H), start_H, carry.z_H),
            z_L=torch.where(_along_rows(new, carry.z_L), start_L, carry.z_L),
            steps=torch.where(new, 0, carry.steps),
            halted=torch.zeros_like(new),
            inputs=torch.where(new[:, None], inputs.to(torch.uint8), carry.inputs),
            labels=torch.where(new[:, None], labels.to(torch.uint8), carry.labels),
            puzzle_ids=torch.where(new, puzzle_ids.to(torch.int64), carry.puzzle_ids),
        )

    def embed(self, inputs: Tensor, puzzle_ids: Tensor, puzzle_rows: Tensor) -> Tensor:
        """Return embeddings [B, S, D], RMS about 1: prefix, starting with `puzzle_rows` [B, D], then tokens [B, L]."""
        tokens = self.embed_tokens.embedding_weight.to(self.dtype)
        x = F.embedding(inputs.to(torch.int32), tokens)
        if self.prefix_len:
            prefix = puzzle_rows.to(self.dtype)[:, None]
            if self.view_tokens is not None:
                prefix = torch.cat((prefix, self.view_tokens(puzzle_ids, tokens)), dim=1)
            x = torch.cat((F.pad(prefix, (0, 0, 0, self.prefix_len - prefix.shape[1])), x), dim=1)
        if self.embed_pos is not None:
            x = (x + self.embed_pos.embedding_weight.to(self.dtype)) * math.sqrt(0.5)
        scaled: Tensor = x * self.scale
        return scaled

    def halting(self, z_H: Tensor) -> Tensor:
        """Return the logits to halt and to continue, fp32 [B, 2], from position 0."""
        first = z_H[:, 0] if self.rope is None else self.rope.first_of(z_H)
        logits: Tensor = self.q_head(first).float()
        return logits

    def predict(self, z_H: Tensor) -> Tensor:
        """Return the logits of the grid positions, [B, L, V]; [M, V] of the cells of packed rows."""
        cells = z_H[:, self.prefix_len :] if self.rope is None else self.rope.cells_of(z_H, self.prefix_len)
        logits: Tensor = self.lm_head(cells)
        return logits

    def act_step(
        self,
        carry: Carry,
        inputs: Tensor,
        puzzle_ids: Tensor,
        injection: Injection | None = None,
        grad_all_rounds: bool = False,
        *,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        least_steps: Tensor | None = None,
        heads: bool = True,
    ) -> tuple[Carry, Output]:
        """Reset halted rows onto the new data, run one ACT step on every row, and decide which rows halt.

        In training a row halts by `wants_to_halt` or after `halt_max_steps`, subject to exploration drawn from
        `generator`; in evaluation only after `halt_max_steps`. The returned carry holds the data of the output.

        Args:
            grad_all_rounds: differentiate all H cycles, so that an injected initial carry gets a gradient.
            labels: uint8 [B, L], stored in the carry.
            least_steps: int [B], minimum number of steps drawn earlier by `exploration`, in place of `generator`.
            heads: compute the logits; else `Output.logits` is empty and the loss applies the head itself.
        """
        carry = self.reset(carry, inputs, puzzle_ids, labels, injection)
        rows = self.puzzle_emb(carry.puzzle_ids)
        x = self.embed(carry.inputs, carry.puzzle_ids, rows)
        if injection is not None and injection.term is not None:
            x = x + injection.term.to(self.dtype)
        z_H, z_L = self.recur(carry.z_H, carry.z_L, x, grad_all_rounds)
        q = self.halting(z_H)
        logits = self.predict(z_H) if heads else z_H.new_empty(0)
        steps = carry.steps + 1
        after = replace(
            carry,
            z_H=z_H.detach(),
            z_L=z_L.detach(),
            steps=steps,
            halted=self.halt_rows(steps, q.detach(), generator, least_steps),
        )
        target = None
        if self.training and self.spec.halt_max_steps > 1:
            target = self.continue_target(after.z_H, after.z_L, x, steps >= self.spec.halt_max_steps)
        return after, Output(
            logits=logits, q_halt=q[:, 0], q_continue=q[:, 1], puzzle_rows=rows, z_H=z_H, continue_target=target
        )

    def exploration(self, batch: int, generator: torch.Generator | None) -> Tensor | None:
        """Draw the minimum numbers of steps [B] of rows in training, on the CPU; None without exploration."""
        limit = self.spec.halt_max_steps
        if not self.training or limit == 1:
            return None
        draw = torch.rand(batch, generator=generator)
        least = torch.randint(2, limit + 1, (batch,), generator=generator)
        return torch.where(draw < self.spec.halt_exploration, least, 0)

    def halt_rows(
        self, steps: Tensor, q: Tensor, generator: torch.Generator | None, least: Tensor | None = None
    ) -> Tensor:
        """Return bool [B], rows that halt after `steps` int32 [B] with halting logits [B, 2]."""
        halted = steps >= self.spec.halt_max_steps
        least = self.exploration(len(steps), generator) if least is None else least
        if least is None:
            return halted
        return (halted | self.halts(q)) & (steps >= least.to(steps.device))


def _along_rows(flags: Tensor, like: Tensor) -> Tensor:
    return flags.view(-1, *(1,) * (like.ndim - 1))
