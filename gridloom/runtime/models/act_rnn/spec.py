"""Spec of the ACT-RNN: cell, width, ponder limit and ponder cost."""

from typing import Annotated, Literal

from pydantic import NonNegativeInt, PositiveInt

from gridloom.runtime.models.pondering_spec import PonderingSpec
from gridloom.specs.base import Later


class ActRnnModel(PonderingSpec):
    """Recurrent network with adaptive computation time (arXiv 1603.08983) over vectors, or over a board of tokens.

    Vectors are read in turn, each pondered from the mean state of the one before. Of tokens, all embeddings of a row
    become one vector, which is pondered once, and all answers are read from its mean state.
    """

    kind: Literal["act_rnn"] = "act_rnn"
    cell: Literal["tanh", "gru", "lstm"] = "tanh"
    """Recurrent cell, which reads [x, flag], where the flag marks the first ponder step of an input: `tanh`,
    h' = tanh(W [x, flag] + U h + b); `gru` with the gates of PyTorch's; `lstm`, of which h and c are averaged."""
    hidden_size: PositiveInt = 128
    """Width H of the state."""
    halt_max_steps: PositiveInt = 20
    """Ponder steps of an input at most, M in the paper; 1 turns pondering off."""
    fixed_steps: Annotated[PositiveInt | None, Later()] = None
    """Steps of every input, whatever the halting unit: the last state is taken, and there is no ponder cost. For
    comparison with halting at equal cost; absent: the halting unit decides."""
    halt_warmup_steps: Annotated[NonNegativeInt, Later()] = 0
    """Optimizer steps at the start in which the halting unit keeps its initial weights."""
    ponder_reduction: Annotated[Literal["mean", "sum"], Later()] = "mean"
    """Ponder cost of a row: the mean over its inputs, or the sum as in the paper, in which the same `ponder_weight`
    weighs as many times more as the row has inputs."""
    embedding_size: Annotated[PositiveInt, Later()] = 16
    """Width of a token's embedding."""

    @property
    def reads(self) -> tuple[Literal["tokens", "vectors"], ...]:
        """Vectors where a task has them, else tokens."""
        return ("vectors", "tokens")

    def any_length(self, num_features: int) -> bool:
        """Return True for vectors, as the cell runs once more for each further time step; a board is one vector."""
        return num_features > 0

    @property
    def gates(self) -> int:
        """Blocks of H pre-activations of the cell."""
        return {"tanh": 1, "gru": 3, "lstm": 4}[self.cell]

    @property
    def most_steps(self) -> int:
        """Ponder steps of an input at most."""
        return self.halt_max_steps if self.fixed_steps is None else self.fixed_steps

    @property
    def least_mass(self) -> float:
        """1 - epsilon: below it every input costs all steps at first."""
        return 1 - self.halt_epsilon

    def halts_by_itself(self) -> bool:
        """Whether the initial bias alone ends pondering within the limit; True where the steps are fixed."""
        return self.fixed_steps is not None or super().halts_by_itself()
