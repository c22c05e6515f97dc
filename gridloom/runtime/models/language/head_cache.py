"""Cache of the keys and values of prompt heads: a retry runs the model over its tail alone.

A causal model's states of a head do not depend on the latent prefix and the tail that follow. They are computed once
per head, without gradient, one head at a time (independent of the other prompts of the batch), and cached up to a
number of bytes with least-recently-used eviction. The gradient flows from the state through the tail to the latent
prefix.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gridloom.runtime.models.language.cost import HEAD_CACHE_BYTES
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.segments import Prefix, Segments, States, last_states, per_row


@dataclass(frozen=True, slots=True)
class Head:
    """Encoded head of a prompt."""

    keys_values: tuple[tuple[Tensor, Tensor], ...]
    """(keys, values) per layer, each [1, heads, T, head width]."""
    states: Tensor
    """[1, T, H], after the final norm."""

    @property
    def num_bytes(self) -> int:
        tensors = [self.states, *(t for pair in self.keys_values for t in pair)]
        return sum(t.numel() * t.element_size() for t in tensors)


@dataclass(frozen=True, slots=True)
class Tails:
    """Encoded prefixes and tails of rows, after their heads."""

    states: Tensor
    """[B, T, H], after the final norm."""
    mask: Tensor
    """int64 [B, T]; 0 on padding, which is on the left."""
    heads: tuple[Head | None, ...]
    whole: Tensor
    """int64 [B, heads + T], mask of all positions in the cache."""
    cache: Any
    """Keys and values of heads and tails; None if they need not be kept and no row has a head."""

    def last(self, number: int) -> list[Tensor]:
        """Return the last up to `number` states of each row, head included: [n, H] per row."""
        found = []
        for index, head in enumerate(self.heads):
            tail = self.states[index, self.states.shape[1] - int(self.mask[index].sum()) :]
            whole = tail if head is None else torch.cat((head.states[0].to(tail.dtype), tail))
            found.append(whole[-number:])
        return found


def _joined(groups: Sequence[Sequence[int]], parts: Sequence[Tails], room: int | None) -> Tails:
    """Merge rows that were encoded in several batches, in their original order, padded on the left alone."""
    from gridloom.runtime.models.language.kv_cache import preallocated_cache

    places = sorted((at, part, index) for part, group in enumerate(groups) for index, at in enumerate(group))
    where = [(parts[part], index) for _, part, index in places]
    longest = max(part.mask.shape[1] for part in parts)
    states = torch.stack([_left_padded(part.states[index], longest) for part, index in where])
    mask = torch.stack([F.pad(part.mask[index], (longest - part.mask.shape[1], 0)) for part, index in where])
    seen = [part.whole[index].nonzero().flatten() for part, index in where]
    lengths = torch.tensor([len(row) for row in seen], device=mask.device)
    most = max(len(row) for row in seen)
    whole = (torch.arange(most, device=mask.device) >= most - lengths[:, None]).to(mask.dtype)
    cache = None
    if room is not None:
        cache = preallocated_cache(
            room,
            (
                (
                    torch.stack(
                        [
                            _left_padded(part.cache.layers[layer].keys[index][:, row], most)
                            for (part, index), row in zip(where, seen, strict=True)
                        ]
                    ),
                    torch.stack(
                        [
                            _left_padded(part.cache.layers[layer].values[index][:, row], most)
                            for (part, index), row in zip(where, seen, strict=True)
                        ]
                    ),
                )
                for layer in range(len(parts[0].cache.layers))
            ),
        )
    return Tails(states, mask, tuple(part.heads[index] for part, index in where), whole, cache)


def _stack(parts: Sequence[Tensor | None], like: Tensor, length: int) -> Tensor:
    """Left-pad [1, heads, T, width] tensors to `length` and stack them over rows."""
    filled = [like[:, :, :0] if part is None else part for part in parts]
    return torch.cat([_left_padded(part, length) for part in filled])


FORWARD_TOKENS = {"cpu": 64, "cuda": 4096}
"""Fixed cost of a forward pass in tokens, by kind of device.

A CPU reads every weight once and starts a few hundred small operations: 0.1 s for SmolLM2-135M on two cores, where a
token costs 1.9 ms. A GPU waits for kernel launches for the time of some thousand tokens (estimated, not measured).
"""


def length_groups(lengths: Sequence[int], forward_tokens: int) -> list[list[int]]:
    """Partition rows into batches, each padded to its longest row, at minimum cost of padding and batches.

    Args:
        lengths: number of tokens of each row.
        forward_tokens: fixed cost of a batch in tokens.

    Returns:
        Indices of rows, each once; batches by increasing length, rows of a batch in the given order.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    # cheapest[n]: minimum cost of the n shortest rows, and start of their last batch
    cheapest: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        cheapest.append(
            min((cheapest[start][0] + forward_tokens + (end - start) * longest, start) for start in range(end))
        )
    groups: list[list[int]] = []
    end = len(order)
    while end:
        start = cheapest[end][1]
        groups.insert(0, sorted(order[start:end]))
        end = start
    return groups


class HeadCache:
    """Encoder of prompts that runs each head once."""

    def __init__(self, llama: Llama, max_bytes: int = HEAD_CACHE_BYTES) -> None:
        self.llama, self.max_bytes = llama, max_bytes
        self.num_bytes = self.num_hits = self.num_misses = 0
        self._kept: OrderedDict[tuple[int, ...], Head] = OrderedDict()

    def head(self, ids: tuple[int, ...]) -> Head:
        """Return a non-empty head from the cache; encode it first if it is missing."""
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
        """Return the states of `Llama.encode`, fp32 [B, H], for rows that end in `num_new` new tokens."""
        tails = self.read(rows, prefix).states
        return self.llama.pick(tails, [0] * len(rows) if num_new is None else num_new)

    def encode_states(self, rows: Sequence[Segments], prefix: Prefix = None, *, num_states: int) -> States:
        """Return the states of `Llama.encode_states`."""
        read = self.read(rows, prefix)
        if read.states.shape[1] >= num_states and bool(read.mask[:, -num_states:].all()):
            return last_states(read.states, read.mask, num_states)
        parts = read.last(num_states)
        lengths = [len(part) for part in parts]
        longest = max(lengths)
        padded = torch.stack([F.pad(part, (0, 0, longest - len(part), 0)) for part in parts])
        first = longest - torch.tensor(lengths, device=padded.device)
        return States(values=padded.float(), mask=torch.arange(longest, device=padded.device) >= first[:, None])

    def read(self, rows: Sequence[Segments], prefix: Prefix = None, *, room: int | None = None) -> Tails:
        """Encode prefixes and tails after the heads, rows of similar length in one batch.

        Args:
            room: maximum number of new tokens that follow; None if none do and keys and values need not be kept.

        Raises ModelError if a row exceeds the model's context.
        """
        prefixes = per_row(prefix, len(rows))
        lengths = [
            len(row.tail) + (0 if latent is None else len(latent)) for row, latent in zip(rows, prefixes, strict=True)
        ]
        groups = length_groups(lengths, FORWARD_TOKENS.get(self.llama.device.type, FORWARD_TOKENS["cuda"]))
        if len(groups) == 1:
            return self._read(rows, prefixes, room, room or 0)
        parts = [
            self._read(
                [rows[at] for at in group], [prefixes[at] for at in group], None if room is None else 0, room or 0
            )
            for group in groups
        ]
        return _joined(groups, parts, room)

    def _read(self, rows: Sequence[Segments], prefixes: Sequence[Tensor | None], room: int | None, new: int) -> Tails:
        """Encode rows in one batch; up to `new` tokens follow, `room` of them in the cache of this batch."""
        from gridloom.runtime.models.language.kv_cache import preallocated_cache

        embeds, mask = self.llama.inputs(
            [Segments(head=(), tail=row.tail) for row in rows],
            prefixes,
            behind=[len(row.head) for row in rows],
            room=new,
        )
        heads = tuple(self.head(row.head) if row.head else None for row in rows)
        some = next((head for head in heads if head is not None), None)
        if some is None:
            cache = None if room is None else preallocated_cache(room)
            return Tails(self.llama.forward(embeds, mask, cache), mask, heads, mask, cache)
        longest = max(len(row.head) for row in rows)
        cache = preallocated_cache(
            embeds.shape[1] + (room or 0),
            (
                (
                    _stack([None if head is None else head.keys_values[layer][0] for head in heads], keys, longest),
                    _stack([None if head is None else head.keys_values[layer][1] for head in heads], values, longest),
                )
                for layer, (keys, values) in enumerate(some.keys_values)
            ),
        )
        before = torch.zeros(len(rows), longest, dtype=mask.dtype, device=mask.device)
        for index, row in enumerate(rows):
            before[index, longest - len(row.head) :] = 1
        whole = torch.cat((before, mask), dim=1)
        return Tails(self.llama.forward(embeds, whole, cache), mask, heads, whole, cache)


def _left_padded(values: Tensor, length: int) -> Tensor:
    """Left-pad [..., T, width] to `length` with zeros."""
    return F.pad(values, (0, 0, length - values.shape[-2], 0))
