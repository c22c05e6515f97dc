"""Key-value cache of a recursive network: keys and values of every attention call of a run, in the order of the calls.

A run of the engine over T ACT steps makes the same sequence of attention calls for every answer token. Prefix and
source never read an answer, and answer i reads answers up to i alone, so that keys and values of one token serve all
later ones. A tape holds one entry a call: T x H_cycles x (L_cycles + 1) x layers, and depth entries of each planning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(slots=True, eq=False)
class Entry:
    """Keys and values of one call, with room for those of all answers. N rows, g heads of width d."""

    keys: Tensor
    """[N, positions, g, d]"""
    values: Tensor
    """[N, positions, g, d]"""
    filled: int


@dataclass(frozen=True, slots=True, eq=False)
class StepRecord:
    """What an ACT step computes from the source alone, and applies to every answer token."""

    term: Tensor | None
    """[B, D], term recalled from the memory; None without one."""
    valid: Tensor | None
    """bool [B, pooled], open source slots; None if all are open."""
    weights: Tensor | None = None
    """fp32 [B, P], weights of the paths; None without planning, as the two below."""
    gate: Tensor | None = None
    """fp32 [B]"""
    planned: Tensor | None = None
    """bool [B], rows that ran the planner."""


@dataclass(slots=True, eq=False)
class Tape:
    """Cache of a batch of rows, recorded by a run over the source and the first answers.

    It is then extended by one answer token at a time.
    """

    source: int
    """Positions of prefix, source and answers that a recording covers, whose keys and values it keeps."""
    answers: int
    """Answer positions to leave room for."""
    recording: bool = True
    steps: list[StepRecord] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    cursor: int = 0

    def rewind(self) -> None:
        """Begin the calls of the next answer token."""
        self.recording, self.cursor = False, 0

    def extend(self, keys: Tensor, values: Tensor, thoughts: int = 0) -> tuple[Tensor, Tensor]:
        """Take the keys and values [N, S, g, d] of a call; return those that its queries read.

        In a recording these are the given ones, of which the source and the last `thoughts` are kept. Later calls give
        one answer position, and get the kept ones with those of all answers so far.
        """
        if self.recording:
            self.entries.append(Entry(self._kept(keys, thoughts), self._kept(values, thoughts), self.source + thoughts))
            return keys, values
        entry = self.entries[self.cursor]
        self.cursor += 1
        at = entry.filled
        entry.keys[:, at], entry.values[:, at] = keys[:, 0], values[:, 0]
        entry.filled = at + 1
        return entry.keys[:, : at + 1], entry.values[:, : at + 1]

    def _kept(self, part: Tensor, thoughts: int) -> Tensor:
        """Return the source positions and thoughts of [N, S + thoughts, g, d], with room for the answers."""
        rows, length, heads, width = part.shape
        kept = part.new_empty(rows, self.source + thoughts + self.answers, heads, width)
        kept[:, : self.source] = part[:, : self.source]
        kept[:, self.source : self.source + thoughts] = part[:, length - thoughts :]
        return kept

    @property
    def num_bytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(part.numel() * part.element_size() for e in self.entries for part in (e.keys, e.values))


def query_mask(valid: Tensor | None, filled: int) -> Tensor | None:
    """Return the mask of one answer position over the entries of a call, bool [B, 1, 1, filled]; None if all are read.

    Args:
        valid: bool [B, pooled], open source slots, which stand first.
        filled: keys of the call, that of the answer position itself included.
    """
    if valid is None:
        return None
    mask = torch.ones(len(valid), filled, dtype=torch.bool, device=valid.device)
    mask[:, : valid.shape[1]] = valid
    return mask[:, None, None]
