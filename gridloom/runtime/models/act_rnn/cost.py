"""Cost of the ACT-RNN: parameters, operations at the ponder limit, bytes."""

from __future__ import annotations

from dataclasses import dataclass

from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.flops import BYTES, Flops
from gridloom.runtime.models.kind import RowShape


@dataclass(frozen=True, slots=True)
class ActRnnCost:
    """Cost of an ACT-RNN on rows of one shape.

    H width, G gates times H, M ponder limit; F features of T vectors, or a board of L tokens with embeddings E wide.
    Operations are those of rows that ponder to the limit; halting makes fewer. The map of a board is counted in the
    cheaper of its two forms, as the network runs it.
    """

    spec: ActRnnModel
    rows: RowShape

    @property
    def _inputs(self) -> int:
        """Pondered inputs of a row."""
        return self.rows.cells if self.rows.num_features else 1

    @property
    def _gates(self) -> int:
        return self.spec.gates * self.spec.hidden_size

    @property
    def _classes(self) -> int:
        """Outputs of the map that answers: K V, or L V of a board."""
        return self.rows.vocabulary * (self.rows.answers if self.rows.num_features else self.rows.cells)

    @property
    def parameters(self) -> int:
        """Number of weights: embedding and map of a board, cell with its flag, halting unit, output map."""
        width, gates, embedded = self.spec.hidden_size, self._gates, self.spec.embedding_size
        board = 0
        if not self.rows.num_features:
            board = self.rows.vocabulary * embedded + (self.rows.cells * embedded + 1) * width
        cell = gates * ((self.rows.num_features or width) + 2 + width) + (gates if self.spec.cell == "gru" else 0)
        return board + cell + width + 1 + self._classes * (width + 1)

    def _forward(self, rows: int) -> Flops:
        """Return the operations of whole rows: of an input one product with it, M with the state, M halting units."""
        width, gates, inputs, limit = self.spec.hidden_size, self._gates, self._inputs, self.spec.most_steps
        # the first input starts from a state of zeros, whose product is none
        products = inputs * limit - 1
        linear = 2 * rows * (gates * width * products + width * inputs * limit)
        answers = 1 if self.rows.whole or not self.rows.num_features else inputs
        linear += 2 * rows * width * self._classes * answers
        if self.rows.num_features:
            return Flops(linear=linear, first=2 * rows * gates * self.rows.num_features * inputs)
        cells, vocabulary, embedded = self.rows.cells, self.rows.vocabulary, self.spec.embedding_size
        linear += 2 * rows * gates * width
        direct = 2 * rows * cells * embedded * width
        if vocabulary * (embedded + rows) >= rows * embedded:
            return Flops(linear=linear + direct)
        return Flops(linear=linear + 2 * (cells * vocabulary * embedded * width + rows * cells * vocabulary * width))

    def act_step(self, rows: int) -> Flops:
        """Return the operations of whole rows, one step of training, at the ponder limit."""
        return self._forward(rows)

    def train_step(self, rows: int, all_rounds: bool = False) -> int:
        """Return the operations of whole rows with the backward pass, at the ponder limit."""
        forward = self._forward(rows)
        return forward.forward + forward.backward

    def activation_bytes(self, rows: int, all_rounds: bool = False) -> int:
        """Return the bytes kept for the backward pass, at the ponder limit, fp32: of a ponder step the states before
        and after, the gates and their gradients; of an input its share and mean state; logits."""
        width, gates, inputs = self.spec.hidden_size, self._gates, self._inputs
        states = 2 if self.spec.cell == "lstm" else 1
        step = (2 * states + 1) * width + 2 * gates
        answers = 1 if self.rows.whole or not self.rows.num_features else inputs
        kept = inputs * (self.spec.most_steps * step + gates + width) + 2 * answers * self._classes
        if not self.rows.num_features:
            kept += self.rows.cells * min(self.spec.embedding_size, self.rows.vocabulary)
        return 4 * rows * kept

    def state_bytes(self, rows: int) -> int:
        """Return the bytes of state, mean states, temporaries and logits."""
        width, inputs = self.spec.hidden_size, self._inputs
        answers = 1 if self.rows.whole or not self.rows.num_features else inputs
        temporaries = 4 * (width * (4 + inputs) + self._gates * (2 + inputs))
        return rows * (temporaries + BYTES[self.spec.precision] * answers * self._classes)

    def table_bytes(self, num_ids: int, num_tasks: int) -> int:
        """Return 0: there is no puzzle table."""
        return 0
