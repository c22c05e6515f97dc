"""2-D vision encoder: patches with learned 2-D positions, refined by a recursion with real input injection.

    x = LayerNorm(W patch + place);  H times: [ L times: z_L <- f(z_L, z_H + x) ];  z_H <- f(z_H, z_L)

Only the last H cycle is differentiated. There are no rotary positions: those belong to the 1-D answer. With `unified`
f is the stack of the reasoning core, and a learned role vector, added to x, distinguishes encoding from reasoning.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gridloom.runtime.models.engine.layers import EngineStack, LayerNorm, Place
from gridloom.runtime.models.engine.layout import num_pages, num_patches
from gridloom.runtime.models.engine.spec import EngineModel
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.recursive.layers import Linear, truncated_normal

PLACE_STD = 0.5
"""Standard deviation of positions and pages, near the RMS of projected patches."""


class VisionEncoder(nn.Module):
    """Encoder of the pages of a row."""

    H_init: Tensor
    L_init: Tensor

    def __init__(
        self, spec: EngineModel, rows: RowShape, stack: EngineStack | None, generator: torch.Generator | None
    ) -> None:
        """Args: stack: the encoder's own stack; None with `unified`, where each call gets the core's."""
        super().__init__()
        assert spec.vision is not None
        self.H_cycles, self.L_cycles = spec.vision.H_cycles, spec.vision.L_cycles
        width, pages = spec.hidden_size, num_pages(spec, rows.cells)
        self.patch_proj = Linear(3 * spec.vision.patch**2, width, bias=True, generator=generator)
        self.places = nn.Parameter(truncated_normal((num_patches(spec), width), PLACE_STD, generator=generator))
        self.page = (
            nn.Parameter(truncated_normal((pages, width), PLACE_STD, generator=generator)) if pages > 1 else None
        )
        self.norm = LayerNorm(width)
        self.stack = stack
        for name in ("H_init", "L_init"):
            self.register_buffer(name, truncated_normal((width,), 1.0, generator=generator))

    def forward(self, patches: Tensor, shared: EngineStack, role: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Map patches fp32 [B, pages, N, 3 p p] in [0, 1] to states [B, pages, N, D].

        Args:
            shared: stack of the core, used if the encoder has none of its own.
            role: role vector [D] of encoding, with `unified`.
        """
        batch, pages, count, _ = patches.shape
        x = self.patch_proj((2 * patches - 1).to(dtype)) + self.places.to(dtype)
        if self.page is not None:
            x = x + self.page.to(dtype)[:, None]
        x = self.norm(x).flatten(0, 1)
        if role is not None:
            x = x + role.to(dtype)
        stack = shared if self.stack is None else self.stack
        z_H, z_L = (start.to(dtype).expand_as(x) for start in (self.H_init, self.L_init))
        for cycle in range(self.H_cycles):
            with torch.set_grad_enabled(torch.is_grad_enabled() and cycle == self.H_cycles - 1):
                for _ in range(self.L_cycles):
                    z_L = stack(z_L, z_H + x, Place())
                z_H = stack(z_H, z_L, Place())
        return z_H.view(batch, pages, count, -1)
