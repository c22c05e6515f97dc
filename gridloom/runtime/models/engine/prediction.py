"""Multi-token prediction (DeepSeek-V3, arXiv 2412.19437): a further training signal from tokens ahead.

    h^j_i = Block_j(W_j [rms(h^(j-1)_i); rms(Emb(y_(i+j-1)))]),  j = 1 .. depths,  h^0 = state of answer i

The state of answer i has read the answer tokens before i and predicts y_i; module j adds the embedding of y_(i+j-1),
and predicts y_(i+j) through the network's own output head. Blocks are causal, and all tensors have A - j positions, so
that nothing behind position i + j - 1 reaches row i. loss = lambda / depths sum_j mean CE_j. Training only.

Module j reads y_(i+j-1), so that it learns to go on from the token before, as the network does. With `between: false`

    h^j_i = Block_j(W_j rms(h^(j-1)_i))

(arXiv 2404.19737, in a chain): what comes must be in the state of answer i, which has read the answers before i alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gridloom.runtime.models.engine.layers import EngineBlock, Place, rms
from gridloom.runtime.models.engine.spec import EngineModel
from gridloom.runtime.models.recursive.layers import Linear


class MultiTokenPrediction(nn.Module):
    """Modules that predict the tokens 2 to depths + 1 ahead of the last token read."""

    def __init__(self, spec: EngineModel, generator: torch.Generator | None) -> None:
        super().__init__()
        assert spec.multi_token is not None
        self.depths, self.weight = spec.multi_token.depths, spec.multi_token.weight
        self.between = spec.multi_token.between
        width = spec.hidden_size
        joined = 2 * width if self.between else width
        self.joins = nn.ModuleList(Linear(joined, width, generator=generator) for _ in range(self.depths))
        self.blocks = nn.ModuleList(
            EngineBlock(width, spec.num_heads, spec.kv_heads, spec.expansion, generator=generator)
            for _ in range(self.depths)
        )

    def forward(self, state: Tensor, embedded: Tensor, cos: Tensor | None, sin: Tensor | None) -> list[Tensor]:
        """Return the states of each depth, [B, A - j, D], from states and embedded answers [B, A, D].

        Args:
            embedded: embedding of answer token y_i at position i; not read with `between: false`.
            cos: fp32 [A, 1, d], rotary tables of the answer positions.
        """
        found = []
        for j in range(1, self.depths + 1):
            length = state.shape[1] - 1
            if length < 1:
                break
            joined = rms(state[:, :length])
            if self.between:
                joined = torch.cat((joined, rms(embedded[:, j - 1 : j - 1 + length])), dim=-1)
            joined = self.joins[j - 1](joined)
            causal = torch.ones(length, length, dtype=torch.bool, device=state.device).tril()
            place = Place(None if cos is None else cos[:length], None if sin is None else sin[:length], causal)
            state = self.blocks[j - 1](joined, place)
            found.append(state)
        return found

    def losses(
        self, states: list[Tensor], labels: Tensor, surprise: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weighted loss fp32 [B], and counts of right and scored tokens at depth 1, fp32 scalars.

        Args:
            labels: uint8 [B, A], answers; label 0 is not scored.
            surprise: (states [B, N, D], labels [B, N]) -> mean cross-entropy fp32 [B], right bool [B, N].
        """
        total = torch.zeros(len(labels), device=labels.device)
        right = scored = torch.zeros((), device=labels.device)
        for j, state in enumerate(states, 1):
            wanted = labels[:, j : j + state.shape[1]]
            loss, hit = surprise(state, wanted)
            total = total + loss
            if j == 1:
                right, scored = hit.sum().float(), (wanted != 0).sum().float()
        return self.weight / max(1, len(states)) * total, right, scored
