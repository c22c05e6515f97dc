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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.models.recursive.carry import Carry, Injection
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.layers import rounded_once
from gridloom.runtime.models.recursive.packed.tiles import TILE_ELEMENTS, Tile, packed_tiles
from gridloom.runtime.models.steps import EVERY_STEP, Answers, Halting, Same, Trace

Place = slice | NDArray[np.int64]
"""Rows of a batch that a tile holds."""
RowLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits [N, L, V], rows of the batch int64 [N]) -> losses fp32 [N]."""


@torch.no_grad()
def trace(
    network: RecursiveCore,
    inputs: Tensor,
    puzzle_ids: Tensor,
    injection: Injection | None = None,
    steps: int | None = None,
    shapes: Tensor | None = None,
) -> Trace:
    """Run all steps and record the halting logits and the number of changed positions of each.

    Args:
        shapes: int [B, 2], rectangle of each row of a network with packed rows; the trace then has no carry.
    """
    num_steps = num_steps_of(network, steps)
    parts: list[Trace] = []
    places: list[Place] = []
    with rounded_once(network):
        for place, tile, carry in started(network, inputs, puzzle_ids, injection, shapes):
            tokens: Tensor | None = None
            q_halt, changed = [], []
            for step in range(num_steps):
                repeats = tile.recur()
                guess = tile.tokens(tile.logits())
                different = tile.num_cells() if tokens is None else (guess != tokens).sum(dim=1, dtype=torch.int32)
                changed.append(different)
                q_halt.append(tile.halting()[:, 0])
                tokens = guess
                if repeats:
                    left = num_steps - step - 1
                    q_halt += [q_halt[-1]] * left
                    changed += [torch.zeros_like(changed[-1])] * left
                    break
            assert tokens is not None
            done = carry and replace(
                carry,
                z_H=tile.z_H,
                z_L=tile.z_L,
                steps=carry.steps + num_steps,
                halted=torch.ones_like(carry.halted),
            )
            parts.append(Trace(tokens, torch.stack(q_halt), torch.stack(changed), done))
            places.append(place)
    if shapes is None:
        return parts[0] if len(parts) == 1 else _joined(parts)
    back = in_order(places, inputs.device)
    return Trace(
        torch.cat([part.tokens for part in parts])[back],
        torch.cat([part.q_halt for part in parts], dim=1)[:, back],
        torch.cat([part.changed for part in parts], dim=1)[:, back],
        None,
    )


@torch.no_grad()
def answer(
    network: RecursiveCore,
    inputs: Tensor,
    puzzle_ids: Tensor,
    steps: int | None = None,
    halting: Halting = EVERY_STEP,
    same: Same | None = None,
    loss: RowLoss | None = None,
    shapes: Tensor | None = None,
) -> Answers:
    """Return the answers of rows; without halting bit-identical to the final tokens of `trace`.

    Args:
        same: comparison of answers for `unchanged`; None to compare all tokens.
        loss: loss of the answers' logits; does not change answers.
        shapes: int [B, 2], rectangle of each row of a network with packed rows.
    """
    num_steps = num_steps_of(network, steps)
    num_computed = 0
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    places: list[Place] = []
    with rounded_once(network):
        for place, tile, _ in started(network, inputs, puzzle_ids, None, shapes):
            found = FoundAnswers(tile, inputs.shape[1], halting, same, loss, place)
            for step in range(1, num_steps + 1):
                num_computed += tile.num_rows
                repeats = tile.recur()
                last = step == num_steps
                if repeats:
                    # all later steps would repeat this one
                    first = num_steps if halting.every_step else step
                    any(found.look(later, later == num_steps) for later in range(first, num_steps + 1))
                    break
                if last or not halting.every_step:
                    if found.look(step, last):
                        break
                    stay = found.leave()
                    if stay is not None:
                        tile.keep(stay)
            parts.append((found.tokens, found.q_halt, found.steps, found.losses))
            places.append(place)
    tokens, q_halt, made, losses = (torch.cat(column) for column in zip(*parts, strict=True))
    if shapes is not None:
        back = in_order(places, inputs.device)
        tokens, q_halt, made, losses = tokens[back], q_halt[back], made[back], losses[back]
    return Answers(tokens, q_halt, made, num_computed, None if loss is None else losses)


class FoundAnswers:
    """Answers of a tile: for each row, the answer of its halting step. N of the tile's B rows still run."""

    def __init__(
        self,
        tile: Tile,
        num_cells: int,
        halting: Halting,
        same: Same | None,
        loss: RowLoss | None,
        place: Place,
    ) -> None:
        """Args: num_cells: tokens L of an answer. place: rows of the batch that the tile holds."""
        device, num_rows = tile.z_H.device, tile.num_rows
        self.loss = loss
        self.numbers = torch.from_numpy(np.r_[place]).to(device)
        """int64 [B], index in the batch of each row."""
        self.tile, self.halting = tile, halting
        self.same = _all_equal if same is None else same
        self.rows = torch.arange(num_rows, device=device)
        """int64 [N], index in the tile of each row that runs."""
        self.halted = torch.zeros(num_rows, dtype=torch.bool, device=device)
        """bool [N]"""
        self.streak = torch.zeros(num_rows, dtype=torch.int32, device=device)
        """int32 [N], number of consecutive steps that requested the halt."""
        self.before: Tensor | None = None
        """uint8 [N, L], tokens of the previous step."""
        self.tokens = torch.zeros((num_rows, num_cells), dtype=torch.uint8, device=device)
        self.q_halt = torch.zeros(num_rows, device=device)
        self.steps = torch.zeros(num_rows, dtype=torch.int32, device=device)
        self.losses = torch.zeros(num_rows, device=device)

    def look(self, step: int, last: bool = False) -> bool:
        """Apply the heads after a step, record the answers of rows that run; return whether all rows have halted."""
        logits = self.tile.logits()
        tokens = self.tile.tokens(logits)
        q = self.tile.halting()
        running = ~self.halted
        place = self.rows[running]
        self.tokens[place], self.q_halt[place], self.steps[place] = tokens[running], q[running, 0], step
        if self.loss is not None:
            self.losses[place] = self.loss(self.tile.on_canvas(logits)[running], self.numbers[place])
        if last:
            return True
        if self.halting.every_step:
            return False
        if self.halting.when == "score":
            requests = self.tile.network.halts(q)
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


def started(
    network: RecursiveCore,
    inputs: Tensor,
    puzzle_ids: Tensor,
    injection: Injection | None,
    shapes: Tensor | None = None,
) -> Iterator[tuple[Place, Tile, Carry | None]]:
    """Yield the tiles of a batch at their start, with their places in the batch; square canvases with their carry."""
    if shapes is not None:
        for place, packed in packed_tiles(network, inputs, puzzle_ids, shapes, injection):
            yield place, packed, None
        return
    for rows in tiles(network, *inputs.shape):
        carry, x = begin(network, inputs[rows], puzzle_ids[rows], part_of(injection, rows))
        yield rows, Tile(network, carry.z_H, carry.z_L, x), carry


def in_order(places: Sequence[Place], device: torch.device) -> Tensor:
    """Return int64 [B], for each row of a batch its index in the tiles one after the other."""
    order = np.concatenate([np.r_[place] for place in places])
    return torch.from_numpy(np.argsort(order)).to(device)


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
