"""Norm, gate and rotation of packed rows in bf16 on a CPU, forward by kernels of one pass; gradients as in `fused`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridloom.runtime.models.recursive import fused
from gridloom.runtime.models.recursive.packed import kernels

MOST_THREADS = 2
"""Threads from which PyTorch's operators, which share the work among them, are used in place of the kernels."""


def suited(tensor: Tensor) -> bool:
    """Return whether the kernels take a tensor: bf16 on a CPU of few threads."""
    return (
        tensor.dtype == torch.bfloat16
        and tensor.device.type == "cpu"
        and torch.get_num_threads() <= MOST_THREADS
        and not torch.compiler.is_compiling()
    )


def _bits(tensor: Tensor) -> NDArray[np.uint16]:
    found: NDArray[np.uint16] = tensor.detach().view(torch.int16).numpy().view(np.uint16)
    return found


class _AddNorm(fused._AddNorm):
    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Tensor) -> Tensor:
        width = x.shape[-1]
        result = torch.empty(x.shape, dtype=x.dtype)
        scale = torch.empty((*x.shape[:-1], 1))
        rows, changes = _bits(x.reshape(-1, width)), _bits(change.reshape(-1, width))
        flat, scales = _bits(result.view(-1, width)), scale.view(-1).numpy()
        kernels.add_norm_rows(rows, changes, np.float32(fused.NORM_EPS), flat, scales)
        ctx.save_for_backward(result, scale)
        return result


class _Gate(fused._Gate):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        width = gate_up.shape[-1]
        result = torch.empty((*gate_up.shape[:-1], width // 2), dtype=gate_up.dtype)
        kernels.gate_rows(_bits(gate_up.reshape(-1, width)), _bits(result.view(-1, width // 2)))
        ctx.save_for_backward(gate_up)
        return result


class _Rotate(fused._Rotate):
    @staticmethod
    def forward(ctx: Any, heads: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        turning = 2 * heads.shape[2] // 3
        turned = torch.empty((1, heads.shape[1], turning, heads.shape[3]), dtype=heads.dtype)
        kernels.rotate_rows(_bits(heads[0]), cos[:, 0].numpy(), sin[:, 0].numpy(), _bits(turned[0]))
        query, key = turned.chunk(2, dim=2)
        return query, key, heads[:, :, turning:]


def add_norm(x: Tensor, change: Tensor) -> Tensor:
    """Return rms(x + change), as `fused.add_norm`."""
    if not suited(x):
        return fused.add_norm(x, change)
    result: Tensor = _AddNorm.apply(x, change)  # type: ignore[no-untyped-call]
    return result


def gate(gate_up: Tensor) -> Tensor:
    """Return silu(first half) * second half of the last dimension, as `fused.gate`."""
    if not suited(gate_up):
        return fused.gate(gate_up)
    result: Tensor = _Gate.apply(gate_up)  # type: ignore[no-untyped-call]
    return result


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split heads [1, N, 3h, d] into q, k, v and rotate q and k, as `fused.rotate`; tables [N, 1, d]."""
    if not suited(heads):
        return fused.rotate(heads, cos, sin)
    query, key, value = _Rotate.apply(heads, cos, sin)  # type: ignore[no-untyped-call]
    return query, key, value
