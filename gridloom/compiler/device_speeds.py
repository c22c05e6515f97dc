"""Measured speeds of devices, which turn an estimate of operations into an estimate of time."""

from __future__ import annotations

from dataclasses import dataclass, field

from gridloom.compiler.graph import Cost


@dataclass(frozen=True, slots=True)
class DeviceSpeeds:
    """Speeds and memory of one device, as `gridloom doctor --calibrate` measured them."""

    device: str
    memory_bytes: int
    flops_per_s: dict[str, float] = field(default_factory=dict)
    """Floating-point operations per second by kind of work: `fp32` and `bf16` in TRM training steps, `fp32 ACT` in ACT
    steps without gradient, `fp32 prompt` and `fp32 token` for a LLaMA; suffix ` nf4` for 4-bit weights."""
    step_overhead_s: float = 0.0
    """Seconds per step beside its operations."""
    measured_at: float = 0.0
    """Unix time of the measurement."""
    torch: str = ""
    """Version of torch during the measurement."""
    cores: int = 0
    """Threads used by the measurement."""
    figures: dict[str, float] = field(default_factory=dict)
    """Measured figures by name, unit included, for people to read."""

    def seconds(self, cost: Cost) -> float | None:
        """Return the expected seconds of a stage; None where the speed of some kind of work was not measured."""
        if any(self._rate(work) is None for work in (*cost.flops, *cost.flops_once)):
            return None
        expected = cost.num_steps * (self._busy(cost.flops) + self.step_overhead_s) + self._busy(cost.flops_once)
        return expected if cost.most_s is None else min(expected, cost.most_s)

    def _busy(self, flops: dict[str, int]) -> float:
        return sum(count / (self._rate(work) or 1.0) for work, count in flops.items())

    def _rate(self, work: str) -> float | None:
        """Return the operations per second of a kind of work: `fp32 token nf4`, else `fp32 token`, else `fp32`."""
        while work and work not in self.flops_per_s:
            work = work.rpartition(" ")[0]
        return self.flops_per_s.get(work) or None


@dataclass(frozen=True, slots=True)
class MachineSpeeds:
    """Measured speeds of this machine's devices, by `cpu` and `cuda`."""

    known: dict[str, DeviceSpeeds] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    """Reason by device why a measurement is not used: it was made with another torch, device or number of threads."""
    auto: str = "cpu"
    """Device that `device: auto` stands for."""

    def of(self, device: str) -> DeviceSpeeds | None:
        """Return the speeds of `auto`, `cpu`, `cuda` or `cuda:N`; None without a usable measurement."""
        return self.known.get(self._name(device))

    def why_not(self, device: str) -> str:
        """Return the reason why a device has no usable speeds, with the command that measures them."""
        return self.unused.get(self._name(device), "device speed not measured: run gridloom doctor --calibrate")

    def _name(self, device: str) -> str:
        return self.auto if device == "auto" else device.partition(":")[0]
