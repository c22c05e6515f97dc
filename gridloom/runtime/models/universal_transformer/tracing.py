"""Histories of rows over the hops of a Universal Transformer: answers, halting logits, changes from hop to hop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gridloom.runtime.models.steps import Halting, Same, StepOutput, row_halting
from gridloom.runtime.models.universal_transformer.hops import Halted, Hops


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """History of B rows over T hops."""

    tokens: Tensor
    """uint8 [B, number of labels]"""
    logits: Tensor
    """[B, number of labels, V], of each row's last hop."""
    q_halt: Tensor
    """fp32 [T, B], halting logits; that of its last hop where a row has halted."""
    changed: Tensor
    """int32 [T, B], answers that differ from those of the hop before (all at hop 1); 0 after a row's last hop."""
    steps: Tensor
    """int32 [B], hops of each row."""
    row_hops: int
    """Hops computed, summed over the rows."""

    @property
    def last_q(self) -> Tensor:
        """fp32 [B], halting logits of each row's last hop."""
        return self.q_halt[-1]


def run_traced(
    hops: Hops, read_out: Callable[[Halted], StepOutput], most: int, halting: Halting, same: Same | None
) -> Traced:
    """Run rows hop by hop, and read the answers after each as if no further hop were made.

    Args:
        hops: traced hops, of which none is made.
        read_out: prediction from the result of hops.
        most: hops at most.
        halting: `unchanged` stops a row after `patience` hops without a change; else a row ends with its last position.
        same: comparison of answers for `unchanged`; None to compare all.
    """
    runs = hops.running_rows()
    streak = torch.zeros(len(runs), dtype=torch.int32, device=runs.device)
    made = torch.zeros_like(streak)
    logits: Tensor | None = None
    tokens: Tensor | None = None
    q_halt: list[Tensor] = []
    changed: list[Tensor] = []
    while hops.made < most and not (hops.over or (q_halt and not bool(runs.any()))):
        hops.advance(last=hops.made + 1 == most)
        output = read_out(hops.outcome())
        new, q = output.logits.argmax(dim=-1).to(torch.uint8), row_halting(output.q_halt)
        before = torch.full_like(new, 255) if tokens is None else tokens
        if logits is None:
            logits, tokens, agrees = output.logits, new, torch.zeros_like(runs)
            q_halt.append(q)
        else:
            agrees = (before == new).all(dim=1) if same is None else same(before, new)
            logits = torch.where(runs[:, None, None], output.logits, logits)
            tokens = torch.where(runs[:, None], new, before)
            q_halt.append(torch.where(runs, q, q_halt[-1]))
        changed.append(((tokens != before) & runs[:, None]).sum(dim=1, dtype=torch.int32))
        made = torch.where(runs, hops.made, made).to(torch.int32)
        runs = runs & hops.running_rows()
        if halting.when == "unchanged":
            streak = torch.where(agrees, streak + 1, 0)
            runs = runs & (streak < halting.patience)
    if logits is None or tokens is None:  # no row has a valid position
        output = read_out(hops.outcome())
        logits, tokens = output.logits, output.logits.argmax(dim=-1).to(torch.uint8)
        q_halt, changed = [row_halting(output.q_halt)], [torch.zeros_like(made)]
    return Traced(tokens, logits, torch.stack(q_halt), torch.stack(changed), made, hops.row_hops)
