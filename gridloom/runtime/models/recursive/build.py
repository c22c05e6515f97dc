"""Construction of recursive networks by the kind of their spec."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.kind import MODELS
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.specs.data import VOCABULARY


def build_network(
    spec: NetworkSpec,
    canvas: int,
    num_puzzles: int,
    *,
    task_of: Sequence[int] | Tensor | None = None,
    views: NDArray[np.uint8] | None = None,
    vocabulary: int = VOCABULARY,
    num_cells: int | None = None,
    generator: torch.Generator | None = None,
) -> RecursiveNetwork:
    """Build the network of `spec.kind` with fresh weights; arguments as for `RecursiveNetwork`."""
    network: RecursiveNetwork = MODELS.get(spec.kind).builder()(
        spec,
        canvas,
        num_puzzles,
        task_of=task_of,
        views=views,
        vocabulary=vocabulary,
        num_cells=num_cells,
        generator=generator,
    )
    return network


def views_for(spec: NetworkSpec, ids: PuzzleIds) -> NDArray[np.uint8] | None:
    """Return the views of the ids, uint8 [R, 11], if the network embeds views; else None."""
    return ids.views if spec.embeds_views else None
