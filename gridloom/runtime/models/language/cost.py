"""Cost of a language model: parameters, operations of reading and writing, weight and cache bytes."""

from __future__ import annotations

from typing import NamedTuple

from gridloom.runtime.models.flops import BYTES, Flops
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.runtime.models.language.spec import Lora

NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
"""Bits per NF4 weight: 4 + 8-bit scale per 64 weights + fp32 scale per 64 * 256 weights."""
HEAD_CACHE_BYTES = 1 << 30
"""Size limit of `HeadCache` in bytes."""
FITTED_PAIRS = 256
"""Maximum number of first prompts that a language model with `lora` encodes before training."""
HISTORY_SHARE = 4
"""Divisor of a prompt's token budget that gives the part for earlier attempts, if there are several attempts."""


class LlamaCost(NamedTuple):
    """Cost of a causal language model."""

    facts: LlamaFacts

    @property
    def parameters(self) -> int:
        """Number of weights: embeddings, layers with two norms each, final norm, and an output head unless tied."""
        facts = self.facts
        tables = facts.vocab_size * facts.hidden_size * (1 if facts.tied_embeddings else 2)
        return tables + facts.num_layers * (self._layer + 2 * facts.hidden_size) + facts.hidden_size

    def weight_bytes(self, precision: str, quantize: str = "none") -> int:
        """Return the bytes of the weights; `nf4` holds the matrices of the layers in 4 bits per weight plus scales."""
        matrices = self.facts.num_layers * self._layer
        held = NF4_BITS * matrices / 8 if quantize == "nf4" else BYTES[precision] * matrices
        return BYTES[precision] * (self.parameters - matrices) + round(held)

    @property
    def _layer(self) -> int:
        facts = self.facts
        heads = facts.num_kv_heads or facts.num_heads
        key_value = facts.hidden_size // facts.num_heads * heads
        return facts.hidden_size * (2 * facts.hidden_size + 2 * key_value + 3 * facts.intermediate_size)

    def _shapes(self, spec: Lora) -> list[tuple[int, int]]:
        """Return (inputs, outputs) of the matrices of a layer with low-rank weights."""
        facts = self.facts
        width, inner = facts.hidden_size, facts.intermediate_size
        key_value = width // facts.num_heads * (facts.num_kv_heads or facts.num_heads)
        shapes = {
            "q_proj": (width, width),
            "k_proj": (width, key_value),
            "v_proj": (width, key_value),
            "o_proj": (width, width),
            "gate_proj": (width, inner),
            "up_proj": (width, inner),
            "down_proj": (inner, width),
        }
        return [shapes[target] for target in dict.fromkeys(spec.targets)]

    def additions(self, spec: Lora) -> int:
        """Return the number of `lora` weights: A [rank, inputs] and B [outputs, rank] for each matrix of each layer."""
        return self.facts.num_layers * spec.rank * sum(map(sum, self._shapes(spec)))

    def learn(self, rows: int, tokens: int, spec: Lora) -> int:
        """Return the operations of a forward pass over whole prompts and of the backward pass to the `lora` weights.

        The model's own matrices need the gradient of their inputs only, half of a backward pass.
        """
        read = self.read(rows, tokens)
        added = 2 * rows * tokens * self.additions(spec)
        return read.forward + read.linear + read.attention * 5 // 2 + 3 * added

    def read(self, rows: int, tokens: int) -> Flops:
        """Return the operations of a forward pass over whole prompts to the last hidden states, without output head."""
        linear = 2 * rows * tokens * self.facts.num_layers * self._layer
        return Flops(linear, 4 * rows * tokens * tokens * self.facts.hidden_size * self.facts.num_layers)

    def read_tail(self, rows: int, tail: int, head: int) -> Flops:
        """Return the operations of a forward pass over `tail` tokens after `head` cached tokens."""
        facts = self.facts
        linear = 2 * rows * tail * facts.num_layers * self._layer
        return Flops(linear, 4 * rows * tail * (tail + head) * facts.hidden_size * facts.num_layers)

    def head(self, rows: int) -> int:
        """Return the operations of the output head for one token per row."""
        return 2 * rows * self.facts.vocab_size * self.facts.hidden_size

    def write(self, rows: int, prompt: int, new: int, *, reads_last: bool = False) -> Flops:
        """Return the operations of decoding: prompts, then `new` tokens one at a time with cached keys and values.

        The output head runs once per token. The prompt gives the first token, so the body runs `new` - 1 times, or
        `new` times if the state of the last token is read.
        """
        facts = self.facts
        steps = new if reads_last else max(new - 1, 0)
        seen = sum(prompt + i + 1 for i in range(steps))
        step = Flops(
            2 * rows * (steps * facts.num_layers * self._layer + new * facts.vocab_size * facts.hidden_size),
            4 * rows * seen * facts.hidden_size * facts.num_layers,
        )
        return self.read(rows, prompt) + step

    def cache_bytes(self, rows: int, tokens: int, precision: str) -> int:
        """Return the bytes of the keys and values of all layers."""
        facts = self.facts
        heads = facts.num_kv_heads or facts.num_heads
        width = facts.hidden_size // facts.num_heads * heads
        return 2 * facts.num_layers * rows * tokens * width * BYTES[precision]
