"""Cost of a network on rows of several sizes: canvases, or packed rows of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gridloom.runtime.models.kind import NetworkCost, RowShape, network_cost
from gridloom.runtime.models.network_spec import NetworkSpec


class Network(NamedTuple):
    """The network behind a stage, on the rows of the stage's data."""

    spec: NetworkSpec
    rows: RowShape
    side_shares: tuple[tuple[int, float], ...] = ()
    """(side, share of the rows) of each canvas; empty where all rows have one canvas."""
    row_cells: tuple[tuple[int, float], ...] = ()
    """(cells, share of the rows) of each size of a packed row; empty where rows are canvases."""

    @property
    def cost(self) -> NetworkCost:
        """Cost of the network on rows of the largest canvas."""
        return network_cost(self.spec, self.rows)

    def mean(self, operations: Callable[[NetworkCost], int], spec: NetworkSpec | None = None) -> int:
        """Return the mean of `operations` over the canvases or packed rows of the tasks, for `spec` in place of the
        network's own."""
        spec = self.spec if spec is None else spec
        shares = [(self.rows._replace(canvas=side, num_cells=None), share) for side, share in self.side_shares]
        shares += [(self.rows._replace(num_cells=cells), share) for cells, share in self.row_cells]
        if not shares:
            return operations(network_cost(spec, self.rows))
        return round(sum(share * operations(network_cost(spec, rows)) for rows, share in shares))

    def held(self, size: Callable[[NetworkCost], int]) -> int:
        """Return bytes that a step holds: those of its rows on the largest canvas, or of packed rows of mean size."""
        return self.mean(size) if self.row_cells else size(self.cost)

    def rows_of_step(self, most: int, tokens: int | None) -> int:
        """Return the rows of a step of `most` rows and, where set, `tokens` tokens of packed rows at most."""
        if tokens is None or not self.row_cells:
            return most
        mean = sum(share * cells for cells, share in self.row_cells) + getattr(self.spec, "puzzle_embedding_len", 0)
        return max(1, min(most, round(tokens / mean)))
