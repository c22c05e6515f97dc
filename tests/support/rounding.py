"""Bounds on rounding errors that come from the arithmetic, so that they hold on every kind of processor.

Which order a sum of n products is added in, and whether products are fused with the addition, depends on the
instruction set and the library. Each order errs by about `UNIT` * sqrt(n) times the magnitude of the values: n
roundings of at most `UNIT` each, largely independent (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
section 2.8).
`sum_bound` is that figure for values of known scale. Deep networks amplify or damp what their products err by; `spread`
measures how much: by backward error analysis a product's error is that of exact arithmetic on weights changed by
`UNIT` * sqrt(n) of their value (Higham, chapter 3), so weights changed at random by as much show what rounding does
to the outputs. Both have the margin `SAFETY`. A fault of 1e-3 of any weight, term or scale is far beyond both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

UNIT = 2.0**-24
"""Unit roundoff of fp32: the largest relative error of one operation."""

HEADROOM = 2.0
"""Factor between an expected and an admitted error: both sides of a comparison round, and norms, exponentials and
residual additions round besides the products."""

SAFETY = 4 * HEADROOM
"""Factor between an expected error and the largest that is admitted of some thousand: four standard deviations."""

DRAWS = 8
"""Random changes that `spread` and a caller of `nearby` take the mean over."""


def sum_bound(terms: int, scale: float = 1.0) -> float:
    """Largest difference of two fp32 evaluations with `terms` roundings each on the way to a value of size `scale`."""
    return SAFETY * UNIT * math.sqrt(terms) * scale


def nearby(weights: Mapping[str, NDArray[np.float64]], terms: int, draw: int) -> dict[str, NDArray[np.float64]]:
    """Weights in fp64, each changed by the relative error of a product of `terms` terms in fp32."""
    rng = np.random.default_rng(draw)
    return {name: w * (1 + UNIT * math.sqrt(terms) * rng.standard_normal(w.shape)) for name, w in weights.items()}


@torch.no_grad()
def spread(module: nn.Module, run: Callable[[], Mapping[str, Tensor]], terms: int) -> dict[str, float]:
    """Bounds on the rounding error of an entry of each output of `run`, forward passes of `module` in fp32.

    The root mean square over entries and draws of what an output changes by where every floating-point weight changes
    by `UNIT` * sqrt(`terms`) of its value, times `SAFETY`; `terms` is the length of the module's sums. The weights are
    restored.
    """
    kept = {name: t.clone() for name, t in module.state_dict().items()}
    exact = {name: t.double() for name, t in run().items()}
    squares = dict.fromkeys(exact, 0.0)
    try:
        for draw in range(DRAWS):
            generator = torch.Generator().manual_seed(draw)
            for name, t in module.state_dict().items():
                if t.is_floating_point():
                    noise = torch.randn(t.shape, generator=generator, dtype=torch.float64)
                    t.copy_(kept[name].double() * (1 + UNIT * math.sqrt(terms) * noise))
            for name, output in run().items():
                squares[name] += float((output.double() - exact[name]).square().mean()) / DRAWS
    finally:
        for name, t in module.state_dict().items():
            t.copy_(kept[name])
    return {name: SAFETY * math.sqrt(square) for name, square in squares.items()}
