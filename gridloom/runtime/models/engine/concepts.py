"""Vector-quantised concepts (VQ-VAE, arXiv 1711.00937): a codebook over the capsules, by moving averages.

    id = argmin_c |z - e_c|^2 in fp32;  loss = beta |z - sg e|^2;  straight-through z + sg(e - z)
    counts N_c <- d N_c + (1 - d) n_c;  sums M_c <- d M_c + (1 - d) sum of the z of code c
    e_c = M_c / ((N_c + eps) / (sum N + K eps) sum N)            Laplace smoothing on the read, not stored

The codebook is a buffer, updated once an optimizer step in training. It starts from k-means++ seeds of the first 2 K
sketches; until those are collected the part is inactive. A code whose count stays below 1% of the mean for `dead_after`
steps is replaced by a current sketch. Concept logits are s cos(W h, e_c), for the concepts of the answer's drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.runtime.models.engine.layers import dense
from gridloom.runtime.models.engine.spec import EngineModel

EPS = 1e-5
DEAD = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """Codes of vectors."""

    z_q: Tensor
    """[.., D], the codes, with the gradient of the vectors (straight-through)."""
    ids: Tensor
    """int64 [..]"""
    loss: Tensor
    """fp32 scalar, commitment loss with its weight."""
    perplexity: Tensor
    """fp32 scalar, exp of the entropy of the codes in use, 1 to K."""


class ConceptCodebook(nn.Module):
    """Codebook [K, D] and the head that predicts concepts."""

    counts: Tensor
    """fp32 [K], moving averages."""
    sums: Tensor
    """fp32 [K, D], moving averages."""
    below: Tensor
    """int32 [K], consecutive steps with a count below 1% of the mean."""
    waiting: Tensor
    """fp32 [2 K, D], first sketches; seeds are drawn from them."""
    collected: Tensor
    """int64 scalar, number of sketches collected; 2 K once the codebook exists."""

    def __init__(self, spec: EngineModel, generator: torch.Generator | None) -> None:
        super().__init__()
        assert spec.concepts is not None
        self.part = spec.concepts
        count, width = spec.concepts.concepts, spec.hidden_size
        self.register_buffer("counts", torch.ones(count))
        self.register_buffer("sums", torch.zeros(count, width))
        self.register_buffer("below", torch.zeros(count, dtype=torch.int32))
        self.register_buffer("waiting", torch.zeros(2 * count, width))
        self.register_buffer("collected", torch.zeros((), dtype=torch.int64))
        self.head = dense(width, width, generator)
        self.scale = nn.Parameter(torch.tensor(10.0))

    def is_ready(self) -> bool:
        """Whether the codebook exists; synchronises with the device."""
        return int(self.collected) >= len(self.waiting)

    def codes(self) -> Tensor:
        """Return the codebook, fp32 [K, D]."""
        total = self.counts.sum()
        smoothed = (self.counts + EPS) / (total + len(self.counts) * EPS) * total
        return self.sums / smoothed[:, None]

    def quantize(self, z: Tensor) -> Quantized:
        """Quantise vectors [.., D]; changes no buffer."""
        vectors = z.float()
        codes = self.codes()
        flat = vectors.detach().reshape(-1, vectors.shape[-1])
        distance = codes.square().sum(dim=1) - 2 * flat @ codes.T
        ids = distance.argmin(dim=-1)
        code = codes[ids].view_as(vectors)
        loss = self.part.commitment * (vectors - code).square().mean()
        shares = torch.bincount(ids, minlength=len(codes)).float() / max(1, len(ids))
        perplexity = (-(shares * (shares + 1e-10).log()).sum()).exp()
        straight = (vectors + (code - vectors).detach()).to(z.dtype)
        return Quantized(straight, ids.view(z.shape[:-1]), loss, perplexity)

    @torch.no_grad()
    def learn(self, sketches: Tensor, generator: torch.Generator | None) -> None:
        """Update the codebook from the sketches [.., D] of a training step, or collect them until it exists."""
        flat = sketches.detach().float().reshape(-1, sketches.shape[-1])
        if not self.is_ready():
            first = int(self.collected)
            some = flat[: len(self.waiting) - first]
            self.waiting[first : first + len(some)] = some
            self.collected += len(some)
            if self.is_ready():
                self.sums.copy_(plus_plus(self.waiting, len(self.counts), generator))
                self.counts.fill_(1.0)
            return
        ids = self.quantize(flat).ids
        batch_counts = torch.bincount(ids, minlength=len(self.counts)).float()
        batch_sums = torch.zeros_like(self.sums).index_add_(0, ids, flat)
        self.counts.lerp_(batch_counts, 1 - self.part.decay)
        self.sums.lerp_(batch_sums, 1 - self.part.decay)
        low = self.counts < DEAD * self.counts.mean()
        self.below = torch.where(low, self.below + 1, 0)
        dead = (self.below >= self.part.dead_after).nonzero().flatten()
        if len(dead):
            chosen = torch.randint(0, len(flat), (len(dead),), generator=generator).to(flat.device)
            mean = self.counts.mean()
            self.counts[dead] = mean
            self.sums[dead] = flat[chosen] * mean
            self.below[dead] = 0

    def logits(self, states: Tensor) -> Tensor:
        """Return the logits of concepts fp32 [.., K] for states [.., D]: scaled cosines with the codes."""
        wanted = F.normalize(self.head(states.float()), dim=-1)
        return self.scale * wanted @ F.normalize(self.codes(), dim=-1).T


@torch.no_grad()
def plus_plus(vectors: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Return `count` vectors of [N, D], each with the probability of its squared distance to the earlier ones."""
    draws = torch.rand(count, generator=generator).to(vectors.device)
    chosen = [int(draws[0] * len(vectors))]
    nearest = (vectors - vectors[chosen[0]]).square().sum(dim=1)
    for number in range(1, count):
        running = nearest.cumsum(dim=0)
        at = int(torch.searchsorted(running, draws[number] * running[-1]))
        chosen.append(min(at, len(vectors) - 1))
        nearest = torch.minimum(nearest, (vectors - vectors[chosen[-1]]).square().sum(dim=1))
    return vectors[chosen]
