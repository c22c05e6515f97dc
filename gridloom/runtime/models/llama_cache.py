"""Keys and values of prompt heads, kept so that a retry runs the model over its tail alone.

A causal model's states of a head do not depend on the latent prefix and the tail that follow. They are computed once a
head, without gradient, one head at a time (so that they do not depend on who shares the batch), and kept up to a
number of bytes, least recently used first out. Gradient flows from the state through the tail to the latent prefix.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gridloom.runtime.models.llama import Llama, Prefix, Segments

KeysValues = tuple[tuple[Tensor, Tensor], ...]
"""Per layer [1, heads, T, head width], twice."""

MAX_BYTES = 1 << 30


class HeadCache:
    """Encodes prompts of a language model, running each head once."""

    def __init__(self, llama: Llama, max_bytes: int = MAX_BYTES) -> None:
        self.llama, self.max_bytes = llama, max_bytes
        self.num_bytes = self.num_hits = self.num_misses = 0
        self._kept: OrderedDict[tuple[int, ...], KeysValues] = OrderedDict()

    def keys_values(self, head: tuple[int, ...]) -> KeysValues:
        """Return keys and values of a head that is not empty."""
        found = self._kept.get(head)
        if found is not None:
            self.num_hits += 1
            self._kept.move_to_end(head)
            return found
        self.num_misses += 1
        found = self._run(head)
        self._kept[head] = found
        self.num_bytes += _num_bytes(found)
        while self.num_bytes > self.max_bytes and len(self._kept) > 1:
            self.num_bytes -= _num_bytes(self._kept.popitem(last=False)[1])
        return found

    @torch.no_grad()
    def _run(self, head: tuple[int, ...]) -> KeysValues:
        from transformers import DynamicCache

        cache = DynamicCache()
        embeds, mask = self.llama.inputs([Segments(head=(), tail=head)])
        self.llama.forward(embeds, mask, cache)
        return tuple((layer.keys, layer.values) for layer in cache.layers)

    def encode(self, rows: Sequence[Segments], prefix: Prefix = None,
               num_new: Sequence[int] | None = None) -> Tensor:
        """Return what `Llama.encode` does, fp32 [B, H], for rows that end in `num_new` new tokens.

        Rows without a head are run whole.
        """
        from transformers import DynamicCache

        llama = self.llama
        counts = [0] * len(rows) if num_new is None else num_new
        embeds, mask = llama.inputs([Segments(head=(), tail=row.tail) for row in rows], prefix,
                                    behind=max(len(row.head) for row in rows))
        longest = max(len(row.head) for row in rows)
        if longest == 0:
            return llama.pick(llama.forward(embeds, mask), counts)
        heads = [self.keys_values(row.head) if row.head else None for row in rows]
        some = next(head for head in heads if head is not None)
        cache = DynamicCache([
            (_stack([None if head is None else head[layer][0] for head in heads], keys, longest),
             _stack([None if head is None else head[layer][1] for head in heads], values, longest))
            for layer, (keys, values) in enumerate(some)
        ])
        before = torch.zeros(len(rows), longest, dtype=mask.dtype, device=mask.device)
        for index, row in enumerate(rows):
            before[index, longest - len(row.head):] = 1
        return llama.pick(llama.forward(embeds, torch.cat((before, mask), dim=1), cache), counts)


def _stack(parts: Sequence[Tensor | None], like: Tensor, length: int) -> Tensor:
    """Left-pad [1, heads, T, width] tensors to `length` and stack them over rows."""
    filled = [like[:, :, :0] if part is None else part for part in parts]
    return torch.cat([F.pad(part, (0, 0, length - part.shape[2], 0)) for part in filled])


def _num_bytes(kept: KeysValues) -> int:
    return sum(t.numel() * t.element_size() for pair in kept for t in pair)
