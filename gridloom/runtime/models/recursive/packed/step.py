"""ACT steps of packed rows: embedding, recursion, heads, halting and losses. A rows, N tokens, M cells, D width."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gridloom.runtime.models.recursive.carry import Output
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.losses import RowLosses, losses_of_sums, surprise
from gridloom.runtime.models.recursive.packed.carry import PackedCarry
from gridloom.runtime.models.recursive.packed.layout import Layout, PackedRope, runs


@contextmanager
def laid_out(network: RecursiveCore, layout: Layout | PackedRope) -> Iterator[PackedRope]:
    """Let the network's attention and heads read packed rows inside the context."""
    plain = network.rope
    assert plain is not None, "packed rows have rotary positions"
    packed = layout if isinstance(layout, PackedRope) else PackedRope(layout, plain)
    network.rope = packed
    try:
        yield packed
    finally:
        network.rope = plain


def embed(network: RecursiveCore, carry: PackedCarry, packed: PackedRope, puzzle_rows: Tensor) -> Tensor:
    """Return embeddings [1, N, D] of the tokens of all rows, RMS about 1; see `RecursiveCore.embed`."""
    layout = carry.layout
    table = network.embed_tokens.embedding_weight.to(network.dtype)
    x = torch.zeros(layout.num_tokens, table.shape[1], dtype=table.dtype, device=table.device)
    x = x.index_copy(0, packed.cells, F.embedding(carry.inputs.to(torch.int32), table))
    if network.prefix_len:
        prefix = puzzle_rows.to(network.dtype)[:, None]
        if network.view_tokens is not None:
            prefix = torch.cat((prefix, network.view_tokens(carry.puzzle_ids, table)), dim=1)
        filled = runs(layout.starts, np.full(len(layout), prefix.shape[1]))
        x = x.index_copy(0, torch.from_numpy(filled).to(x.device), prefix.flatten(0, 1))
    scaled: Tensor = x[None] * network.scale
    return scaled


def packed_step(
    network: RecursiveCore,
    carry: PackedCarry,
    *,
    generator: torch.Generator | None = None,
    least_steps: Tensor | None = None,
) -> tuple[PackedCarry, Output, PackedRope]:
    """Run one ACT step of every row and decide which rows halt; see `RecursiveCore.act_step`. Heads are left out.

    Args:
        least_steps: int [A], minimum number of steps of each row, in place of `generator`.
    """
    rows = network.puzzle_emb(carry.puzzle_ids)
    with laid_out(network, carry.layout) as packed:
        x = embed(network, carry, packed, rows)
        z_H, z_L = network.recur(carry.z_H, carry.z_L, x)
        q = network.halting(z_H)
        steps = carry.steps + 1
        halted = network.halt_rows(steps, q.detach(), generator, least_steps)
        after = replace(carry, z_H=z_H.detach(), z_L=z_L.detach(), steps=steps, halted=halted)
        target = None
        if network.training and network.spec.halt_max_steps > 1:
            target = network.continue_target(after.z_H, after.z_L, x, steps >= network.spec.halt_max_steps)
    output = Output(
        logits=z_H.new_empty(0),
        q_halt=q[:, 0],
        q_continue=q[:, 1],
        puzzle_rows=rows,
        z_H=z_H,
        continue_target=target,
    )
    return after, output, packed


def packed_losses(network: RecursiveCore, output: Output, carry: PackedCarry, packed: PackedRope) -> RowLosses:
    """Return the losses of a step: cross-entropy of each row's scored cells, halting loss; see `row_losses`.

    The head is applied to the scored cells alone, on every device: the host knows their number anyway, since it packs.
    """
    scored = (carry.labels != 0).nonzero()[:, 0]
    wanted, row = carry.labels[scored].long(), packed.row[scored]
    logits = network.lm_head(output.z_H[0, packed.cells[scored]])
    loss, right = surprise(logits, wanted)
    num_rows = len(carry.layout)
    ones = torch.ones_like(right)
    total, num_right, counts = (
        torch.zeros(num_rows, device=part.device).index_add(0, row, part) for part in (loss, right, ones)
    )
    return losses_of_sums(output, total, num_right, counts)
