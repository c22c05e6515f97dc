"""torch.compile for the loop over H and L cycles: one full graph per ACT step for each shape and depth.

On a GPU the loop is many small kernels, which the compiler fuses. On a CPU compiling was not faster
(benchmarks/NOTES.md): `auto` compiles on GPUs alone. Results differ from the uncompiled loop by rounding. If compiling
fails in its trial, or in a forward pass at a later shape, the uncompiled loop is used, and the reason is reported once.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.layers import rounded_once
from gridloom.runtime.models.recursive.spec import TrmModel

BACKEND: Any = "inductor"
MAX_GRAPHS = 64
"""Maximum number of graphs (shapes times depths); torch's default of 8 would leave the last canvases uncompiled."""


class CompiledLoop:
    """Compiled `recur` of a network, which falls back to the uncompiled one on a failure."""

    def __init__(self, network: RecursiveCore, say: Callable[[str], None], *, graphs: bool, any_rows: bool) -> None:
        """Args: graphs: record a CUDA graph per shape. any_rows: compile one graph for all numbers of rows."""
        self.plain, self.say = network.recur, say
        self.graphs, self.any_rows = graphs, any_rows
        self.compiled: Callable[..., tuple[Tensor, Tensor]] | None = torch.compile(
            self.plain,
            dynamic=None if any_rows else False,
            fullgraph=True,
            backend=BACKEND,
            mode="reduce-overhead" if graphs else None,
        )
        if graphs:
            # the next replay of a CUDA graph overwrites its gradients; parameters keep theirs until the optimiser step
            for parameter in network.parameters():
                parameter.register_hook(torch.clone)  # type: ignore[no-untyped-call]

    def __call__(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Run the H cycles of one ACT step."""
        # the compiler would specialise a graph for a single row, whose compile time does not pay
        if self.compiled is None or (self.any_rows and len(x) == 1):
            return self.plain(z_H, z_L, x, grad_all_rounds)
        if self.any_rows:
            for tensor in (z_H, z_L, x):
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        try:
            found = self.compiled(z_H, z_L, x, grad_all_rounds)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # the compiler and its backends raise exceptions of any type
            self.give_up(error)
            return self.plain(z_H, z_L, x, grad_all_rounds)
        # a replay also overwrites results, and the carry must persist until the next ACT step
        return (found[0].clone(), found[1].clone()) if self.graphs else found

    def give_up(self, error: Exception) -> None:
        """Report the error, and use the uncompiled loop from now on."""
        self.compiled = None
        cause = getattr(error, "inner_exception", error)
        reason = next((line for line in str(cause).splitlines() if line.strip()), "no reason given")
        self.say(f"torch.compile failed, going on without it: {type(cause).__name__}: {reason.strip()[:300]}")


def compile_loop(
    network: RecursiveCore,
    wanted: str,
    lengths: Sequence[int],
    rows: int,
    say: Callable[[str], None],
    *,
    depths: Sequence[NetworkSpec] = (),
    frozen: bool = False,
    any_rows: bool = False,
) -> float:
    """Compile the network's `recur`, and try it on every row length, forward and, in training, backward.

    After a failure the network runs uncompiled, and `say` gets the reason. The network's gradients are cleared.

    Args:
        wanted: `auto` compiles on a GPU; `graphs` also records CUDA graphs there, as `on` elsewhere.
        lengths: tokens of a row, for each canvas.
        rows: number of rows per call.
        depths: the network's spec in each training phase; empty for the current spec.
        frozen: training starts with the puzzle embedding alone, without gradients of weights.
        any_rows: later calls may have any number of rows, without gradient.

    Returns:
        Seconds spent.
    """
    if wanted == "off" or (wanted == "auto" and network.device.type != "cuda"):
        return 0.0
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MAX_GRAPHS)
    # rounded weights are not leaves; tracing reads their gradient, which torch warns about
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
    began = time.monotonic()
    loop = CompiledLoop(network, say, graphs=wanted == "graphs", any_rows=any_rows)
    network.recur = loop  # type: ignore[method-assign]
    full = network.spec
    specs = (*cast(Sequence[TrmModel], depths), full)
    loops = {(spec.H_cycles, spec.L_cycles): spec for spec in specs}
    try:
        for learns in (False, True) if frozen else (None,):
            if learns is not None:
                network.requires_grad_(learns)
            for network.spec in loops.values():
                for length in lengths:
                    if loop.compiled is not None:
                        _try(network, length, rows, loop)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # raised in the backward pass
        loop.give_up(error)
    finally:
        network.spec = full
        if frozen:
            network.requires_grad_(True)
        network.zero_grad(set_to_none=True)
    if loop.compiled is None:
        network.recur = loop.plain  # type: ignore[method-assign]
    return time.monotonic() - began


def _try(network: RecursiveCore, length: int, rows: int, loop: CompiledLoop) -> None:
    carry = network.initial_carry(rows, num_cells=length)
    shape = rows, network.prefix_len + length, network.spec.hidden_size
    x = torch.zeros(shape, dtype=network.dtype, device=network.device, requires_grad=not loop.any_rows)
    with rounded_once(network), torch.set_grad_enabled(not loop.any_rows):
        states: Sequence[Tensor] = network.recur(carry.z_H, carry.z_L, x)
        if network.training and not loop.any_rows:
            sum(state.float().sum() for state in states if state.requires_grad).backward()  # type: ignore[union-attr]
