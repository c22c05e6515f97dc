"""Spec that all networks share: width, ACT steps, precision. No cycles, no heads: those are a family's own."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt

from gridloom.specs.base import ModelSpec, Precision
from gridloom.specs.stages import DepthPhase


class NetworkSpec(ModelSpec):
    """Base of the specs of networks that read rows and answer them within a number of ACT steps."""

    hidden_size: PositiveInt
    """Width D of the state."""
    halt_max_steps: PositiveInt = 16
    """ACT steps at most; evaluation always runs all of them."""
    halt_exploration: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that a row must run a random minimum number of ACT steps in training."""
    precision: Precision = "bf16"
    """Activation type of the network; master weights are fp32."""

    @property
    def any_canvas(self) -> bool:
        """Whether no weight belongs to a position, so that rows of any square length may run."""
        return False

    @property
    def needs_square(self) -> bool:
        """Whether rows must be square canvases."""
        return False

    @property
    def embeds_views(self) -> bool:
        """Whether the network embeds the view of a task beside the task itself."""
        return False

    @property
    def reads(self) -> tuple[Literal["tokens", "vectors"], ...]:
        """Kinds of rows that the network takes."""
        return ("tokens",)

    def at_depth(self, phase: DepthPhase) -> Self:
        """Return the spec as a phase of a training runs it."""
        return self.model_copy(update={"halt_max_steps": min(phase.act_steps, self.halt_max_steps)})
