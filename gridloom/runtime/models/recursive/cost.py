"""Cost of a recursive network: parameters, operations of an ACT and a training step, activation and state bytes."""

from __future__ import annotations

from typing import NamedTuple

from gridloom.runtime.models.flops import BYTES, Flops
from gridloom.runtime.models.recursive.spec import HrmModel, TrmModel
from gridloom.specs.data import VOCABULARY


def inner_width(expansion: float, width: int) -> int:
    """Hidden width of a SwiGLU: round(expansion * width * 2/3), rounded up to a multiple of 256."""
    return -(-round(expansion * width * 2 / 3) // 256) * 256


class TrmCost(NamedTuple):
    """Cost of a recursive network of any kind, on a square canvas or on rows of another length."""

    spec: TrmModel
    canvas: int
    num_cells: int | None = None
    """Tokens L of a row that is not square; None for a canvas."""
    vocabulary: int = VOCABULARY

    @property
    def cells(self) -> int:
        """Tokens L of a row."""
        return self.canvas**2 if self.num_cells is None else self.num_cells

    @property
    def positions(self) -> int:
        """Positions S: prefix and cells."""
        return self.spec.puzzle_embedding_len + self.cells

    @property
    def parameters(self) -> int:
        """Number of trained weights; excludes the puzzle table, which is a buffer."""
        width = self.spec.hidden_size
        learned = self.positions * width if self.spec.positions == "learned" else 0
        stacks = 2 if isinstance(self.spec, HrmModel) else 1
        tables = 2 * self.vocabulary * width + learned
        view = 17 * width if self.spec.puzzle_embedding == "task_view" else 0
        return stacks * self.spec.layers * self._layer_parameters + tables + view + 2 * width + 2

    @property
    def _heads_width(self) -> int:
        """Total width of the attention heads; below `hidden_size` if `num_heads` does not divide it (transformer)."""
        return self.spec.hidden_size // self.spec.num_heads * self.spec.num_heads

    @property
    def calls(self) -> int:
        """Number of stack calls per ACT step."""
        return self.spec.H_cycles * (self.spec.L_cycles + 1)

    def learnt_calls(self, all_rounds: bool = False) -> int:
        """Return the number of stack calls in the backward pass: the last H cycle; HRM: one call of each stack."""
        if all_rounds:
            return self.calls
        return 2 if isinstance(self.spec, HrmModel) else self.spec.L_cycles + 1

    @property
    def _layer_parameters(self) -> int:
        width, length = self.spec.hidden_size, self.positions
        channel = 3 * width * inner_width(self.spec.expansion, width)
        if self.spec.mixing == "attention":
            return 4 * width * self._heads_width + channel
        return 3 * length * inner_width(self.spec.expansion, length) + channel

    def stack(self, rows: int) -> Flops:
        """Return the operations of one call of the shared stack."""
        width, length = self.spec.hidden_size, self.positions
        channel = 6 * rows * length * width * inner_width(self.spec.expansion, width)
        if self.spec.mixing == "attention":
            heads = self._heads_width
            layer = Flops(channel + 8 * rows * length * width * heads, 4 * rows * length * length * heads)
        else:
            layer = Flops(channel + 6 * rows * width * length * inner_width(self.spec.expansion, length))
        return layer * self.spec.layers

    def heads(self, rows: int) -> Flops:
        """Return the operations of output and halting heads."""
        width = self.spec.hidden_size
        return Flops(2 * rows * self.cells * width * self.vocabulary + 4 * rows * width)

    def act_step(self, rows: int) -> Flops:
        """Return the operations of an ACT step without gradient."""
        return self.stack(rows) * self.calls + self.heads(rows)

    def train_step(self, rows: int, all_rounds: bool = False) -> int:
        """Return the operations of an ACT step with the backward pass through the last H cycle, or through all.

        The HRM runs one more ACT step, without gradient, for the target of q_continue.
        """
        learnt = self.stack(rows) * self.learnt_calls(all_rounds) + self.heads(rows)
        ahead = 0
        if isinstance(self.spec, HrmModel) and self.spec.halt_max_steps > 1:
            ahead = (self.stack(rows) * self.calls).forward
        return self.act_step(rows).forward + ahead + learnt.backward

    def activation_bytes(self, rows: int, all_rounds: bool = False) -> int:
        """Return the estimated bytes stored for the backward pass; attention: 7 D + 3 I values per token and layer."""
        spec, width, length = self.spec, self.spec.hidden_size, self.positions
        inner = inner_width(spec.expansion, width)
        if spec.mixing == "attention":
            values = length * (7 * width + 3 * inner)
        else:
            values = length * (3 * width + 3 * inner) + 3 * width * inner_width(spec.expansion, length)
        casts = self._layer_parameters if spec.precision != "fp32" else 0
        calls = spec.layers * self.learnt_calls(all_rounds)
        return calls * BYTES[spec.precision] * (rows * values + casts)

    def state_bytes(self, rows: int) -> int:
        """Return the bytes of the carry and of the temporaries of one stack call without gradient."""
        spec = self.spec
        inner = inner_width(spec.expansion, spec.hidden_size)
        return BYTES[spec.precision] * rows * self.positions * (8 * spec.hidden_size + 3 * inner)

    def table_bytes(self, num_ids: int, num_tasks: int) -> int:
        """Return the bytes of the fp32 puzzle table: a row per id and per task; per task alone with `task_view`."""
        rows = num_tasks if self.spec.puzzle_embedding == "task_view" else num_ids + num_tasks
        return 4 * self.spec.hidden_size * rows
