"""Noise on the states of recursive networks, for restarts: seeded by row, restart and step, whatever the batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class StateNoise:
    """Gaussian noise for the states of B rows in one restart (arXiv 2605.19943 adds it at every step)."""

    sigma: float
    """Standard deviation; entries of a state have a root mean square of about 1."""
    seed: int
    restart: int
    """Number of the restart, from 1; restart 0 has no noise."""
    numbers: NDArray[np.int64]
    """int64 [B], numbers of the rows in their dataset, from which their noise is drawn."""
    every_step: bool = False
    """Whether noise is added before every ACT step, not only to the initial states."""

    def added(self, z_H: Tensor, z_L: Tensor, first: int, step: int) -> tuple[Tensor, Tensor]:
        """Return the states [b, S, D] of rows `first`, `first` + 1, ... with the noise of an ACT step, from 0."""
        if step > 0 and not self.every_step:
            return z_H, z_L
        sizes = z_H[0].numel(), z_L[0].numel()
        drawn = np.empty((len(z_H), sum(sizes)), dtype=np.float32)
        for row, number in enumerate(self.numbers[first : first + len(z_H)]):
            # counter-based: a row's noise depends on neither the other rows nor the order of draws
            key = np.array([(self.seed << 32) + self.restart, number], dtype=np.uint64)
            counter = np.array([0, 0, 0, step], dtype=np.uint64)
            generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
            generator.standard_normal(out=drawn[row], dtype=np.float32)
        noise = torch.from_numpy(drawn).to(z_H.device) * self.sigma
        for_H, for_L = noise[:, : sizes[0]], noise[:, sizes[0] :]
        return (
            (z_H.float() + for_H.reshape(z_H.shape)).to(z_H.dtype),
            (z_L.float() + for_L.reshape(z_L.shape)).to(z_L.dtype),
        )
