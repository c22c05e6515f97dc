"""Hops of a Universal Transformer over a batch, with adaptive computation time at every position.

Shapes: B rows of S positions (memory tokens first, then L tokens or time steps); R positions that run; H width.
With x_n the state of a position before hop n with its signals, s_n = block(x_n) and q_n = sigmoid(w x_n + b), or of s_n
with `halt_from: after`:

    N = first n with q_1 + ... + q_n > 1 - epsilon, at most M (a forced halt)
    R = 1 - (q_1 + ... + q_(N-1));  p_n = q_n for n < N, p_N = R, so the weights sum to 1
    o = sum of p_n s_n                 `accumulator: sum` (arXiv 1603.08983, eq. 6 to 9, at each position)
    o = p_n s_n + (1 - p_n) o          `accumulator: legacy`, the listing of arXiv 1807.03819 (appendix C), where a
                                       position that is forced to halt keeps p_M = q_M

A position that has halted keeps its state s_N bit for bit ("its state is simply copied", arXiv 1807.03819, 2.2): it
makes no queries and has no position-wise network. The others read the key and the value of its x_(N+1), computed once.
A row whose positions have all halted leaves the batch. Padding neither runs nor is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gridloom.runtime.models.universal_transformer.layers import Block, HaltingUnit
from gridloom.runtime.models.universal_transformer.running import all_places, attend
from gridloom.runtime.models.universal_transformer.signals import Signals
from gridloom.runtime.models.universal_transformer.spec import UniversalTransformerModel


@dataclass(frozen=True, slots=True, eq=False)
class Halted:
    """Result of the hops of B rows of L positions; zeros at padding."""

    state: Tensor
    """[B, L, H], weighted sum of the states of each position; the last state without ACT."""
    steps: Tensor
    """int32 [B, L], hops N of each position."""
    remainder: Tensor
    """fp32 [B, L], R; 0 without ACT."""
    mass: Tensor
    """fp32 [B, L], halting probabilities summed up to hop N, at most 1; 0 without ACT."""
    forced: Tensor
    """bool [B, L], positions that halted because no hop was left; False without ACT."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Positions that halted at one hop."""

    flat: Tensor
    """int64 [R], row * S + column."""
    state: Tensor
    hops: int
    remainder: Tensor
    mass: Tensor
    forced: Tensor


class Hops:
    """Hops of a batch, one at a time."""

    def __init__(
        self,
        spec: UniversalTransformerModel,
        block: Block,
        signals: Signals,
        halting_unit: HaltingUnit | None,
        start: Tensor,
        valid: Tensor | None,
        *,
        causal: bool,
        learned: Tensor | None = None,
        memory: Tensor | None = None,
        generator: torch.Generator | None = None,
        traced: bool = False,
    ) -> None:
        """Prepare the first hop.

        Args:
            halting_unit: map to the halting probability; None for hops without ACT.
            start: embedded rows [B, L, H].
            valid: bool [B, L]; None where every position is valid.
            causal: no position reads those behind it.
            learned: learned position signal [L, H].
            memory: learned positions [m, H] before each row.
            generator: source of dropout on the device of `start`; None in inference.
            traced: keep after each hop what `outcome` returns if no further hop is made.
        """
        self.spec, self.block, self.signals, self.halting_unit = spec, block, signals, halting_unit
        self.causal, self.generator, self.traced = causal, generator, traced
        batch, length, width = start.shape
        device, dtype = start.device, start.dtype
        self.num_memory = 0 if memory is None else len(memory)
        positions = signals.positions(length, device, dtype) if learned is None else learned.to(dtype)
        if memory is not None:
            start = torch.cat((memory.to(dtype).expand(batch, -1, -1), start), dim=1)
            positions = None if positions is None else F.pad(positions, (0, 0, len(memory), 0))
            if valid is not None:
                # a row without a valid position does not run for its memory alone
                valid = torch.cat((valid.any(dim=1, keepdim=True).expand(-1, len(memory)), valid), dim=1)
        self.shape = batch, length, width
        self.made = 0
        """Hops made."""
        self.row_hops = 0
        """Rows that ran, summed over the hops."""
        self.computed = 0
        """Positions that ran, summed over the hops."""
        places = all_places(batch, self.num_memory + length, valid, device)
        packed = start.reshape(-1, width)
        self._positions, self._valid = positions, valid
        self._running = places
        self._known = places
        """Positions whose keys are computed at the next hop: those that ran at the last one, in the rows that run."""
        self._queries: Tensor | None = None
        """int64 [R], indices of the running positions among the known ones; None for all."""
        self._state = packed if places.count == len(packed) else packed.index_select(0, places.flat)
        """[positions of `_known`, H]"""
        self._sum: Tensor | None = None
        """[R, H], weighted sum of the states so far."""
        self._mass = torch.zeros(places.count, device=device)
        """fp32 [R], halting probabilities so far."""
        self._key_value: Tensor | None = None
        """[rows of the last hop, S, K + V]"""
        self._kept_rows: Tensor | None = None
        """int64 [A], rows of the last hop that still run; None for all."""
        self._frozen = False
        """Whether keys and values of positions outside `_known` are those of the last hop."""
        self._parts: list[_Part] = []
        self._pending: _Part | None = None

    @property
    def over(self) -> bool:
        """Whether every position has halted."""
        return self._running.count == 0

    def running_rows(self) -> Tensor:
        """Return bool [B], rows with a position that has not halted."""
        runs = torch.zeros(self.shape[0], dtype=torch.bool, device=self._running.rows.device)
        runs[self._running.rows] = True
        return runs

    def advance(self, last: bool = False) -> None:
        """Make one hop. `last`: every position halts at it, if need be by force."""
        block, places = self.block, self._running
        x = self._with_signals()
        read = block.read(x)
        key_value = self._keys_and_values(block.key_value(read))
        if self._queries is not None:
            x, read = x.index_select(0, self._queries), read.index_select(0, self._queries)
        some_rows = self._valid is not None and len(places.rows) < len(self._valid)
        mixed = attend(
            block.query(read),
            key_value,
            places,
            heads=self.spec.heads,
            key_depth=self.spec.keys,
            valid=self._valid[places.rows] if self._valid is not None and some_rows else self._valid,
            causal=self.causal,
        )
        state = block.finish(x, mixed, self.generator)
        self.made += 1
        self.row_hops += len(places.rows)
        self.computed += places.count
        self._key_value = key_value
        # what halted at the hop before this one had its key computed now, for the last time
        self._frozen = self._frozen or self._queries is not None
        self._known, self._queries, self._state, self._kept_rows = places, None, state, None
        if self.halting_unit is None:
            self._close(self._part(state, torch.zeros_like(self._mass), self._mass, None), last)
        else:
            self._halt(x, state, last)

    def _halt(self, x: Tensor, state: Tensor, last: bool) -> None:
        """Weight the states of a hop, and let the positions go that halt at it."""
        assert self.halting_unit is not None
        places, mass, before = self._running, self._mass, self._sum
        q = self.halting_unit(x if self.spec.halt_from == "before" else state)
        after = mass + q
        ends = after > 1 - self.spec.halt_epsilon
        real = places.column >= self.num_memory if self.num_memory else None
        if real is not None:
            ends = ends & real
        rest = 1 - mass
        legacy = self.spec.accumulator == "legacy"
        if last or self.traced:
            # a position that is forced to halt gets the rest of the weight; in the listing it keeps its probability
            weight = torch.where(ends, rest, q) if legacy else rest
            self._close(self._part(self._add(before, weight, state), rest, after, ends), last)
            if last:
                return
        total = self._add(before, torch.where(ends, rest, q), state)
        leaving = ends.nonzero().squeeze(1)
        if not len(leaving):
            self._sum, self._mass = total, after
            return
        self._parts.append(
            _Part(
                places.flat[leaving],
                total.index_select(0, leaving),
                self.made,
                rest.index_select(0, leaving),
                after.detach()[leaving],
                torch.zeros_like(leaving, dtype=torch.bool),
            )
        )
        stays = ~ends if real is None else ~ends & real
        runs = torch.zeros(len(places.rows), dtype=torch.bool, device=stays.device)
        runs[places.local[stays]] = True
        in_rows = runs[places.local]
        if real is not None:
            stays = stays | (in_rows & ~real)
        if self._pending is not None:
            self._pending = self._pending_of(stays)
        kept = stays.nonzero().squeeze(1)
        self._sum, self._mass = total.index_select(0, kept), after.index_select(0, kept)
        self._running = places.within(runs, stays)
        if len(self._running.rows) < len(places.rows):
            self._kept_rows = runs.nonzero().squeeze(1)
            self._state = state.index_select(0, in_rows.nonzero().squeeze(1))
            self._known = places.within(runs, in_rows)
        if self._running.count < self._known.count:
            self._queries = stays[in_rows].nonzero().squeeze(1)

    def _add(self, before: Tensor | None, weight: Tensor, state: Tensor) -> Tensor:
        """Return the sum of a position's states with one more, or their interpolation."""
        weight = weight.to(state.dtype)[:, None]
        if before is None:
            return weight * state
        if self.spec.accumulator == "legacy":
            return torch.lerp(before, state, weight)
        return torch.addcmul(before, weight, state)

    def _with_signals(self) -> Tensor:
        """Return the states of the known positions with the signals of the next hop."""
        state, known, signal = self._state, self._known, self._positions
        if self.spec.hop_signal:
            hop = self.signals.hop(self.made, state.device, state.dtype)
            signal = hop if signal is None else signal + hop
        if signal is None:
            return state
        if signal.ndim == 1:
            return state + signal
        if known.whole:
            return (state.view(-1, *signal.shape) + signal).view_as(state)
        return state + signal.index_select(0, known.column)

    def _keys_and_values(self, computed: Tensor) -> Tensor:
        """Return keys and values [A, S, K + V] of all positions of the running rows, those computed now among them."""
        known, width = self._known, computed.shape[-1]
        shape = len(known.rows), known.length, width
        if known.whole:
            return computed.view(shape)
        if not self._frozen:
            return computed.new_zeros(shape[0] * shape[1], width).index_copy_(0, known.slots, computed).view(shape)
        held = self._key_value
        assert held is not None
        if self._kept_rows is not None:
            held = held.index_select(0, self._kept_rows)
        return held.reshape(-1, width).index_copy(0, known.slots, computed).view(shape)

    def _part(self, state: Tensor, remainder: Tensor, mass: Tensor, natural: Tensor | None) -> _Part:
        """Return all running positions as if they halted at this hop."""
        forced = torch.zeros_like(mass, dtype=torch.bool) if natural is None else ~natural
        return _Part(self._running.flat, state, self.made, remainder, mass.detach(), forced)

    def _pending_of(self, kept: Tensor) -> _Part:
        """Return the pending positions where bool `kept` is True."""
        part = self._pending
        assert part is not None
        tensors = (part.flat, part.state, part.remainder, part.mass, part.forced)
        flat, state, remainder, mass, forced = (tensor[kept] for tensor in tensors)
        return _Part(flat, state, part.hops, remainder, mass, forced)

    def _close(self, part: _Part, last: bool) -> None:
        """Take the running positions as halted for good, or for `outcome` alone."""
        if not last:
            self._pending = part if self.traced else None
            return
        self._parts.append(part)
        self._pending = None
        self._running = self._running.some(torch.zeros_like(part.forced))

    def outcome(self) -> Halted:
        """Return the result of the hops made; a traced run's positions that have not halted are forced to."""
        batch, length, _ = self.shape
        parts = [*self._parts, *([] if self._pending is None else [self._pending])]
        if not parts:  # no row has a valid position
            parts = [self._part(self._state, self._mass, self._mass, None)]
        flat = torch.cat([part.flat for part in parts])
        total = batch * (self.num_memory + length)

        def spread(values: list[Tensor]) -> Tensor:
            joined = values[0] if len(values) == 1 else torch.cat(values)
            if len(parts) > 1 or len(joined) < total:
                joined = joined.new_zeros(total, *joined.shape[1:]).index_copy(0, flat, joined)
            return joined.view(batch, -1, *joined.shape[1:])[:, self.num_memory :]

        steps = [torch.full_like(part.flat, part.hops, dtype=torch.int32) for part in parts]
        return Halted(
            spread([part.state for part in parts]),
            spread(steps),
            spread([part.remainder for part in parts]),
            spread([part.mass for part in parts]).clamp(max=1.0),
            spread([part.forced for part in parts]),
        )
