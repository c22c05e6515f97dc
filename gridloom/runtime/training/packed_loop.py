"""Optimiser steps on packed rows: a row that halts gives its place to the next row of the stream, whatever its size.

A step has `batch_size` slots. Slots whose row has halted take the next rows of the stream in order, each row once. With
`batch_tokens` the next row waits until the tokens of the rows that go on leave room for it, and slots stay empty until
then. Which row is in which slot depends on the seed and on the weights alone, so any number of processes gets the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from gridloom.errors import StageError
from gridloom.runtime.machine.ranks import ALONE, Ranks
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.packed.carry import (
    NewRows,
    PackedCarry,
    empty_carry,
    exchange,
    from_row_order,
    in_row_order,
    random_starts,
)
from gridloom.runtime.models.recursive.packed.layout import Indices, runs
from gridloom.runtime.models.recursive.packed.step import packed_losses, packed_step
from gridloom.runtime.training.health import restarted
from gridloom.runtime.training.loop import ActTrainer
from gridloom.runtime.training.material import Material
from gridloom.specs.stages import TrainStage

_SAVED = "packed."
"""Prefix of the carry's tensors in a saved state."""


class Drawn(NamedTuple):
    """Rows that enter a step, the same on all ranks."""

    rows: NewRows
    slots: Indices
    """int64 [K], slot of each row, ascending."""


@dataclass
class _Part:
    """Slots of a micro-batch, and the rows in them."""

    first: int
    end: int
    slots: Indices
    """int64 [A], slot of each row, ascending."""
    carry: PackedCarry


@dataclass(frozen=True, slots=True)
class StepRows:
    """Rows of a step over all its parts, for reports on rows that broke."""

    parts: Sequence[PackedCarry]

    @property
    def steps(self) -> Tensor:
        """int32 [A]"""
        return torch.cat([part.steps for part in self.parts])

    @property
    def puzzle_ids(self) -> Tensor:
        """int64 [A]"""
        return torch.cat([part.puzzle_ids for part in self.parts])

    def finite_rows(self) -> Tensor:
        """Return bool [A], whether the states of each row are finite."""
        return torch.cat([part.finite_rows() for part in self.parts])


class PackedTrainer(ActTrainer):
    """Training run on packed rows."""

    def __init__(self, model: Network, spec: TrainStage, *, seed: int, ranks: Ranks = ALONE) -> None:
        super().__init__(model, spec, seed=seed, ranks=ranks)
        self.network = cast(RecursiveNetwork, model)
        mine = ranks.rows(spec.batch_size)
        size = (mine.stop - mine.start) // spec.accumulate
        none = np.zeros(0, dtype=np.int64)
        self.parts = [
            _Part(at, at + size, none, empty_carry(self.network)) for at in range(mine.start, mine.stop, size)
        ]
        self.next_row = 0
        """Number of the next row of the stream."""
        self.slot_tokens: Indices = np.zeros(spec.batch_size, dtype=np.int64)
        """int64 [batch_size], tokens of the row in each slot, over all ranks; 0 for an empty one."""

    def draw(self, material: Material) -> Drawn:
        """Return the rows that take the slots of halted rows. Raises StageError where a row exceeds `batch_tokens`."""
        assert material.packed is not None, "the data has packed rows"
        most = int(material.packed.shapes.prod(axis=1).max()) + self.network.prefix_len
        budget = self.spec.batch_tokens
        if budget is not None and most > budget:
            raise StageError(
                f"batch_tokens is {budget:,}, and the largest row has {most:,} tokens",
                f"set batch_tokens to {most:,} or more",
            )
        free = np.flatnonzero(self._free())
        self.slot_tokens[free] = 0
        batch = material.packed.between(self.next_row, self.next_row + len(free))
        assert batch.shapes is not None, "packed rows have shapes"
        rows = NewRows(batch.inputs, batch.labels, batch.puzzle_ids, batch.shapes)
        tokens = batch.shapes.prod(axis=1) + self.network.prefix_len
        count = len(free)
        if budget is not None:
            count = int((self.slot_tokens.sum() + np.cumsum(tokens) <= budget).sum())
        slots = free[:count]
        self.slot_tokens[slots] = tokens[:count]
        return Drawn(rows.part(slice(0, count)), slots)

    def _free(self) -> np.ndarray:
        """Return bool [batch_size], slots without a row that goes on; waits for the device."""
        mine = self.ranks.rows(self.spec.batch_size)
        flags = np.ones(mine.stop - mine.start, dtype=np.uint8)
        for part in self.parts:
            flags[part.slots - mine.start] = part.carry.halted.cpu().numpy()
        gathered = self.ranks.all_gather(torch.from_numpy(flags).to(self.model.device))
        return gathered.cpu().numpy().astype(bool)

    def step(self, batch: Drawn, spent: float = 0.0) -> None:  # type: ignore[override]
        """Run one ACT step of every row and one optimiser step; see `ActTrainer.step`."""
        progress = self._begin(spent)
        self.next_row += len(batch.slots)
        # drawn for all slots, so that the draws depend neither on micro-batches nor on ranks
        least = self.model.exploration(self.spec.batch_size, self.generator)
        starts = self._starts(batch)
        num_rows = int((self.slot_tokens > 0).sum())
        sums = torch.zeros_like(self._sums)
        mine = self.ranks.rows(self.spec.batch_size)
        share = mine.stop - mine.start
        width = self.model.spec.hidden_size
        ids = torch.zeros(share, dtype=torch.int64, device=self.model.device)
        moved = torch.zeros(share, width, device=self.model.device)
        with self.model.rounded():
            for part in self.parts:
                self._enter(part, batch, starts)
                if len(part.slots):
                    place = torch.from_numpy(part.slots - mine.start).to(self.model.device)
                    rows = self._forward_backward(part, least, num_rows, sums)
                    ids[place] = part.carry.puzzle_ids
                    if rows is not None:
                        moved[place] = rows
        for parameter in self.model.parameters():
            if parameter.requires_grad and parameter.grad is None:  # a rank without rows, or with one step of halting
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.ranks.all_reduce([*gradients, sums])
        made = self._apply(progress, ids, moved, sums)
        self.last_carry = StepRows([part.carry for part in self.parts])
        if made is not None:
            for part in self.parts:
                part.carry = replace(part.carry, halted=restarted(part.carry, made))

    def _enter(self, part: _Part, batch: Drawn, starts: tuple[Tensor, Tensor] | None) -> None:
        """Let the rows of a part that halted leave, and the rows that were drawn for its slots enter."""
        kept = np.flatnonzero(~part.carry.halted.cpu().numpy())
        entering = np.flatnonzero((batch.slots >= part.first) & (batch.slots < part.end))
        if len(kept) == len(part.slots) and not len(entering):
            return
        slots = np.concatenate((part.slots[kept], batch.slots[entering]))
        places = np.argsort(slots)
        start = None
        if starts is not None:
            lengths = batch.rows.shapes.prod(axis=1) + self.network.prefix_len
            ends = np.cumsum(lengths)
            tokens = torch.from_numpy(runs((ends - lengths)[entering], lengths[entering])).to(self.model.device)
            start = Injection(*(state[..., tokens, :] if state.numel() else state for state in starts))
        new = batch.rows.part(entering)
        part.carry = exchange(self.network, part.carry, kept, new, places, start)
        part.slots = slots[places]

    def _starts(self, batch: Drawn) -> tuple[Tensor, Tensor] | None:
        """Draw the initial states of all entering rows with `initial_state: random`, by a seed of their own."""
        if self.spec.initial_state == "fixed":
            return None
        seed = int(torch.randint(2**62, (1,), generator=self.generator))
        drawn = torch.Generator(self.model.device).manual_seed(seed)
        tokens = int(batch.rows.shapes.prod(axis=1).sum()) + len(batch.slots) * self.network.prefix_len
        return random_starts(self.network, tokens, drawn)

    def _forward_backward(self, part: _Part, least: Tensor | None, num_rows: int, sums: Tensor) -> Tensor | None:
        """Run forward and backward pass of a part; return the gradient of its puzzle rows, fp32 [A, D]."""
        network: RecursiveCore = self.network
        wanted = None if least is None else least[torch.from_numpy(part.slots)].to(self.model.device)
        carry, output, packed = packed_step(network, part.carry, generator=self.generator, least_steps=wanted)
        losses = packed_losses(network, output, carry, packed)
        (losses.total() / num_rows).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            sums[:-2] += self.network.figures(output, carry, losses, num_rows)  # type: ignore[arg-type]
        part.carry = carry
        return output.puzzle_rows.grad

    def _carried(self) -> dict[str, Tensor]:
        parts = [{**in_row_order(part.carry), "slots": torch.from_numpy(part.slots)} for part in self.parts]
        joined = {_SAVED + name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}
        return {
            **joined,
            f"{_SAVED}next": torch.tensor([self.next_row] if self.ranks.rank == 0 else [], dtype=torch.int64),
        }

    def _take_carried(self, tensors: Mapping[str, Tensor]) -> None:
        found = {name.removeprefix(_SAVED): t for name, t in tensors.items() if name.startswith(_SAVED)}
        self.next_row = int(found.pop("next")[0])
        slots = found.pop("slots").numpy()
        self.slot_tokens[:] = 0
        self.slot_tokens[slots] = found["shapes"].numpy().prod(axis=1) + self.network.prefix_len
        for part in self.parts:
            first, end = np.searchsorted(slots, (part.first, part.end)).tolist()
            part.slots = slots[first:end].copy()
            part.carry = from_row_order(self.network, found, slice(first, end))
