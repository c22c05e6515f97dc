"""Depth of the recursion over a training, by phases."""

from __future__ import annotations

from collections.abc import Sequence

from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.stages import DepthPhase


def depth_at(progress: float, full: NetworkSpec, phases: Sequence[DepthPhase]) -> NetworkSpec:
    """Return the network's spec at the depth of the phase that contains `progress`, in [0, 1)."""
    end = 0.0
    for phase in phases:
        end += phase.share
        if progress < end:
            return full.at_depth(phase)
    return full
