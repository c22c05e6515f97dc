"""Optimizers of the trainings."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from gridloom.specs.base import SpecModel


class AdamAtan2(SpecModel):
    """Adam with atan2 in place of the division and epsilon (arXiv 2407.05872), the TRM's optimiser."""

    kind: Literal["adam_atan2"] = "adam_atan2"
    lr: PositiveFloat = 1.0e-4
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the first and second moment."""
    weight_decay: NonNegativeFloat = 0.1
    """Decoupled weight decay."""


class AdamW(SpecModel):
    """torch.optim.AdamW."""

    kind: Literal["adamw"] = "adamw"
    lr: PositiveFloat = 1.0e-4
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the first and second moment."""
    weight_decay: NonNegativeFloat = 0.1
    """Decoupled weight decay."""


class Muon(SpecModel):
    """Muon for the matrices of the stack, AdamATan2 for embeddings and heads."""

    kind: Literal["muon"] = "muon"
    lr: PositiveFloat = 1.0e-3
    """Learning rate of both; Muon's updates are scaled to the RMS of Adam's."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Decay of Muon's momentum."""
    weight_decay: NonNegativeFloat = 0.1
    """Decoupled weight decay."""


Optimizer = Annotated[AdamAtan2 | AdamW, Field(discriminator="kind")]
NetworkOptimizer = Annotated[AdamAtan2 | AdamW | Muon, Field(discriminator="kind")]
