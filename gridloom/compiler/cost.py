"""What networks cost, from their configurations: parameters exactly, floating-point operations of the matrix products,
and bytes. Pure arithmetic; nothing here knows a device.

A multiply-add is two operations. Counted are linear maps, attention products and output heads, as PyTorch's flop
counter does; norms, activations, softmax and embeddings are left out. A backward pass costs twice the forward pass,
attention's 2.5 times (it computes the scores again), and once where the input needs no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

from gridloom.compiler.facts import VOCABULARY, LlamaFacts
from gridloom.specs.models import HrmModel, LatentToTextModel, Lora, TextToLatentModel, TrmModel

BYTES = {"fp32": 4, "bf16": 2}
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
"""Of a weight in NF4: a level, a share of its block's 8-bit scale, a share of the fp32 scale of 256 of those."""
HEAD_CACHE_BYTES = 1 << 30
"""What `HeadCache` keeps of prompt heads."""
FITTED_PAIRS = 256
"""First prompts that a language model with `lora` reads before it learns, at most."""
HISTORY_SHARE = 4
"""Where attempts repeat, one part in this many of a prompt's budget is kept for earlier attempts."""


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of a forward pass, with the attention products apart, since their backward pass costs more."""

    linear: int = 0
    attention: int = 0
    first: int = 0
    """Products whose input needs no gradient: only the weights' is computed."""

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.linear + other.linear, self.attention + other.attention, self.first + other.first)

    def __mul__(self, times: int) -> Flops:
        return Flops(self.linear * times, self.attention * times, self.first * times)

    @property
    def forward(self) -> int:
        """Operations of a forward pass."""
        return self.linear + self.attention + self.first

    @property
    def backward(self) -> int:
        """Operations of the backward pass."""
        return 2 * self.linear + self.attention * 5 // 2 + self.first


def inner_width(expansion: float, width: int) -> int:
    """Hidden width of a SwiGLU: round(expansion * width * 2/3), rounded up to a multiple of 256."""
    return -(-round(expansion * width * 2 / 3) // 256) * 256


@dataclass(frozen=True, slots=True)
class TrmCost:
    """A recursive network of any kind, on a square canvas or on rows of another length."""

    spec: TrmModel
    canvas: int
    num_cells: int | None = None
    """Tokens of a row where they are no square canvas."""
    vocabulary: int = VOCABULARY

    @property
    def cells(self) -> int:
        """L, tokens of a row."""
        return self.canvas**2 if self.num_cells is None else self.num_cells

    @property
    def positions(self) -> int:
        """S, prefix and cells."""
        return self.spec.puzzle_embedding_len + self.cells

    @property
    def parameters(self) -> int:
        """Trained weights, without the puzzle table, which is a buffer."""
        width = self.spec.hidden_size
        learned = self.positions * width if self.spec.positions == "learned" else 0
        stacks = 2 if isinstance(self.spec, HrmModel) else 1
        tables = 2 * self.vocabulary * width + learned
        view = 17 * width if self.spec.puzzle_embedding == "task_view" else 0
        return stacks * self.spec.layers * self._layer_parameters + tables + view + 2 * width + 2

    @property
    def _heads_width(self) -> int:
        """Width of all attention heads together: below the model's where they do not divide it (transformer)."""
        return self.spec.hidden_size // self.spec.num_heads * self.spec.num_heads

    @property
    def calls(self) -> int:
        """Stack calls an ACT step, of either stack in the HRM."""
        return self.spec.H_cycles * (self.spec.L_cycles + 1)

    def learnt_calls(self, all_rounds: bool = False) -> int:
        """Stack calls that the backward pass goes through: the last round, in the HRM one call of each stack."""
        if all_rounds:
            return self.calls
        return 2 if isinstance(self.spec, HrmModel) else self.spec.L_cycles + 1

    @property
    def _layer_parameters(self) -> int:
        width, length = self.spec.hidden_size, self.positions
        channel = 3 * width * inner_width(self.spec.expansion, width)
        if self.spec.mixing == "attention":
            return 4 * width * self._heads_width + channel
        return 3 * length * inner_width(self.spec.expansion, length) + channel

    def stack(self, rows: int) -> Flops:
        """One pass of the shared stack."""
        width, length = self.spec.hidden_size, self.positions
        channel = 6 * rows * length * width * inner_width(self.spec.expansion, width)
        if self.spec.mixing == "attention":
            heads = self._heads_width
            layer = Flops(channel + 8 * rows * length * width * heads, 4 * rows * length * length * heads)
        else:
            layer = Flops(channel + 6 * rows * width * length * inner_width(self.spec.expansion, length))
        return layer * self.spec.layers

    def heads(self, rows: int) -> Flops:
        """Output and halting heads."""
        width = self.spec.hidden_size
        return Flops(2 * rows * self.cells * width * self.vocabulary + 4 * rows * width)

    def act_step(self, rows: int) -> Flops:
        """A whole ACT step without gradient."""
        return self.stack(rows) * self.calls + self.heads(rows)

    def train_step(self, rows: int, all_rounds: bool = False) -> int:
        """An ACT step with its backward pass through the last H round, or through all of them.

        The HRM looks an ACT step ahead, without gradient, for what q_continue learns.
        """
        learnt = self.stack(rows) * self.learnt_calls(all_rounds) + self.heads(rows)
        ahead = 0
        if isinstance(self.spec, HrmModel) and self.spec.halt_max_steps > 1:
            ahead = (self.stack(rows) * self.calls).forward
        return self.act_step(rows).forward + ahead + learnt.backward

    def activation_bytes(self, rows: int, all_rounds: bool = False) -> int:
        """What the backward pass needs kept, estimated: 7 D + 3 I values a token and layer call for attention."""
        spec, width, length = self.spec, self.spec.hidden_size, self.positions
        inner = inner_width(spec.expansion, width)
        if spec.mixing == "attention":
            values = length * (7 * width + 3 * inner)
        else:
            values = length * (3 * width + 3 * inner) + 3 * width * inner_width(spec.expansion, length)
        casts = self._layer_parameters if spec.precision != "fp32" else 0
        calls = spec.layers * self.learnt_calls(all_rounds)
        return calls * BYTES[spec.precision] * (rows * values + casts)

    def state_bytes(self, rows: int) -> int:
        """The carry and the temporaries of one stack pass without gradient."""
        spec = self.spec
        inner = inner_width(spec.expansion, spec.hidden_size)
        return BYTES[spec.precision] * rows * self.positions * (8 * spec.hidden_size + 3 * inner)

    def table_bytes(self, num_ids: int, num_tasks: int) -> int:
        """The puzzle table: a row an id and a row a task, fp32; without the ids' where views have embeddings."""
        rows = num_tasks if self.spec.puzzle_embedding == "task_view" else num_ids + num_tasks
        return 4 * self.spec.hidden_size * rows


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

    def weight_bytes(self, precision: str, quantize: str = "none") -> int:
        """What the weights take: with `nf4` the matrices of the layers 4 bits a weight, and their scales."""
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
        """Inputs and outputs of the matrices of a layer that get an addition."""
        facts = self.facts
        width, inner = facts.hidden_size, facts.intermediate_size
        key_value = width // facts.num_heads * (facts.num_kv_heads or facts.num_heads)
        shapes = {
            "q_proj": (width, width), "k_proj": (width, key_value), "v_proj": (width, key_value),
            "o_proj": (width, width), "gate_proj": (width, inner), "up_proj": (width, inner),
            "down_proj": (inner, width),
        }  # fmt: skip
        return [shapes[target] for target in dict.fromkeys(spec.targets)]

    def additions(self, spec: Lora) -> int:
        """Trained weights of `lora`: A [rank, inputs] and B [outputs, rank] for each matrix of each layer."""
        return self.facts.num_layers * spec.rank * sum(map(sum, self._shapes(spec)))

    def learn(self, rows: int, tokens: int, spec: Lora) -> int:
        """A forward pass over whole prompts and the backward pass to the additions.

        Of the model's own matrices only the inputs get a gradient, half of a backward pass.
        """
        read = self.read(rows, tokens)
        added = 2 * rows * tokens * self.additions(spec)
        return read.forward + read.linear + read.attention * 5 // 2 + 3 * added

    def read(self, rows: int, tokens: int) -> Flops:
        """A forward pass over whole prompts to the last hidden states, without the output head."""
        linear = 2 * rows * tokens * self.facts.num_layers * self._layer
        return Flops(linear, 4 * rows * tokens * tokens * self.facts.hidden_size * self.facts.num_layers)

    def read_tail(self, rows: int, tail: int, head: int) -> Flops:
        """A forward pass over `tail` tokens behind `head` cached ones."""
        facts = self.facts
        linear = 2 * rows * tail * facts.num_layers * self._layer
        return Flops(linear, 4 * rows * tail * (tail + head) * facts.hidden_size * facts.num_layers)

    def head(self, rows: int) -> int:
        """The output head, for one token a row."""
        return 2 * rows * self.facts.vocab_size * self.facts.hidden_size

    def write(self, rows: int, prompt: int, new: int, *, reads_last: bool = False) -> Flops:
        """Prompts, then `new` tokens one at a time with cached keys and values; the head runs once a token.

        The prompt gives the first token, so the body runs once less, unless the state after the last one is wanted.
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
        """Keys and values of all layers."""
        facts = self.facts
        heads = facts.num_kv_heads or facts.num_heads
        width = facts.hidden_size // facts.num_heads * heads
        return 2 * facts.num_layers * rows * tokens * width * BYTES[precision]


def text_to_latent(
    spec: TextToLatentModel, hidden_size: int, trm: TrmCost, rows: int, tokens: int = 0
) -> tuple[int, Flops]:
    """Return parameters and forward operations of an adapter in any of its forms.

    Args:
        tokens: token states that `cross_attention` reads; `sequence_tokens` when 0.
    """
    outputs = (1 if spec.mode == "injection" else 2) * trm.spec.hidden_size
    if spec.projection == "linear":
        return hidden_size * outputs, Flops(first=2 * rows * hidden_size * outputs)
    width, length = spec.bottleneck, trm.positions
    maps = 2 if spec.variational else 1
    parameters = maps * (hidden_size * width + width) + length * width + width * outputs + outputs
    parameters += 0 if spec.variational else 2 * width
    flops = Flops(2 * rows * length * width * outputs, first=2 * rows * maps * hidden_size * width)
    if spec.mode == "cross_attention":
        seen = tokens or spec.sequence_tokens
        block = 12 * width * width + 6 * width + 4 * width + 5 * width
        parameters += hidden_size * width + width + length * width + spec.attention_layers * block
        each = Flops(
            2 * rows * width * width * (2 * length + 2 * seen + 8 * length), 4 * rows * length * seen * width
        )
        flops += Flops(first=2 * rows * seen * hidden_size * width) + each * spec.attention_layers
    return parameters, flops


def latent_to_text(spec: LatentToTextModel, hidden_size: int, trm: TrmCost, rows: int) -> tuple[int, Flops]:
    """Return parameters and forward operations: two poolings, compress (two maps if variational), norm, output map."""
    width, bottleneck, half = trm.spec.hidden_size, spec.bottleneck, trm.spec.hidden_size // 2
    pools, flops = 0, Flops()
    if spec.pooling == "attention":
        pools = 2 * (width * half + half + half + 1)
        # the carry that is pooled is detached: neither the hidden map nor the weighted sum gives it a gradient
        flops = Flops(4 * rows * trm.positions * half, first=4 * rows * trm.positions * (width * half + width))
    inner = bottleneck // 2 if spec.variational else 2 * width
    extra = 2 * width * inner + 3 * inner if spec.variational else 0
    parameters = pools + extra + inner * bottleneck + 3 * bottleneck
    parameters += bottleneck * spec.tokens * hidden_size + spec.tokens * hidden_size
    first = 2 * rows * 2 * width * inner if spec.variational else 2 * rows * inner * bottleneck
    rest = 2 * rows * (bottleneck * spec.tokens * hidden_size + (inner * bottleneck if spec.variational else 0))
    pooled_learns = spec.pooling == "attention"
    return parameters, flops + (Flops(first + rest) if pooled_learns else Flops(rest, first=first))
