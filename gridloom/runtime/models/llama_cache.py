"""Keys and values of prompt heads, kept so that a retry runs the model over its tail alone.

A causal model's states of a head do not depend on the latent prefix and the tail that follow. They are computed once a
head, without gradient, one head at a time (so that they do not depend on who shares the batch), and kept up to a
number of bytes, least recently used first out. Gradient flows from the state through the tail to the latent prefix.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gridloom.compiler.cost import HEAD_CACHE_BYTES
from gridloom.runtime.models.llama import Llama, Prefix, Segments, States, last_states


@dataclass(frozen=True, slots=True)
class Head:
    """A prompt's head, read."""

    keys_values: tuple[tuple[Tensor, Tensor], ...]
    """Per layer [1, heads, T, head width], twice."""
    states: Tensor
    """[1, T, H], after the final norm."""

    @property
    def num_bytes(self) -> int:
        tensors = [self.states, *(t for pair in self.keys_values for t in pair)]
        return sum(t.numel() * t.element_size() for t in tensors)


class HeadCache:
    """Encodes prompts of a language model, running each head once."""

    def __init__(self, llama: Llama, max_bytes: int = HEAD_CACHE_BYTES) -> None:
        self.llama, self.max_bytes = llama, max_bytes
        self.num_bytes = self.num_hits = self.num_misses = 0
        self._kept: OrderedDict[tuple[int, ...], Head] = OrderedDict()

    def head(self, ids: tuple[int, ...]) -> Head:
        """Return what is kept of a head that is not empty, running it first if need be."""
        found = self._kept.get(ids)
        if found is not None:
            self.num_hits += 1
            self._kept.move_to_end(ids)
            return found
        self.num_misses += 1
        found = self._kept[ids] = self._run(ids)
        self.num_bytes += found.num_bytes
        while self.num_bytes > self.max_bytes and len(self._kept) > 1:
            self.num_bytes -= self._kept.popitem(last=False)[1].num_bytes
        return found

    @torch.no_grad()
    def _run(self, ids: tuple[int, ...]) -> Head:
        from transformers import DynamicCache

        cache = DynamicCache()
        embeds, mask = self.llama.inputs([Segments(head=(), tail=ids)])
        states = self.llama.forward(embeds, mask, cache)
        return Head(keys_values=tuple((layer.keys, layer.values) for layer in cache.layers), states=states)

    def encode(self, rows: Sequence[Segments], prefix: Prefix = None, num_new: Sequence[int] | None = None) -> Tensor:
        """Return what `Llama.encode` does, fp32 [B, H], for rows that end in `num_new` new tokens."""
        tails, _, _ = self._tails(rows, prefix)
        return self.llama.pick(tails, [0] * len(rows) if num_new is None else num_new)

    def encode_states(self, rows: Sequence[Segments], prefix: Prefix = None, *, num_states: int) -> States:
        """Return what `Llama.encode_states` does."""
        tails, mask, heads = self._tails(rows, prefix)
        if tails.shape[1] >= num_states and bool(mask[:, -num_states:].all()):
            return last_states(tails, mask, num_states)
        parts, lengths = [], []
        for index, head in enumerate(heads):
            tail = tails[index, tails.shape[1] - int(mask[index].sum()):]
            whole = tail if head is None else torch.cat((head.states[0].to(tail.dtype), tail))
            parts.append(whole[-num_states:])
            lengths.append(len(parts[-1]))
        longest = max(lengths)
        padded = torch.stack([F.pad(part, (0, 0, longest - len(part), 0)) for part in parts])
        first = longest - torch.tensor(lengths, device=padded.device)
        return States(values=padded.float(), mask=torch.arange(longest, device=padded.device) >= first[:, None])

    def _tails(self, rows: Sequence[Segments], prefix: Prefix) -> tuple[Tensor, Tensor, list[Head | None]]:
        """Run prefixes and tails behind the heads: states [B, T, H], mask [B, T] and the heads."""
        from transformers import DynamicCache

        longest = max(len(row.head) for row in rows)
        embeds, mask = self.llama.inputs([Segments(head=(), tail=row.tail) for row in rows], prefix, behind=longest)
        heads = [self.head(row.head) if row.head else None for row in rows]
        some = next((head for head in heads if head is not None), None)
        if some is None:
            return self.llama.forward(embeds, mask), mask, heads
        cache = DynamicCache([
            tuple(_stack([None if head is None else head.keys_values[layer][side] for head in heads], like, longest)
                  for side, like in enumerate(pair))
            for layer, pair in enumerate(some.keys_values)
        ])
        before = torch.zeros(len(rows), longest, dtype=mask.dtype, device=mask.device)
        for index, row in enumerate(rows):
            before[index, longest - len(row.head):] = 1
        return self.llama.forward(embeds, torch.cat((before, mask), dim=1), cache), mask, heads


def _stack(parts: Sequence[Tensor | None], like: Tensor, length: int) -> Tensor:
    """Left-pad [1, heads, T, width] tensors to `length` and stack them over rows."""
    filled = [like[:, :, :0] if part is None else part for part in parts]
    return torch.cat([F.pad(part, (0, 0, length - part.shape[2], 0)) for part in filled])
