"""Small engines, rows for them, and a few training steps without the trainer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, save_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.built.encoders import TextEncoder
from gridloom.runtime.data.built.samples import Sample
from gridloom.runtime.models.engine.carry import EngineCarry, EngineLosses, EngineOutput
from gridloom.runtime.models.engine.network import Engine
from gridloom.runtime.models.engine.spec import EngineModel
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.steps import Rows
from gridloom.specs.built import BYTES

GRID = RowShape(4, 16, 8)
BASE: dict[str, Any] = {
    "hidden_size": 32,
    "num_heads": 4,
    "layers": 1,
    "H_cycles": 2,
    "L_cycles": 1,
    "expansion": 1.0,
    "puzzle_embedding_len": 0,
    "halt_max_steps": 3,
    "precision": "fp32",
}
VISION: dict[str, Any] = {"image": 32, "patch": 8, "layers": 1, "H_cycles": 2, "L_cycles": 1}
CAPSULES: dict[str, Any] = {"capsules": 4, "children": 2, "checksum": 8, "checksum_threshold": -1.0}
DQN: dict[str, Any] = {"capacity": 64, "min_size": 8, "batch": 16, "hidden": 16, "epsilon_steps": 20}
EVERYTHING: dict[str, Any] = {
    "num_key_value_heads": 2,
    "gradient_checkpointing": True,
    "deep_supervision": {},
    "vision": VISION,
    "unified": True,
    "capsules": {**CAPSULES, "open": "learned"},
    "decoder": {},
    "planning": {},
    "multi_token": {},
    "memory": {"capacity": 16, "heads": 4},
    "concepts": {"concepts": 8},
    "dqn": {**DQN, "prioritized": True, "count_curiosity": 0.05, "rnd_curiosity": 0.1},
}


def spec_of(**fields: Any) -> EngineModel:
    """Return the spec of a small engine with these fields."""
    return EngineModel.from_json_values({**BASE, **fields})


def engine(rows: RowShape = GRID, seed: int = 0, **fields: Any) -> Engine:
    """Build a small engine."""
    generator = torch.Generator().manual_seed(seed)
    return Engine.for_rows(spec_of(**fields), rows, PuzzleIds.of(()), generator=generator)


def rows_for(network: Engine, count: int = 6, seed: int = 1) -> Rows:
    """Draw rows whose answer is the reversed question."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, network.num_cells)
    tokens = torch.randint(2, network.vocabulary, shape, generator=generator, dtype=torch.uint8)
    return Rows(tokens, torch.zeros(count, dtype=torch.int64), tokens.flip(1))


def training(
    network: Engine, rows: Rows, steps: int, lr: float = 1e-3, seed: int = 2
) -> Iterator[tuple[EngineCarry, EngineOutput, EngineLosses]]:
    """Train on the same rows; yield carry, output and losses of each step after its backward pass."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr)
    network.train()
    carry = network.initial_carry(len(rows.inputs))
    for step in range(steps):
        network.optimizer_step = step
        carry, output = network.step(rows, carry, generator=generator)
        losses = network.losses(output, carry)
        torch.autograd.backward(losses.total() / len(rows.inputs))
        yield carry, output, losses
        optimizer.step()
        optimizer.zero_grad()


TEXT = "one two three four. " * 8
"""Text that `text_bundle` learns; 20 bytes, repeated."""


def text_bundle(folder: Path, steps: int = 120, task: str = "continue", **fields: Any) -> Path:
    """Save a checkpoint of a small engine after some steps on the rows of `TEXT` in windows of 16 bytes."""
    rows = RowShape(0, 16, BYTES)
    network = engine(rows, **{"decoder": {}, "H_cycles": 1, "halt_max_steps": 2, **fields})
    encoder = TextEncoder(16, "continue")
    sample = Sample("text", "text", text=TEXT)
    made = [encoder.row(sample, piece) for piece in range(encoder.pieces(sample))]
    inputs, labels = (torch.stack([torch.from_numpy(row[part]) for row in made]) for part in (0, 1))
    for _ in training(network, Rows(inputs, torch.zeros(len(inputs), dtype=torch.int64), labels), steps, lr=5e-3):
        pass
    meta = {"steps": steps, "data": {"kind": "prebuilt", "spec": {"form": "text", "task": task}}}
    save_bundle(folder, Bundle({NETWORK: network}, PuzzleIds.of(()), meta=meta))
    return folder
