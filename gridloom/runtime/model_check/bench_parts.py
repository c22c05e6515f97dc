"""Cost of each part of an engine above the core with the parts that it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.machine.memory import MemoryMeter
from gridloom.runtime.model_check.check import made_rows
from gridloom.runtime.models.engine.spec import FLAGS, PARTS, EngineModel
from gridloom.runtime.models.kind import MODELS, RowShape
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.network_spec import NetworkSpec

NEEDS = {
    "capsules": ("vision",),
    "unified": ("vision",),
    "concepts": ("vision", "capsules"),
    "multi_token": ("decoder",),
}
"""Parts that a part needs; its cost is measured above them."""


@dataclass(frozen=True, slots=True)
class PartCost:
    """Cost of a part above the core with the parts that it needs."""

    part: str
    weights: int
    """Weights that it adds."""
    step_ms: float
    """Time of an ACT step without gradient, with the part."""
    step_ratio: float
    """The same over the time without it."""
    train_ms: float
    """Time of a training step (forward, losses, backward), with the part."""
    train_ratio: float
    memory_bytes: int | None
    """Peak memory of a training step above that without the part; None where it cannot be measured."""


def clock(device: torch.device) -> Callable[[], float]:
    """Return a function that reads the time: CPU seconds, or the clock behind the work of a GPU."""
    if device.type != "cuda":
        return time.process_time

    def read() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return read


def part_costs(spec: EngineModel, shape: RowShape, device: str, repeats: int, seed: int = 0) -> list[PartCost]:
    """Measure each part that is on, above the core with the parts that it needs; both take turns."""
    found = []
    for part in spec.active:
        needs = tuple(need for need in NEEDS.get(part, ()) if need in spec.active)
        without, with_it = (with_parts(spec, on) for on in (needs, (*needs, part)))
        networks = [build(one, shape, device, torch.Generator().manual_seed(seed)) for one in (without, with_it)]
        weights = [sum(p.numel() for p in network.parameters()) for network in networks]
        trials = [_Trial(network, device, seed) for network in networks]
        steps: list[list[float]] = [[], []]
        trains: list[list[float]] = [[], []]
        for repeat in range(repeats + 1):
            for number, trial in enumerate(trials):
                step, train = trial.step(), trial.train()
                if repeat:  # the first warms up
                    steps[number].append(step)
                    trains[number].append(train)
        peaks = [trial.peak() for trial in trials]
        memory = None if peaks[0] is None or peaks[1] is None else peaks[1] - peaks[0]
        step_s, train_s = ([float(np.median(times)) for times in both] for both in (steps, trains))
        found.append(
            PartCost(
                part=part,
                weights=weights[1] - weights[0],
                step_ms=step_s[1] * 1e3,
                step_ratio=step_s[1] / max(step_s[0], 1e-9),
                train_ms=train_s[1] * 1e3,
                train_ratio=train_s[1] / max(train_s[0], 1e-9),
                memory_bytes=memory,
            )
        )
    return found


def with_parts(spec: EngineModel, on: Sequence[str]) -> EngineModel:
    """Return a spec whose parts are these alone."""
    values = spec.model_dump(mode="json")
    for part in PARTS:
        if part not in on:
            values[part] = False if part in FLAGS else None
    if values["capsules"] is not None and values["dqn"] is None and values["capsules"]["open"] == "learned":
        values["capsules"]["open"] = "all"  # opening is learned by dqn alone
    return EngineModel.from_json_values(values)


class _Trial:
    """A network with rows, to run steps of."""

    def __init__(self, network: Network, device: str, seed: int) -> None:
        self.network, self.device = network, device
        self.generator = torch.Generator().manual_seed(seed)
        self.rows = made_rows(network, self.generator, device)
        self.now = clock(torch.device(device))

    def step(self) -> float:
        """Return the time of an ACT step without gradient."""
        self.network.eval()
        carry = self.network.initial_carry(len(self.rows.inputs), num_cells=self.rows.inputs.shape[1])
        began = self.now()
        with torch.no_grad():
            self.network.step(self.rows, carry)
        return self.now() - began

    def train(self) -> float:
        """Return the time of a training step."""
        self.network.train()
        carry = self.network.initial_carry(len(self.rows.inputs), num_cells=self.rows.inputs.shape[1])
        began = self.now()
        carry, output = self.network.step(self.rows, carry, generator=self.generator)
        torch.autograd.backward(self.network.losses(output, carry).total())
        taken = self.now() - began
        self.network.zero_grad(set_to_none=True)
        return taken

    def peak(self) -> int | None:
        """Return the peak memory of a training step above the use before it."""
        meter = MemoryMeter(self.device)
        self.train()
        return meter.grown()


def build(spec: NetworkSpec, shape: RowShape, device: str, generator: torch.Generator) -> Network:
    builder = MODELS.get(spec.kind).builder()
    network: Network = builder.for_rows(spec, shape, PuzzleIds.of(()), generator=generator)
    return network.to(device)
