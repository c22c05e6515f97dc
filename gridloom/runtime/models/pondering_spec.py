"""Spec fields of networks that ponder: a halting unit ends their inner steps, and the ponder cost enters the loss."""

import math
from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.base import Later, Precision


class PonderingSpec(NetworkSpec):
    """Base of the specs of networks with adaptive computation time (arXiv 1603.08983)."""

    halt_bias: float = 1.0
    """Initial bias of the halting unit; a higher bias halts sooner."""
    halt_epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Epsilon: pondering ends when the halting probabilities sum to 1 - epsilon."""
    ponder_weight: NonNegativeFloat = 0.001
    """Weight tau of the ponder cost N + R in the loss (the time penalty); 0 leaves the cost out of the loss."""
    ponder_weight_start: Annotated[NonNegativeFloat, Later()] = 0.0
    """Weight at the first optimizer step where `ponder_warmup_steps` is set."""
    ponder_warmup_steps: Annotated[NonNegativeInt, Later()] = 0
    """Optimizer steps over which the weight goes in a straight line from `ponder_weight_start` to `ponder_weight`."""
    precision: Precision = "fp32"
    """Activation type."""

    @property
    def ponders(self) -> bool:
        """Yes."""
        return True

    def ponder_weight_at(self, step: int) -> float:
        """Return the weight of the ponder cost at an optimizer step, counted from 0."""
        if self.ponder_warmup_steps == 0:
            return self.ponder_weight
        share = min(1.0, step / self.ponder_warmup_steps)
        return self.ponder_weight_start + (self.ponder_weight - self.ponder_weight_start) * share

    def first_probability(self) -> float:
        """Return the halting probability of a step by the initial bias alone."""
        return 1 / (1 + math.exp(min(-self.halt_bias, 700.0)))

    @property
    def least_mass(self) -> float:
        """Sum of the initial halting probabilities within the limit below which the limit alone halts, and a spec is
        warned about: a tenth."""
        return 0.1

    def halts_by_itself(self) -> bool:
        """Whether the initial bias alone ends pondering within the limit; True for a limit of one, which is none."""
        return self.halt_max_steps == 1 or self.halt_max_steps * self.first_probability() >= self.least_mass

    def least_bias(self) -> float:
        """Return the lowest initial bias, rounded up to a tenth, that ends pondering within the limit."""
        share = (1 - self.halt_epsilon) / max(2, self.halt_max_steps)
        return math.ceil(10 * math.log(share / (1 - share))) / 10
