"""The exponential moving average of the trained weights; buffers such as the puzzle rows are not averaged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """Keeps average *= decay; average += (1 - decay) * weight, from the initial weights on."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._names = [name for name, p in model.named_parameters() if p.requires_grad]
        self._live = [p for p in model.parameters() if p.requires_grad]
        self._average = [p.detach().clone() for p in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights in."""
        torch._foreach_lerp_(self._average, list(self._live), 1 - self.decay)

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(zip(self._names, self._average, strict=True))

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(tensors[name])

    def state_of(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's state dict with the averages in place of the live weights."""
        return {**{name: t.detach().clone() for name, t in model.state_dict().items()}, **self.tensors()}
