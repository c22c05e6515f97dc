"""Inference: rows run tile by tile, and steps with a known result are skipped.

A tile is a few rows that run through all ACT steps together before the next tile starts. On a CPU a tile is just large
enough for efficient matrix products, so that its activations stay in the cache for every batch size. The rounding of a
row depends on the shape of its tile and its position in the tile, never on the content of other rows. Only if rows halt
early are the remaining rows compacted, so that other rows can change a row by rounding.

Exact optimisations, always on: the input is embedded and the weights are rounded once, heads are applied only where
their output is used, and a tile whose states repeat bit for bit stops, since all later steps would repeat too. Halting
a row by its score or by an unchanged answer is not exact, and must be requested by `Halting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.models.recursive.carry import Carry, Injection
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.layers import rounded_once
from gridloom.runtime.models.steps import EVERY_STEP, Answers, Halting, Same, Trace

TILE_ELEMENTS = 1 << 18
"""Positions times width of a tile on a CPU: smaller tiles are bound by the interpreter, larger ones by memory."""

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits [N, L, V], rows of the batch int64 [N]) -> losses fp32 [N]."""


@torch.no_grad()
def trace(
    network: RecursiveCore,
    inputs: Tensor,
    puzzle_ids: Tensor,
    injection: Injection | None = None,
    steps: int | None = None,
) -> Trace:
    """Run all steps and record the halting logits and the number of changed positions of each."""
    num_steps = num_steps_of(network, steps)
    parts: list[Trace] = []
    with rounded_once(network):
        for rows in tiles(network, *inputs.shape):
            carry, x = begin(network, inputs[rows], puzzle_ids[rows], part_of(injection, rows))
            z_H, z_L, tokens = carry.z_H, carry.z_L, None
            q_halt, changed = [], []
            for step in range(num_steps):
                before = z_H, z_L
                z_H, z_L = network.recur(z_H, z_L, x)
                guess = network.predict(z_H).argmax(dim=-1).to(torch.uint8)
                different = guess != tokens if tokens is not None else torch.ones_like(guess, dtype=torch.bool)
                changed.append(different.sum(dim=1, dtype=torch.int32))
                q_halt.append(network.halting(z_H)[:, 0])
                tokens = guess
                if _repeats(before, (z_H, z_L)):
                    left = num_steps - step - 1
                    q_halt += [q_halt[-1]] * left
                    changed += [torch.zeros_like(changed[-1])] * left
                    break
            assert tokens is not None
            done = Carry(
                z_H=z_H,
                z_L=z_L,
                steps=carry.steps + num_steps,
                halted=torch.ones_like(carry.halted),
                inputs=carry.inputs,
                labels=carry.labels,
                puzzle_ids=carry.puzzle_ids,
            )
            parts.append(Trace(tokens, torch.stack(q_halt), torch.stack(changed), done))
    return parts[0] if len(parts) == 1 else _joined(parts)


@torch.no_grad()
def answer(
    network: RecursiveCore,
    inputs: Tensor,
    puzzle_ids: Tensor,
    steps: int | None = None,
    halting: Halting = EVERY_STEP,
    same: Same | None = None,
    loss: RowLoss | None = None,
) -> Answers:
    """Return the answers of rows; without halting bit-identical to the final tokens of `trace`.

    Args:
        same: comparison of answers for `unchanged`; None to compare all tokens.
        loss: loss of the answers' logits; does not change answers.
    """
    num_steps = num_steps_of(network, steps)
    num_computed = 0
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    with rounded_once(network):
        for rows in tiles(network, *inputs.shape):
            carry, x = begin(network, inputs[rows], puzzle_ids[rows], None)
            z_H, z_L = carry.z_H, carry.z_L
            found = FoundAnswers(network, carry.inputs.shape, halting, same, loss, rows.start)
            for step in range(1, num_steps + 1):
                before = z_H, z_L
                z_H, z_L = network.recur(z_H, z_L, x)
                num_computed += len(z_H)
                last = step == num_steps
                if _repeats(before, (z_H, z_L)):
                    # all later steps would repeat this one
                    first = num_steps if halting.every_step else step
                    any(found.look(z_H, later, later == num_steps) for later in range(first, num_steps + 1))
                    break
                if last or not halting.every_step:
                    if found.look(z_H, step, last):
                        break
                    stay = found.leave()
                    if stay is not None:
                        z_H, z_L, x = z_H[stay], z_L[stay], x[stay]
            parts.append((found.tokens, found.q_halt, found.steps, found.losses))
    tokens, q_halt, made, losses = (torch.cat(column) for column in zip(*parts, strict=True))
    return Answers(tokens, q_halt, made, num_computed, None if loss is None else losses)


class FoundAnswers:
    """Answers of a tile: for each row, the answer of its halting step. N of the tile's B rows still run."""

    def __init__(
        self,
        network: RecursiveCore,
        shape: torch.Size,
        halting: Halting,
        same: Same | None,
        loss: RowLoss | None,
        first: int,
    ) -> None:
        """Args: shape: (B, L). first: index of the tile's first row in the batch."""
        device, num_rows = network.device, shape[0]
        self.loss, self.first = loss, first
        self.network, self.halting = network, halting
        self.same = _all_equal if same is None else same
        self.rows = torch.arange(num_rows, device=device)
        """int64 [N], index in the tile of each row that runs."""
        self.halted = torch.zeros(num_rows, dtype=torch.bool, device=device)
        """bool [N]"""
        self.streak = torch.zeros(num_rows, dtype=torch.int32, device=device)
        """int32 [N], number of consecutive steps that requested the halt."""
        self.before: Tensor | None = None
        """uint8 [N, L], tokens of the previous step."""
        self.tokens = torch.zeros(shape, dtype=torch.uint8, device=device)
        self.q_halt = torch.zeros(num_rows, device=device)
        self.steps = torch.zeros(num_rows, dtype=torch.int32, device=device)
        self.losses = torch.zeros(num_rows, device=device)

    def look(self, z_H: Tensor, step: int, last: bool = False) -> bool:
        """Apply the heads after a step, record the answers of rows that run; return whether all rows have halted."""
        logits = self.network.predict(z_H)
        tokens = logits.argmax(dim=-1).to(torch.uint8)
        q = self.network.halting(z_H)
        running = ~self.halted
        place = self.rows[running]
        self.tokens[place], self.q_halt[place], self.steps[place] = tokens[running], q[running, 0], step
        if self.loss is not None:
            self.losses[place] = self.loss(logits[running], self.first + place)
        if last:
            return True
        if self.halting.every_step:
            return False
        if self.halting.when == "score":
            requests = self.network.halts(q)
        else:
            requests = torch.zeros_like(running) if self.before is None else self.same(self.before, tokens)
        self.before = tokens
        self.streak = torch.where(requests, self.streak + 1, 0)
        self.halted = self.halted | (self.streak >= self.halting.patience)
        return bool(self.halted.all())

    def leave(self) -> Tensor | None:
        """Drop halted rows once they are a quarter of the batch; return the remaining indices, int64, or None."""
        if 4 * int(self.halted.sum()) < len(self.halted):
            return None
        stay = (~self.halted).nonzero().flatten()
        self.rows, self.halted, self.streak = self.rows[stay], self.halted[stay], self.streak[stay]
        self.before = None if self.before is None else self.before[stay]
        return stay


def tiles(network: RecursiveCore, num_rows: int, num_cells: int) -> Iterator[slice]:
    """Yield the tiles of a batch of rows of `num_cells` tokens; on other devices than a CPU the batch is one tile."""
    size = num_rows
    if network.device.type == "cpu":
        size = max(1, TILE_ELEMENTS // ((network.prefix_len + num_cells) * network.spec.hidden_size))
    for start in range(0, max(1, num_rows), max(1, size)):
        yield slice(start, min(start + size, num_rows))


def num_steps_of(network: RecursiveCore, steps: int | None) -> int:
    """Return the number of ACT steps. Raises ModelError if it is below 1."""
    num_steps = network.spec.halt_max_steps if steps is None else steps
    if num_steps < 1:
        raise ModelError(f"ACT steps must be at least 1, not {num_steps}")
    return num_steps


def begin(
    network: RecursiveCore, inputs: Tensor, puzzle_ids: Tensor, injection: Injection | None
) -> tuple[Carry, Tensor]:
    """Return the initial carry of rows, and the embedding [B, S, D] that every cycle reads."""
    carry = network.initial_carry(len(inputs), inputs.device, inputs.shape[1])
    carry = network.reset(carry, inputs, puzzle_ids, None, injection)
    x = network.embed(carry.inputs, carry.puzzle_ids, network.puzzle_emb(carry.puzzle_ids))
    if injection is not None and injection.term is not None:
        x = x + injection.term.to(network.dtype)
    return carry, x


def _repeats(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def _all_equal(before: Tensor, after: Tensor) -> Tensor:
    return (before == after).all(dim=1)


def part_of(injection: Injection | None, rows: slice) -> Injection | None:
    """Return the injection of the rows; tensors that broadcast over rows are unchanged."""
    if injection is None:
        return None

    def part(tensor: Tensor | None) -> Tensor | None:
        return tensor if tensor is None or tensor.ndim < 3 or len(tensor) == 1 else tensor[rows]

    return Injection(part(injection.z_H), part(injection.z_L), part(injection.term))


def _joined(parts: list[Trace]) -> Trace:
    carries = [part.carry for part in parts]
    carry = Carry(**{name: torch.cat([getattr(c, name) for c in carries]) for name in Carry.__dataclass_fields__})
    return Trace(
        tokens=torch.cat([part.tokens for part in parts]),
        carry=carry,
        q_halt=torch.cat([part.q_halt for part in parts], dim=1),
        changed=torch.cat([part.changed for part in parts], dim=1),
    )
