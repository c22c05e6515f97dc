"""What networks cost, from their configurations: parameters exactly, floating-point operations of the matrix products,
and bytes. Pure arithmetic; nothing here knows a device.

A multiply-add is two operations. Counted are linear maps, attention products and output heads, as PyTorch's flop
counter does; norms, activations, softmax and embeddings are left out. A backward pass costs twice the forward pass,
attention's 2.5 times (it computes the scores again).
"""

from __future__ import annotations

from dataclasses import dataclass

from gridloom.compiler.facts import LlamaFacts
from gridloom.specs.models import LatentToTextModel, TextToLatentModel, TrmModel

VOCABULARY = 12
BYTES = {"fp32": 4, "bf16": 2}


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of a forward pass, with the attention products apart, since their backward pass costs more."""

    linear: int = 0
    attention: int = 0

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.linear + other.linear, self.attention + other.attention)

    def __mul__(self, times: int) -> Flops:
        return Flops(self.linear * times, self.attention * times)

    @property
    def forward(self) -> int:
        """Operations of a forward pass."""
        return self.linear + self.attention

    @property
    def backward(self) -> int:
        """Operations of the backward pass."""
        return 2 * self.linear + self.attention * 5 // 2


def inner_width(expansion: float, width: int) -> int:
    """Hidden width of a SwiGLU: round(expansion * width * 2/3), rounded up to a multiple of 256."""
    return -(-round(expansion * width * 2 / 3) // 256) * 256


@dataclass(frozen=True, slots=True)
class TrmCost:
    """A TRM on a square canvas."""

    spec: TrmModel
    canvas: int

    @property
    def positions(self) -> int:
        """S, prefix and cells."""
        return self.spec.puzzle_embedding_len + self.canvas**2

    @property
    def parameters(self) -> int:
        """Trained weights, without the puzzle table, which is a buffer."""
        width = self.spec.hidden_size
        learned = self.positions * width if self.spec.positions == "learned" else 0
        return self.spec.layers * self._layer_parameters + 2 * VOCABULARY * width + learned + 2 * width + 2

    @property
    def _layer_parameters(self) -> int:
        width, length = self.spec.hidden_size, self.positions
        channel = 3 * width * inner_width(self.spec.expansion, width)
        if self.spec.mixing == "attention":
            return 4 * width * width + channel
        return 3 * length * inner_width(self.spec.expansion, length) + channel

    def stack(self, rows: int) -> Flops:
        """One pass of the shared stack."""
        width, length = self.spec.hidden_size, self.positions
        channel = 6 * rows * length * width * inner_width(self.spec.expansion, width)
        if self.spec.mixing == "attention":
            layer = Flops(channel + 8 * rows * length * width * width, 4 * rows * length * length * width)
        else:
            layer = Flops(channel + 6 * rows * width * length * inner_width(self.spec.expansion, length))
        return layer * self.spec.layers

    def heads(self, rows: int) -> Flops:
        """Output and halting heads."""
        width = self.spec.hidden_size
        return Flops(2 * rows * self.canvas**2 * width * VOCABULARY + 4 * rows * width)

    def act_step(self, rows: int) -> Flops:
        """A whole ACT step without gradient."""
        calls = self.spec.H_cycles * (self.spec.L_cycles + 1)
        return self.stack(rows) * calls + self.heads(rows)

    def train_step(self, rows: int, all_rounds: bool = False) -> int:
        """An ACT step with its backward pass through the last H round, or through all of them."""
        rounds = self.spec.H_cycles if all_rounds else 1
        learnt = self.stack(rows) * (rounds * (self.spec.L_cycles + 1)) + self.heads(rows)
        return self.act_step(rows).forward + learnt.backward

    def activation_bytes(self, rows: int, all_rounds: bool = False) -> int:
        """What the backward pass needs kept, estimated: 7 D + 3 I values a token and layer call for attention."""
        spec, width, length = self.spec, self.spec.hidden_size, self.positions
        inner = inner_width(spec.expansion, width)
        if spec.mixing == "attention":
            values = length * (7 * width + 3 * inner)
        else:
            values = length * (3 * width + 3 * inner) + 3 * width * inner_width(spec.expansion, length)
        casts = self._layer_parameters if spec.precision != "fp32" else 0
        calls = spec.layers * (spec.L_cycles + 1) * (spec.H_cycles if all_rounds else 1)
        return calls * BYTES[spec.precision] * (rows * values + casts)

    def state_bytes(self, rows: int) -> int:
        """The carry and the temporaries of one stack pass without gradient."""
        spec = self.spec
        inner = inner_width(spec.expansion, spec.hidden_size)
        return BYTES[spec.precision] * rows * self.positions * (8 * spec.hidden_size + 3 * inner)

    def table_bytes(self, num_ids: int, num_tasks: int) -> int:
        """The puzzle table: a row an id and a row a task, fp32."""
        return 4 * self.spec.hidden_size * (num_ids + num_tasks)


@dataclass(frozen=True, slots=True)
class LlamaCost:
    """A causal language model."""

    facts: LlamaFacts

    @property
    def parameters(self) -> int:
        """All weights: embeddings, layers with two norms each, the last norm, and an output head if it is not tied."""
        facts = self.facts
        tables = facts.vocab_size * facts.hidden_size * (1 if facts.tied_embeddings else 2)
        return tables + facts.num_layers * (self._layer + 2 * facts.hidden_size) + facts.hidden_size

    @property
    def _layer(self) -> int:
        facts = self.facts
        heads = facts.num_kv_heads or facts.num_heads
        key_value = facts.hidden_size // facts.num_heads * heads
        return facts.hidden_size * (2 * facts.hidden_size + 2 * key_value + 3 * facts.intermediate_size)

    def read(self, rows: int, tokens: int) -> Flops:
        """A forward pass over whole prompts to the last hidden states, without the output head."""
        linear = 2 * rows * tokens * self.facts.num_layers * self._layer
        return Flops(linear, 4 * rows * tokens * tokens * self.facts.hidden_size * self.facts.num_layers)

    def write(self, rows: int, prompt: int, new: int) -> Flops:
        """Prompts, then `new` tokens one at a time with cached keys and values; the head runs once a token."""
        facts = self.facts
        seen = sum(prompt + i + 1 for i in range(new))
        step = Flops(
            2 * rows * new * (facts.num_layers * self._layer + facts.vocab_size * facts.hidden_size),
            4 * rows * seen * facts.hidden_size * facts.num_layers,
        )
        return self.read(rows, prompt) + step

    def cache_bytes(self, rows: int, tokens: int, precision: str) -> int:
        """Keys and values of all layers."""
        facts = self.facts
        heads = facts.num_kv_heads or facts.num_heads
        width = facts.hidden_size // facts.num_heads * heads
        return 2 * facts.num_layers * rows * tokens * width * BYTES[precision]


def is_estimated(spec: TextToLatentModel | LatentToTextModel) -> bool:
    """Whether the two functions below describe the adapter: its plain form, no bridge and no sampled bottleneck."""
    if isinstance(spec, LatentToTextModel):
        return not spec.variational
    return spec.mode != "cross_attention" and spec.projection == "bottleneck" and not spec.variational


def text_to_latent(spec: TextToLatentModel, hidden_size: int, trm: TrmCost, rows: int) -> tuple[int, Flops]:
    """Return parameters and forward operations: compress, norm, a table of positions, and the output map."""
    width, bottleneck, out = trm.spec.hidden_size, spec.bottleneck, (2 if spec.mode == "carry" else 1)
    parameters = (
        hidden_size * bottleneck + bottleneck + 2 * bottleneck + trm.positions * bottleneck
        + bottleneck * out * width + out * width
    )  # fmt: skip
    flops = 2 * rows * (hidden_size * bottleneck + trm.positions * bottleneck * out * width)
    return parameters, Flops(flops)


def latent_to_text(spec: LatentToTextModel, hidden_size: int, trm: TrmCost, rows: int) -> tuple[int, Flops]:
    """Return parameters and forward operations: two poolings, compress, norm, and the output map."""
    width, bottleneck = trm.spec.hidden_size, spec.bottleneck
    half = width // 2
    pools = 2 * (width * half + half + half + 1) if spec.pooling == "attention" else 0
    pooled = 2 * (2 * trm.positions * (width * half + half) + 2 * trm.positions * width)
    maps = 2 * width * bottleneck + bottleneck * spec.tokens * hidden_size
    parameters = pools + maps + bottleneck + 2 * bottleneck + spec.tokens * hidden_size
    return parameters, Flops(rows * ((pooled if spec.pooling == "attention" else 0) + 2 * maps))
