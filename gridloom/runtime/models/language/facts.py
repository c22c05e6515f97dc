"""Facts of a language model's weights, read without torch: widths, layers, positions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LlamaFacts:
    """Facts of one `llama` model, read from its config without weights."""

    digest: str
    """Identity of the weights: the managed model's pinned sha256, or a digest of the folder's content."""
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    max_positions: int
    num_kv_heads: int = 0
    tied_embeddings: bool = True
    missing: str = ""
    """Command that fetches the weights, if only their published configuration is known; else empty."""
    quantized: str = ""
    """Quantisation method of the weight files by config.json; empty for unquantised weights."""


def _llama(
    hidden_size: int, num_layers: int, num_heads: int, intermediate_size: int, max_positions: int, tied: bool = False
) -> LlamaFacts:
    return LlamaFacts(
        digest="",
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        intermediate_size=intermediate_size,
        vocab_size=128_256,
        max_positions=max_positions,
        num_kv_heads=8,
        tied_embeddings=tied,
    )


_8B = _llama(4096, 32, 32, 14336, 131_072)
_3B = _llama(3072, 28, 24, 8192, 131_072, tied=True)
_1B = _llama(2048, 16, 32, 8192, 131_072, tied=True)
PUBLISHED: dict[str, LlamaFacts] = {
    "meta-llama/Meta-Llama-3-8B-Instruct": _llama(4096, 32, 32, 14336, 8192),
    "meta-llama/Llama-3.1-8B": _8B,
    "meta-llama/Llama-3.1-8B-Instruct": _8B,
    "meta-llama/Llama-3.2-3B-Instruct": _3B,
    "meta-llama/Llama-3.2-1B-Instruct": _1B,
}
"""Published facts by hub id; a test compares the widths with the published numbers of weights."""
