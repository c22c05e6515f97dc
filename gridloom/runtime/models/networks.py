"""Networks by the kind of their spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.models.ids import PuzzleIds
from gridloom.runtime.models.recursive import VOCABULARY, RecursiveNetwork
from gridloom.runtime.models.trm import TRM
from gridloom.runtime.models.variants import HRM, Hier6, SingleZ, Transformer
from gridloom.specs.models import NetworkModel, TrmModel

NETWORKS: Mapping[str, type[RecursiveNetwork]] = {
    "trm": TRM, "trm_singlez": SingleZ, "trm_hier6": Hier6, "hrm": HRM, "transformer": Transformer,
    "trm_hybrid": TRM,
}


def build_network(spec: TrmModel, canvas: int, num_puzzles: int, *, task_of: Sequence[int] | Tensor | None = None,
                  views: NDArray[np.uint8] | None = None, vocabulary: int = VOCABULARY, num_cells: int | None = None,
                  generator: torch.Generator | None = None) -> RecursiveNetwork:
    """Build the network of `spec.kind` with fresh weights; arguments as for `RecursiveNetwork`."""
    return NETWORKS[spec.kind](spec, canvas, num_puzzles, task_of=task_of, views=views, vocabulary=vocabulary,
                               num_cells=num_cells, generator=generator)


def views_for(spec: TrmModel, ids: PuzzleIds) -> NDArray[np.uint8] | None:
    """Return the views of the ids where the network embeds them."""
    return ids.views if spec.puzzle_embedding == "task_view" else None


def network_spec(values: Mapping[str, Any]) -> TrmModel:
    """Validate a network's spec by its kind. Raises ModelError saying what is wrong."""
    try:
        spec: TrmModel = TypeAdapter(NetworkModel).validate_python(dict(values))
    except ValidationError as error:
        raise ModelError(f"the network's configuration is not valid: {error}") from error
    return spec
