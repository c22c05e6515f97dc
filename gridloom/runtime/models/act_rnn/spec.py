"""Spec of the ACT-RNN: cell, width, ponder limit and ponder cost."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.base import Precision


class ActRnnModel(NetworkSpec):
    """Recurrent network with adaptive computation time (arXiv 1603.08983) over vectors."""

    kind: Literal["act_rnn"] = "act_rnn"
    cell: Literal["tanh"] = "tanh"
    """Recurrent cell: h' = tanh(W [x, flag] + U h + b), where the flag marks the first ponder step of an input."""
    hidden_size: PositiveInt = 128
    """Width H of the state."""
    halt_max_steps: PositiveInt = 20
    """Ponder steps of an input at most, M in the paper."""
    halt_bias: float = 1.0
    """Initial bias of the halting unit; a higher bias halts sooner."""
    halt_epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Epsilon: pondering of an input ends when the halting probabilities sum to 1 - epsilon."""
    ponder_weight: NonNegativeFloat = 0.001
    """Weight tau of the ponder cost N + R in the loss."""
    precision: Precision = "fp32"
    """Activation type."""

    @property
    def reads(self) -> tuple[Literal["tokens", "vectors"], ...]:
        """Vectors alone."""
        return ("vectors",)
