"""Decoding of answers token by token, with the key-value cache of `tape` or anew for every token."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from gridloom.runtime.models.engine.layers import Place
from gridloom.runtime.models.engine.memory import Recall
from gridloom.runtime.models.engine.planning import Plan
from gridloom.runtime.models.engine.tape import StepRecord, Tape
from gridloom.runtime.models.steps import Halting, Rows


class DecodingNetwork(Protocol):
    """What decoding asks of an engine; documented there."""

    dtype: torch.dtype
    planner: Any
    lm_head: Any

    def rounded(self) -> AbstractContextManager[None]: ...

    def encoding_once(self) -> AbstractContextManager[None]: ...

    def starts(self) -> tuple[Tensor, Tensor]: ...

    def answer_input(self, before: Tensor, place: int) -> tuple[Tensor, Tensor | None, Tensor | None]: ...

    def cycles(
        self, z_H: Tensor, z_L: Tensor, x: Tensor, place: Place
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]: ...

    def record(
        self, rows: Rows, tokens: Tensor, place: int, steps: int | None, halting: Halting
    ) -> tuple[Tape, Tensor, Tensor]: ...

    def logits_of(self, rows: Rows, steps: int | None, halting: Halting) -> tuple[Tensor, Tensor]: ...


def replace_labels(rows: Rows, tokens: Tensor) -> Rows:
    """Return the rows with answer tokens [B, A] in place of labels."""
    return Rows(rows.inputs, rows.puzzle_ids, tokens, rows.lengths)


def step_record(recall: Recall | None, valid: Tensor | None, plan: Plan | None) -> StepRecord:
    """Return what an ACT step computed from the source alone."""
    term = None if recall is None else recall.term
    if plan is None:
        return StepRecord(term, valid)
    return StepRecord(term, valid, plan.weights, plan.gate, plan.planned)


class Decoding:
    """Logits of answer tokens, each of all ACT steps over the tokens before it. The network is in evaluation mode.

    The number of ACT steps of a row depends on its source alone, so that it is the same for every token.
    """

    steps: Tensor
    """int32 [B], ACT steps of a token; known after the first logits."""

    def __init__(
        self, network: DecodingNetwork, rows: Rows, steps: int | None, halting: Halting, cache: bool = True
    ) -> None:
        """Begin with the question of the rows; their labels are not read."""
        self.network, self.rows, self.most, self.halting = network, rows, steps, halting
        self.cache = cache and halting.when != "unchanged"
        self.tape: Tape | None = None

    @torch.no_grad()
    def logits(self, tokens: Tensor, place: int) -> Tensor:
        """Return the logits [B, V] of answer `place` after the tokens before it in uint8 [B, A].

        With the cache the first place may be any, and the others follow in order.
        """
        network = self.network
        if not self.cache:
            with network.encoding_once():
                found, self.steps = network.logits_of(replace_labels(self.rows, tokens), self.most, self.halting)
            return found[:, place]
        with network.rounded():
            if self.tape is None:
                self.tape, found, self.steps = network.record(self.rows, tokens, place, self.most, self.halting)
                return found
            before = torch.zeros_like(tokens[:, 0]) if place == 0 else tokens[:, place - 1]
            return self._next(self.tape, before, place)

    def _next(self, tape: Tape, before: Tensor, place: int) -> Tensor:
        """Run the ACT steps of one answer position; return its logits [B, V] at the last step of each row."""
        network = self.network
        tape.rewind()
        x, cos, sin = network.answer_input(before, place)
        z_H, z_L = (start.to(network.dtype).expand_as(x) for start in network.starts())
        logits: Tensor | None = None
        for number, record in enumerate(tape.steps, start=1):
            given = x if record.term is None else x + record.term.to(x.dtype)[:, None]
            z_H, z_L, _ = network.cycles(z_H, z_L, given, Place(cos, sin, record.valid, tape))
            if network.planner is not None:
                z_H = network.planner.extend(z_H, record, tape)
            new: Tensor = network.lm_head(z_H[:, 0])
            logits = new if logits is None else torch.where((self.steps >= number)[:, None], new, logits)
        assert logits is not None
        return logits
