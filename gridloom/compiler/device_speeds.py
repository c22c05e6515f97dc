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
    """By precision, in real TRM training steps; `fp32 ACT` in ACT steps without gradient, `fp32 prompt` and
    `fp32 token` in a LLaMA that reads prompts and writes tokens, with ` nf4` behind in one of 4-bit weights."""
    step_overhead_s: float = 0.0
    """Time a step takes beside its operations."""
    measured_at: float = 0.0
    torch: str = ""
    """Version that it was measured with."""
    cores: int = 0
    """Threads that it was measured with."""
    figures: dict[str, float] = field(default_factory=dict)
    """What was measured, by name, for people to read."""

    def seconds(self, cost: Cost) -> float | None:
        """Return the expected time of a stage; None where a precision was not measured."""
        if any(self._rate(work) is None for work in (*cost.flops, *cost.flops_once)):
            return None
        expected = cost.num_steps * (self._busy(cost.flops) + self.step_overhead_s) + self._busy(cost.flops_once)
        return expected if cost.most_s is None else min(expected, cost.most_s)

    def _busy(self, flops: dict[str, int]) -> float:
        return sum(count / (self._rate(work) or 1.0) for work, count in flops.items())

    def _rate(self, work: str) -> float | None:
        """Operations a second of a kind of work: `fp32 token nf4`, else `fp32 token`, else those of TRM training."""
        while work and work not in self.flops_per_s:
            work = work.rpartition(" ")[0]
        return self.flops_per_s.get(work) or None


@dataclass(frozen=True, slots=True)
class Calibrations:
    """What is known of this machine's devices, by `cpu` and `cuda`, and why something is not used."""

    known: dict[str, Calibration] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    """Why there is no calibration: none was made, or it is of another torch or device."""
    auto: str = "cpu"
    """What `device: auto` means here."""

    def of(self, device: str) -> Calibration | None:
        """Return the calibration of `auto`, `cpu`, `cuda` or `cuda:N`."""
        return self.known.get(self._name(device))

    def why_not(self, device: str) -> str:
        """Say why there is no calibration of a device, and what to type."""
        return self.unused.get(self._name(device), "uncalibrated: run gridloom doctor --calibrate")

    def _name(self, device: str) -> str:
        return self.auto if device == "auto" else device.partition(":")[0]
