"""What a device does, measured once and kept: it turns an estimate of operations into one of time."""

from __future__ import annotations

from dataclasses import dataclass, field

from gridloom.compiler.graph import Cost


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a device does, measured once: see `gridloom doctor --calibrate`."""

    device: str
    memory_bytes: int
    flops_per_s: dict[str, float] = field(default_factory=dict)
    """By precision, in matrix products of the sizes that networks here have."""
    step_overhead_s: float = 0.0
    """Time a step takes beside its operations."""
    measured_at: float = 0.0

    def seconds(self, cost: Cost) -> float | None:
        """Return the expected time of a stage; None where a precision was not measured."""
        if any(precision not in self.flops_per_s for precision in cost.flops):
            return None
        busy = sum(count / self.flops_per_s[precision] for precision, count in cost.flops.items())
        return cost.num_steps * (busy + self.step_overhead_s)
