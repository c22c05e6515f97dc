"""Key-value cache for decoding in preallocated buffers.

transformers' own growing cache copies all keys and values for every new token: at 16 rows of 800 tokens that was 43% of
a decoding step of SmolLM2-135M on two cores. Here a new token is written after the others into a buffer, which is
copied only when it is full; a caller that gives the right `room` causes no copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

GROWTH = 256
"""Number of positions by which a full buffer grows."""


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types here
    """Keys and values [B, heads, T, width] of a layer: the filled part of two buffers."""

    keys: Tensor
    values: Tensor

    def __init__(self, room: int) -> None:
        """Args: room: number of positions that will follow the first call's."""
        super().__init__()
        self.room = room
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the keys and values of new positions in place; concatenate instead if they need a gradient."""
        if torch.is_grad_enabled() and (key_states.requires_grad or value_states.requires_grad):
            self._buffers = None
            joined: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **kwargs)
            return joined
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held, new = self.get_seq_length(), key_states.shape[-2]
        if self._buffers is None or held + new > self._buffers[0].shape[-2]:
            room = self.room if held == 0 else max(self.room, GROWTH)
            self._buffers = self._copied(self.keys, key_states, room), self._copied(self.values, value_states, room)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., held : held + new, :] = states
        self.keys, self.values = (buffer[..., : held + new, :] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Select the rows `indices`."""
        if self._buffers is None:
            super().batch_select_indices(indices)
            return
        held = self.get_seq_length()
        keys, values = (buffer[indices] for buffer in self._buffers)
        self._buffers = keys, values
        self.keys, self.values = keys[..., :held, :], values[..., :held, :]

    @staticmethod
    def _copied(held: Tensor, new: Tensor, room: int) -> Tensor:
        """Return a buffer for `held`, `new` and `room` positions that starts with a copy of `held`."""
        length = held.shape[-2] if held.numel() else 0
        shape = (*new.shape[:-2], length + new.shape[-2] + room, new.shape[-1])
        buffer = new.new_empty(shape)
        if length:
            buffer[..., :length, :] = held
        return buffer


def preallocated_cache(room: int, held: Iterable[tuple[Tensor, Tensor]] = ()) -> Cache:
    """Return a cache with (keys, values) [B, heads, T, width] per layer, and room for `room` more positions.

    Without `held` the cache is empty, and the room follows the positions of the first call. Pairs are copied one by
    one, so an iterator need not hold all pairs in memory.
    """
    layers = []
    for keys, values in held:
        layer = PreallocatedLayer(room)
        layer.update(keys, values)
        layers.append(layer)
    return Cache(layers=layers) if layers else Cache(layer_class_to_replicate=partial(PreallocatedLayer, room))
