"""Kernels of the passes between the products of packed rows in bf16 on a CPU: norm, gate, rotation; one pass each.

PyTorch's operators read and write memory four to six times for the same values. A bf16 number is the upper half of an
fp32 one: kernels widen it by a shift and round back to the nearest, ties to even. Arithmetic is fp32, as elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import fast_kernel

HALF = np.uint32(0x7FFF)
LOG2E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
"""ln 2 in two parts, so that x - n ln 2 keeps its digits (Cephes, expf)."""
CEPHES = tuple(np.float32(c) for c in (1.9875691e-4, 1.3981999e-3, 8.3334519e-3, 4.1665795e-2, 1.6666666e-1, 0.5))
"""Coefficients of (exp(r) - 1 - r) / r^2 on |r| < ln(2) / 2, highest power first."""
C5, C4, C3, C2, C1, C0 = CEPHES
LARGEST = np.float32(87.0)
"""Bound of the exponents; exp(-87) is 1e-38, near the smallest normal number."""


@fast_kernel
def add_norm_rows(x: Any, change: Any, eps: Any, out: Any, scales: Any) -> None:
    """Write rms-normalised sums of uint16 [N, D] bf16 rows into `out`, and fp32 [N] scales 1 / rms."""
    width = x.shape[1]
    a, b = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    a_bits, b_bits = a.view(np.uint32), b.view(np.uint32)
    for n in range(x.shape[0]):
        for i in range(width):
            a_bits[i] = np.uint32(x[n, i]) << np.uint32(16)
            b_bits[i] = np.uint32(change[n, i]) << np.uint32(16)
        for i in range(width):
            a[i] += b[i]
        total = np.float32(0)
        for i in range(width):
            bits = a_bits[i]
            a_bits[i] = (bits + HALF + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
        for i in range(width):
            total += a[i] * a[i]
        scale = np.float32(1) / np.sqrt(total / np.float32(width) + eps)
        scales[n] = scale
        for i in range(width):
            a[i] *= scale
        for i in range(width):
            bits = a_bits[i]
            out[n, i] = np.uint16((bits + HALF + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@fast_kernel
def gate_rows(gate_up: Any, out: Any) -> None:
    """Write silu(first half) * second half of uint16 [N, 2 I] bf16 rows into `out` [N, I]."""
    width = out.shape[1]
    g, u = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    g_bits, u_bits = g.view(np.uint32), u.view(np.uint32)
    power = np.empty(width, dtype=np.float32)
    power_bits = power.view(np.uint32)
    for n in range(out.shape[0]):
        for i in range(width):
            g_bits[i] = np.uint32(gate_up[n, i]) << np.uint32(16)
            u_bits[i] = np.uint32(gate_up[n, width + i]) << np.uint32(16)
        for i in range(width):
            # exp(-g) = 2^k exp(r); silu = g / (1 + exp(-g))
            x = min(max(-g[i], -LARGEST), LARGEST)
            k = np.floor(x * LOG2E + np.float32(0.5))
            r = x - k * LN2_HIGH - k * LN2_LOW
            p = ((((C5 * r + C4) * r + C3) * r + C2) * r + C1) * r + C0
            power_bits[i] = np.uint32(np.int32(k) + np.int32(127)) << np.uint32(23)
            g[i] = g[i] / (np.float32(1) + (p * r * r + r + np.float32(1)) * power[i])
        for i in range(width):
            bits = g_bits[i]
            g_bits[i] = (bits + HALF + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
        for i in range(width):
            g[i] *= u[i]
        for i in range(width):
            bits = g_bits[i]
            out[n, i] = np.uint16((bits + HALF + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@fast_kernel
def rotate_rows(heads: Any, cos: Any, sin: Any, out: Any) -> None:
    """Write the first h heads of uint16 [N, H, d] bf16 into `out` [N, h, d], turned by fp32 tables [N, d]: x cos + (x
    rolled by d / 2) sin."""
    num_turning, width = out.shape[1], out.shape[2]
    half = width // 2
    y, z = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    y_bits, z_bits = y.view(np.uint32), z.view(np.uint32)
    for n in range(heads.shape[0]):
        for h in range(num_turning):
            for i in range(width):
                y_bits[i] = np.uint32(heads[n, h, i]) << np.uint32(16)
            for i in range(half):
                z[i] = y[i] * cos[n, i] + y[i + half] * sin[n, i]
            for i in range(half):
                z[i + half] = y[i + half] * cos[n, i + half] + y[i] * sin[n, i + half]
            for i in range(width):
                bits = z_bits[i]
                out[n, h, i] = np.uint16((bits + HALF + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))
