"""Cost of the adapters: parameters and operations."""

from __future__ import annotations

from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.flops import Flops
from gridloom.runtime.models.kind import TwoStateCost


def text_to_latent(
    spec: TextToLatentModel, hidden_size: int, network: TwoStateCost, rows: int, tokens: int = 0
) -> tuple[int, Flops]:
    """Return parameters and forward operations of a `text_to_latent` adapter in any mode.

    Args:
        tokens: number of token states that `cross_attention` reads; 0 for `sequence_tokens`.
    """
    outputs = (1 if spec.mode == "injection" else 2) * network.spec.hidden_size
    if spec.projection == "linear":
        return hidden_size * outputs, Flops(first=2 * rows * hidden_size * outputs)
    width, length = spec.bottleneck, network.positions
    maps = 2 if spec.variational else 1
    parameters = maps * (hidden_size * width + width) + length * width + width * outputs + outputs
    parameters += 0 if spec.variational else 2 * width
    flops = Flops(2 * rows * length * width * outputs, first=2 * rows * maps * hidden_size * width)
    if spec.mode == "cross_attention":
        seen = tokens or spec.sequence_tokens
        block = 12 * width * width + 6 * width + 4 * width + 5 * width
        parameters += hidden_size * width + width + length * width + spec.attention_layers * block
        each = Flops(2 * rows * width * width * (2 * length + 2 * seen + 8 * length), 4 * rows * length * seen * width)
        flops += Flops(first=2 * rows * seen * hidden_size * width) + each * spec.attention_layers
    return parameters, flops


def latent_to_text(spec: LatentToTextModel, hidden_size: int, network: TwoStateCost, rows: int) -> tuple[int, Flops]:
    """Return parameters and forward operations of a `latent_to_text` adapter.

    Counted: two poolings, compression (two maps if variational), norm, output map.
    """
    width, bottleneck, half = network.spec.hidden_size, spec.bottleneck, network.spec.hidden_size // 2
    pools, flops = 0, Flops()
    if spec.pooling == "attention":
        pools = 2 * (width * half + half + half + 1)
        # the pooled carry is detached: hidden map and weighted sum need no input gradient
        flops = Flops(4 * rows * network.positions * half, first=4 * rows * network.positions * (width * half + width))
    inner = bottleneck // 2 if spec.variational else 2 * width
    extra = 2 * width * inner + 3 * inner if spec.variational else 0
    parameters = pools + extra + inner * bottleneck + 3 * bottleneck
    parameters += bottleneck * spec.tokens * hidden_size + spec.tokens * hidden_size
    first = 2 * rows * 2 * width * inner if spec.variational else 2 * rows * inner * bottleneck
    rest = 2 * rows * (bottleneck * spec.tokens * hidden_size + (inner * bottleneck if spec.variational else 0))
    pooled_learns = spec.pooling == "attention"
    return parameters, flops + (Flops(first + rest) if pooled_learns else Flops(rest, first=first))
