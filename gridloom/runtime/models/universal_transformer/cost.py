"""Cost of the Universal Transformer: parameters, operations if every position makes every hop, bytes."""

from __future__ import annotations

from dataclasses import dataclass

from gridloom.runtime.models.flops import BYTES, Flops
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.universal_transformer.spec import UniversalTransformerModel


@dataclass(frozen=True, slots=True)
class UniversalTransformerCost:
    """Cost of a Universal Transformer on rows of one shape; halting and padding make a run cheaper than this."""

    spec: UniversalTransformerModel
    rows: RowShape

    @property
    def positions(self) -> int:
        """Positions S of a row: memory tokens, then tokens or time steps."""
        return self.spec.memory_tokens + self.rows.cells

    @property
    def _widens(self) -> bool:
        return not self.rows.num_features and self.spec.embedding_size != self.spec.hidden_size

    @property
    def _block(self) -> int:
        """Weights of the linear maps of the block, without biases."""
        spec, width = self.spec, self.spec.hidden_size
        return width * (2 * spec.keys + 2 * spec.values) + 2 * width * spec.filter_size

    @property
    def parameters(self) -> int:
        """Number of weights: embedding, block, halting unit, norms, head, learned positions, memory."""
        spec, rows, width = self.spec, self.rows, self.spec.hidden_size
        if rows.num_features:
            embedding = width * (rows.num_features + 1)
        else:
            embedding = rows.vocabulary * spec.embedding_size + (spec.embedding_size * width if self._widens else 0)
        norms = (3 if spec.norm == "pre" else 2) * 2 * width
        learned = (rows.cells if spec.positions == "learned" else 0) + spec.memory_tokens
        halting = width + 1 if spec.act else 0
        head = (width + 1) * rows.answers * rows.vocabulary
        return embedding + self._block + spec.filter_size + width + norms + halting + head + learned * width

    def _pooled(self) -> bool:
        return self.rows.whole or self.spec.readout == "mean"

    def _forward(self, rows: int) -> Flops:
        """Return the operations of whole rows at the limit of hops."""
        spec, width, length = self.spec, self.spec.hidden_size, self.positions
        hop = Flops(2 * rows * length * self._block, 2 * rows * length * length * (spec.keys + spec.values))
        halting = 2 * rows * length * width if spec.act else 0
        read = rows * (1 if self._pooled() else self.rows.cells)
        head = Flops(2 * read * width * self.rows.answers * self.rows.vocabulary)
        first = Flops()
        if self.rows.num_features:
            first = Flops(first=2 * rows * self.rows.cells * self.rows.num_features * width)
        elif self._widens:
            first = Flops(2 * self.rows.vocabulary * spec.embedding_size * width)
        return (hop + Flops(halting)) * spec.halt_max_steps + head + first

    def act_step(self, rows: int) -> Flops:
        """Return the operations of whole rows, one step of training, at the limit of hops."""
        return self._forward(rows)

    def train_step(self, rows: int, all_rounds: bool = False) -> int:
        """Return the operations of whole rows with the backward pass, at the limit of hops."""
        forward = self._forward(rows)
        return forward.forward + forward.backward

    def activation_bytes(self, rows: int, all_rounds: bool = False) -> int:
        """Return the bytes kept for the backward pass, at the limit of hops.

        A hop keeps of each position: state with signals, both normalised inputs, state between the sublayers, state
        after the block (5 H); queries, keys, values, and the values that attention returned (2 K + 2 V); hidden layer.
        """
        spec = self.spec
        hop = 5 * spec.hidden_size + 2 * spec.keys + 2 * spec.values + spec.filter_size
        ends = 3 * spec.hidden_size + self.rows.answers * self.rows.vocabulary
        return BYTES[spec.precision] * rows * self.positions * (spec.halt_max_steps * hop + ends)

    def state_bytes(self, rows: int) -> int:
        """Return the bytes of state, weighted sum and temporaries of a hop without gradient."""
        spec = self.spec
        hop = 6 * spec.hidden_size + 2 * spec.keys + 2 * spec.values + spec.filter_size
        return BYTES[spec.precision] * rows * self.positions * hop

    def table_bytes(self, num_ids: int, num_tasks: int) -> int:
        """Return 0: there is no puzzle table."""
        return 0
