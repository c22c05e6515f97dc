"""Spec fields of all networks: width, ACT steps, precision. Each family adds its own fields."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt

from gridloom.specs.base import ModelSpec, Precision
from gridloom.specs.stages import DepthPhase


class NetworkSpec(ModelSpec):
    """Base of network specs: a network answers rows within a number of ACT steps."""

    hidden_size: PositiveInt
    """Width D of the state."""
    halt_max_steps: PositiveInt = 16
    """Maximum number of ACT steps; evaluation runs all of them unless `halt` is set."""
    halt_exploration: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that a row must run a random minimum number of ACT steps in training."""
    precision: Precision = "bf16"
    """Activation type of the network; master weights are fp32."""

    @property
    def any_canvas(self) -> bool:
        """Whether no weight depends on a position, so that rows of any square canvas can run."""
        return False

    @property
    def packing_problem(self) -> str:
        """What a network must be for packed rows, where it is not; empty where it reads them."""
        return "a network that takes rows of unlike shape, such as a trm with positions: rope_2d"

    def any_length(self, num_features: int) -> bool:
        """Return whether no weight depends on the length of a row of vectors of so many features, or of tokens where 0,
        so that longer and shorter rows than trained on can run."""
        return False

    @property
    def ponders(self) -> bool:
        """Whether a step runs inner steps until the network halts by itself, at most `halt_max_steps`."""
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
        """Kinds of rows that the network reads, preferred first."""
        return ("tokens",)

    @property
    def part_versions(self) -> dict[str, int]:
        """Versions of parts whose first weights, from the same seed, are others than in earlier versions; in the key of
        a stage that makes the network."""
        return {}

    def at_depth(self, phase: DepthPhase) -> Self:
        """Return the spec at the depth of a training phase."""
        return self.model_copy(update={"halt_max_steps": min(phase.act_steps, self.halt_max_steps)})
