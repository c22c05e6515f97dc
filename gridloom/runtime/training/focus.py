"""Path cells of training mazes: precision, recall and F1 of the focus token over all rows since the last report."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gridloom.runtime.evaluation.maze_paths import PATH
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.runtime.models.pondering_spec import PonderingSpec

FOCUS_FIGURES = ("focus_precision", "focus_recall", "focus_f1")
"""The figures; sums over all rows come before the division, so that they are no means over batches."""
NUM_FOCUS_SUMS = 3
"""Sums that `focus_sums` returns."""


def has_focus(spec: NetworkSpec, kind: str) -> bool:
    """Return whether a training has the figures: networks that ponder have logits of all cells after each step."""
    return kind == "maze" and isinstance(spec, PonderingSpec)


def focus_sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cells marked as path, the path's cells, and the cells of both, fp32 [3].

    Args:
        logits: [B, L, V] of rows whose answers are complete.
        labels: uint8 [B, L]; label 0 is not scored.
    """
    # the largest logit along the classes: where these lie apart, `max` takes a tenth of the time of `argmax`
    marked = (logits.transpose(1, 2).max(dim=1).indices == PATH) & (labels != 0)
    right = labels == PATH
    return torch.stack((marked.sum(), right.sum(), (marked & right).sum())).float()


def focus_means(sums: Sequence[float]) -> dict[str, float]:
    """Return the figures of sums; those over nothing are 0, and none without a path."""
    marked, path, both = sums
    if not path:
        return {}
    values = (both / max(marked, 1.0), both / path, 2 * both / (marked + path))
    return dict(zip(FOCUS_FIGURES, values, strict=True))
