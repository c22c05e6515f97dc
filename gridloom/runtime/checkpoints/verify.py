"""Verification of a checkpoint: every file against its hash, every tensor against its network, and a description."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.checkpoints.description import checkpoint_folder, data_kind, read_description
from gridloom.runtime.models.kind import MODELS


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint whose files are whole and whose weights fit its networks."""

    folder: Path
    kind: str
    """Kind of the network."""
    line: str
    """One line on the network, as a model card has it."""
    parameters: int
    """Trained weights of the network, without the puzzle embedding."""
    adapters: tuple[str, ...]
    """Kinds of the other parts."""
    data_kind: str
    num_puzzle_ids: int
    steps: int
    """Optimizer steps behind the weights."""


def verify_checkpoint(path: str, base: str = ".") -> VerifiedCheckpoint:
    """Read a checkpoint whole.

    Args:
        path: folder with bundle.json, or `shipped:NAME`.
        base: folder that a relative path starts from.

    Raises:
        ModelError: a file is missing, damaged or changed, or holds weights of another architecture.
        PluginError: no installed package brings the network's kind.
    """
    folder = checkpoint_folder(path, base)
    description = read_description(folder)
    bundle = load_bundle(folder)
    network = bundle.network
    line = MODELS.get(network.spec.kind).card_line
    return VerifiedCheckpoint(
        folder=folder,
        kind=network.spec.kind,
        line=line(network.spec, description["parts"]["trm"]["config"]) if line else f"width {network.spec.hidden_size}",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        adapters=tuple(bundle.adapters),
        data_kind=data_kind(bundle.meta),
        num_puzzle_ids=len(bundle.puzzle_ids),
        steps=int(bundle.meta.get("steps", 0)),
    )
