"""Spec of the ACT-RNN: cell, width, ponder limit and ponder cost."""

from typing import Literal

from pydantic import PositiveInt

from gridloom.runtime.models.pondering_spec import PonderingSpec


class ActRnnModel(PonderingSpec):
    """Recurrent network with adaptive computation time (arXiv 1603.08983) over vectors."""

    kind: Literal["act_rnn"] = "act_rnn"
    cell: Literal["tanh"] = "tanh"
    """Recurrent cell: h' = tanh(W [x, flag] + U h + b), where the flag marks the first ponder step of an input."""
    hidden_size: PositiveInt = 128
    """Width H of the state."""
    halt_max_steps: PositiveInt = 20
    """Ponder steps of an input at most, M in the paper."""

    @property
    def reads(self) -> tuple[Literal["tokens", "vectors"], ...]:
        """Vectors alone."""
        return ("vectors",)

    @property
    def any_length(self) -> bool:
        """Yes: the cell runs once more for each further time step."""
        return True
