"""Hierarchical encoding: k sketches of an image, m children of each that can be opened, and a checksum of the children.

    attention A = softmax over patches of (W h); sketch_i = sum_n A_in h_n
    children of i: the m patches of largest A_in, scaled by A_in renormalised over them times m, then W_c
    checksum_i = W_2 relu(W_1 sketch_i), trained towards t_i = unit(R (pixels of i's m patches - running mean)), where R
    is a fixed random projection, so that the target cannot collapse: loss 1 - cos
    reconstructability r_i = cos(checksum_i, t_i): how well the sketch still determines its children

A row may halt before its last step where the mean of r reaches the threshold. Slots of a page are k sketches, then m
children of each capsule; closed children are masked, and a sketch stays where it is when its capsule opens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.runtime.models.engine.layers import SLOT_STD, dense
from gridloom.runtime.models.engine.layout import num_pages, slots_of_page
from gridloom.runtime.models.engine.spec import EngineModel
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.recursive.layers import Linear, truncated_normal

CHECKSUM_HIDDEN = 128
TO_CHILD, TO_PARENT, TO_SIBLING = 2.0, 1.5, 0.5
"""Attention biases: of a parent's query on its child, a child's on its parent, a child's on its siblings."""
MEAN_DECAY = 0.99
CHILD_WEIGHT = 0.2
TARGET_SEED = 1


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Capsules of the pages of a row, k of them over all pages."""

    sketches: Tensor
    """[B, k, D]"""
    children: Tensor
    """[B, k, m, D]"""
    checksums: Tensor
    """fp32 [B, k, R]"""
    targets: Tensor
    """fp32 [B, k, R], unit vectors of the pixels of the children."""
    attention: Tensor
    """fp32 [B, k, N], weights over the patches of the capsule's page."""
    expand: Tensor
    """fp32 [B, k], scores by which the next capsule to open is chosen."""

    @property
    def reconstructability(self) -> Tensor:
        """Mean cosine of checksums and targets over the capsules, fp32 [B] in [-1, 1]."""
        return F.cosine_similarity(self.checksums, self.targets, dim=-1).mean(dim=1)


class CapsulePool(nn.Module):
    """Pool the patches of pages into capsules."""

    projection: Tensor
    """fp32 [m * 3 p p, R], fixed."""
    pixel_mean: Tensor
    """fp32 [m * 3 p p], running mean of the children's pixels."""
    pool_grid: Tensor
    """fp32 [k, N], weights of `average` pooling."""

    def __init__(self, spec: EngineModel, rows: RowShape, generator: torch.Generator | None) -> None:
        super().__init__()
        assert spec.capsules is not None
        assert spec.vision is not None
        part, width = spec.capsules, spec.hidden_size
        self.k, self.m = part.capsules, part.children
        side = spec.vision.image // spec.vision.patch
        self.pool = dense(width, self.k, generator) if part.pooling == "attention" else None
        if self.pool is None:
            self.register_buffer("pool_grid", grid_weights(side, *part.grid), persistent=False)
        self.child_proj = Linear(width, width, bias=True, generator=generator)
        self.checksum = nn.Sequential(
            dense(width, CHECKSUM_HIDDEN, generator), nn.ReLU(), dense(CHECKSUM_HIDDEN, part.checksum, generator)
        )
        self.expand_score = dense(width, 1, generator) if part.open == "learned" else None
        self.open = part.open
        slots = num_pages(spec, rows.cells) * slots_of_page(spec)
        self.slots = nn.Parameter(truncated_normal((slots, width), SLOT_STD, generator=generator))
        pixels = self.m * 3 * spec.vision.patch**2
        fixed = torch.Generator().manual_seed(TARGET_SEED)
        self.register_buffer("projection", torch.randn(pixels, part.checksum, generator=fixed) * pixels**-0.5)
        self.register_buffer("pixel_mean", torch.full((pixels,), 0.5))

    def forward(self, states: Tensor, patches: Tensor) -> Encoded:
        """Map states [B, pages, N, D] and patches fp32 [B, pages, N, 3 p p] to capsules."""
        batch, pages, count, width = states.shape
        if self.pool is not None:
            attention = self.pool(states.float()).transpose(2, 3).softmax(dim=-1)
        else:
            attention = self.pool_grid.expand(batch, pages, -1, -1)
        sketches = (attention.to(states.dtype) @ states).flatten(1, 2)
        best, index = attention.topk(self.m, dim=-1)
        weights = best / best.sum(dim=-1, keepdim=True).clamp(min=1e-9) * self.m
        flat = index.flatten(2)[..., None]
        chosen = states.gather(2, flat.expand(-1, -1, -1, width)).view(batch, pages * self.k, self.m, width)
        scaled = chosen * weights.view(batch, pages * self.k, self.m, 1).to(states.dtype)
        children = self.child_proj(scaled)
        expand = states.new_zeros(batch, pages * self.k, dtype=torch.float32)
        if self.expand_score is not None:
            expand = self.expand_score(sketches.float()).squeeze(-1)
            # the score also scales what opening shows, which gives it a gradient
            children = children * (2 * expand.sigmoid())[..., None, None].to(children.dtype)
        with torch.no_grad():
            pixels = patches.gather(2, flat.expand(-1, -1, -1, patches.shape[-1])).view(batch, pages * self.k, -1)
            if self.training:
                self.pixel_mean.lerp_(pixels.mean(dim=(0, 1)), 1 - MEAN_DECAY)
            targets = F.normalize((pixels - self.pixel_mean) @ self.projection, dim=-1)
        return Encoded(
            sketches=sketches,
            children=children,
            checksums=self.checksum(sketches.float()),
            targets=targets,
            attention=attention.reshape(batch, pages * self.k, count),
            expand=expand,
        )

    def fill_slots(self, found: Encoded, opened: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the source slots [B, K, D] and their validity, bool [B, K]; None if all are valid.

        Args:
            opened: bool [B, capsules], those whose children show.
        """
        if self.open == "none":
            return found.sketches + self.slots.to(found.sketches.dtype), None
        slots = torch.cat((found.sketches, found.children.flatten(1, 2)), dim=1)
        slots = slots + self.slots.to(slots.dtype)
        if self.open == "all":
            return slots, None
        return slots, torch.cat((torch.ones_like(opened), opened.repeat_interleave(self.m, dim=1)), dim=1)

    def losses(self, found: Encoded) -> tuple[Tensor, Tensor]:
        """Return fp32 [B]: mean 1 - cos of checksums, and mean squared distance of mean children to their sketch."""
        sketch = found.sketches.detach().float()
        child = (found.children.float().mean(dim=2) - sketch).square().mean(dim=(1, 2))
        return 1 - found.reconstructability, CHILD_WEIGHT * child


def grid_weights(side: int, rows: int, columns: int) -> Tensor:
    """Return fp32 [rows * columns, side * side]: the mean over each cell of a grid, as adaptive average pooling."""
    eye = torch.eye(side * side).view(side * side, side, side)
    return F.adaptive_avg_pool2d(eye, (rows, columns)).flatten(1).T.contiguous()


def hierarchy_bias(capsules: int, children: int) -> Tensor:
    """Return the additive attention bias of the slots, fp32 [K, K]: non-zero between a capsule and its children alone.

    Slots: `capsules` sketches, then `children` of each.
    """
    bias = torch.zeros(capsules * (1 + children), capsules * (1 + children))
    for parent in range(capsules):
        own = slice(capsules + parent * children, capsules + (parent + 1) * children)
        bias[own, own] = TO_SIBLING
        bias[own, own].fill_diagonal_(0.0)
        bias[parent, own], bias[own, parent] = TO_CHILD, TO_PARENT
    return bias
