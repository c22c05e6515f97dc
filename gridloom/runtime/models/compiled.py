"""The H x L loop of a network through torch.compile: one whole graph an ACT step for each shape and depth.

On a GPU the loop is many small kernels, which the compiler joins. On a CPU that was not faster (benchmarks/NOTES.md):
`auto` compiles on GPUs alone. What it gives differs from the plain loop by rounding.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from gridloom.runtime.models.layers import rounded_once
from gridloom.runtime.models.recursive import RecursiveNetwork

Compiling = Literal["auto", "on", "off"]
BACKEND = "inductor"
MAX_GRAPHS = 64
"""Shapes times depths; torch's own limit of 8 would leave the last canvases uncompiled."""


def compile_loop(network: RecursiveNetwork, wanted: Compiling, lengths: Sequence[int], rows: int,
                 say: Callable[[str], None]) -> float:
    """Compile the network's `recur` and try it forward and backward on every row length; returns the seconds it took.

    Where that fails the network stays as it was, and `say` is told why. The network's gradients are left empty.

    Args:
        wanted: `auto` compiles on a GPU.
        lengths: tokens of a row, for each canvas.
        rows: rows that run at once.
    """
    if wanted == "off" or (wanted == "auto" and network.device.type != "cuda"):
        return 0.0
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MAX_GRAPHS)
    # of rounded weights, which have a gradient on their way to the weights themselves; tracing looks for one
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
    began = time.monotonic()
    plain = network.recur
    network.recur = torch.compile(plain, dynamic=False, fullgraph=True, backend=BACKEND)  # type: ignore[method-assign]
    try:
        for length in lengths:
            _try(network, length, rows)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # the compiler, and what it calls, raise what they like
        network.recur = plain  # type: ignore[method-assign]
        cause = getattr(error, "inner_exception", error)
        reason = next((line for line in str(cause).splitlines() if line.strip()), "no reason given")
        say(f"torch.compile failed, going on without it: {type(cause).__name__}: {reason.strip()[:300]}")
    finally:
        network.zero_grad(set_to_none=True)
    return time.monotonic() - began


def _try(network: RecursiveNetwork, length: int, rows: int) -> None:
    carry = network.initial_carry(rows, num_cells=length)
    shape = rows, network.prefix_len + length, network.spec.hidden_size
    x = torch.zeros(shape, dtype=network.dtype, device=network.device, requires_grad=True)
    with rounded_once(network):
        states: Sequence[Tensor] = network.recur(carry.z_H, carry.z_L, x)
        if network.training:
            sum(state.float().sum() for state in states if state.requires_grad).backward()  # type: ignore[union-attr]
