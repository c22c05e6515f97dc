"""Cost of the ACT-RNN: parameters, operations at the ponder limit, bytes."""

from __future__ import annotations

from dataclasses import dataclass

from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.flops import BYTES, Flops
from gridloom.runtime.models.kind import RowShape


@dataclass(frozen=True, slots=True)
class ActRnnCost:
    """Cost of an ACT-RNN on vectors of one shape."""

    spec: ActRnnModel
    rows: RowShape

    @property
    def parameters(self) -> int:
        """Number of weights: cell (F + 1 inputs and H states to H), halting unit, output map."""
        width, features = self.spec.hidden_size, self.rows.num_features
        return width * (features + 1 + width) + width + width + 1 + self.rows.vocabulary * (width + 1)

    def _forward(self, rows: int) -> Flops:
        """Return the operations of all time steps: M ponder steps and one output per input."""
        width, limit = self.spec.hidden_size, self.spec.halt_max_steps
        inputs = 2 * rows * width * (self.rows.num_features + 1)
        pondering = limit * 2 * rows * width * (width + 1)
        answer = 2 * rows * width * self.rows.vocabulary
        return Flops(linear=pondering + answer, first=limit * inputs) * self.rows.cells

    def act_step(self, rows: int) -> Flops:
        """Return the operations of whole rows, one step of training, at the ponder limit."""
        return self._forward(rows)

    def train_step(self, rows: int, all_rounds: bool = False) -> int:
        """Return the operations of whole rows with the backward pass, at the ponder limit."""
        forward = self._forward(rows)
        return forward.forward + forward.backward

    def activation_bytes(self, rows: int, all_rounds: bool = False) -> int:
        """Return the bytes of the states of every ponder step, before and after the nonlinearity."""
        kept = 2 * self.spec.halt_max_steps * self.spec.hidden_size + self.rows.vocabulary
        return BYTES[self.spec.precision] * rows * self.rows.cells * kept

    def state_bytes(self, rows: int) -> int:
        """Return the bytes of state, mean state and temporaries."""
        return BYTES[self.spec.precision] * rows * 4 * self.spec.hidden_size

    def table_bytes(self, num_ids: int, num_tasks: int) -> int:
        """Return 0: there is no puzzle table."""
        return 0
