"""Engine of a checkpoint with rows of a data entry that it reads."""

from __future__ import annotations

from pathlib import Path

import torch

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.models.engine.network import Engine
from gridloom.runtime.models.steps import Rows
from gridloom.runtime.show.entries import DataEntry
from gridloom.runtime.show.rows import token_rows_of


def load_engine(checkpoint: Path, lacks: str, device: str = "cpu") -> Engine:
    """Return the engine of a checkpoint. Raises ModelError for another network, which lacks what `lacks` names."""
    network = load_bundle(checkpoint, device, weights="run").network
    if not isinstance(network, Engine):
        raise ModelError(f"{checkpoint} holds a {network.spec.kind}, which {lacks}", "name an engine's checkpoint")
    return network


def questions(network: Engine, checkpoint: Path, entry: DataEntry, count: int, split: str) -> Rows:
    """Return the first rows of a split, without labels. Raises ModelError for rows that the engine does not read."""
    inputs = token_rows_of(entry, 0, count, split)
    if inputs.shape[1] != network.num_cells or int(inputs.max()) >= network.vocabulary:
        raise ModelError(
            f"{checkpoint} reads rows of {network.num_cells} tokens below {network.vocabulary}, those of "
            f"{entry.name!r} have {inputs.shape[1]} up to {int(inputs.max())}",
            "name the data that it was trained on",
        )
    ids = torch.zeros(len(inputs), dtype=torch.int64, device=network.device)
    return Rows(torch.from_numpy(inputs).to(network.device), ids)
