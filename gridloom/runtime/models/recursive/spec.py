"""Specs of the recursive networks: widths, cycles, ACT steps, halting."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt

from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.base import Later, Precision, Problem
from gridloom.specs.stages import DepthPhase

VIEW_TOKENS = 10
"""Prefix positions that hold the view of a `task_view` network: its turn, and the nine colours."""
ROTARY_PARTS = {"rope": 2, "rope_2d": 4}
"""What the width of a head must be divisible by: pairs of features turn, for two axes two pairs at a time."""


class TrmModel(NetworkSpec):
    """Tiny Recursive Model (arXiv 2510.04871): one shared stack applied over H and L cycles with ACT halting."""

    kind: Literal["trm"] = "trm"
    hidden_size: Annotated[int, Field(ge=8, multiple_of=2)] = 512
    """Width D of tokens and carry."""
    num_heads: PositiveInt = 8
    """Attention heads; must divide `hidden_size`."""
    layers: PositiveInt = 2
    """Blocks in the one shared stack."""
    H_cycles: PositiveInt = 3
    """Rounds an ACT step; only the last is back-propagated."""
    L_cycles: PositiveInt = 4
    """Latent updates a round."""
    expansion: Annotated[float, Field(gt=0)] = 4.0
    """SwiGLU expansion; the inner width is round(expansion * D * 2/3) rounded up to a multiple of 256."""
    mixing: Literal["attention", "mlp"] = "attention"
    """Token mixing: self-attention, or an MLP over positions (fixed canvas)."""
    positions: Literal["rope", "rope_2d", "learned", "none"] = "rope"
    """Position encoding. `rope` turns by the place in the flat sequence, as the original; `rope_2d` turns half of each
    head by the row and half by the column of the cell, so that neighbours are near in both directions on any canvas."""
    puzzle_embedding_len: Annotated[int, Field(ge=0, le=64)] = 16
    """Prefix positions; the first carries the puzzle embedding, the others are free registers."""
    puzzle_embedding: Annotated[Literal["table", "task_view"], Later()] = "table"
    """`table`: a learned row for each task under each view, as the original. `task_view`: a learned row for each task,
    and ten tokens behind it that tell the view: its turn, and for each colour 1-9 what it is shown as. It takes eleven
    prefix positions; its size does not grow with the views, and a view that training never drew has a meaning."""
    halt_max_steps: PositiveInt = 16
    """ACT steps at most; evaluation always runs all of them."""
    halt_exploration: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that a row must run a random minimum number of ACT steps in training."""
    precision: Precision = "bf16"
    """Activation type of the stack; master weights are fp32."""

    @property
    def any_canvas(self) -> bool:
        """Whether no weight belongs to a position: rotary positions in two directions alone."""
        return self.positions == "rope_2d"

    @property
    def needs_square(self) -> bool:
        """Whether rows must be square canvases, as positions in two directions want them."""
        return self.positions == "rope_2d"

    @property
    def embeds_views(self) -> bool:
        """Whether the view of a task has tokens of its own in the prefix."""
        return self.puzzle_embedding == "task_view"

    @property
    def uneven_heads(self) -> bool:
        """Whether heads of width floor(D / h) are allowed where h does not divide D."""
        return False

    def at_depth(self, phase: DepthPhase) -> Self:
        """Return the spec as a phase of a training runs it, with its ACT steps and cycles."""
        return self.model_copy(
            update={
                "halt_max_steps": min(phase.act_steps, self.halt_max_steps),
                "H_cycles": phase.H_cycles or self.H_cycles,
                "L_cycles": phase.L_cycles or self.L_cycles,
            }
        )

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with heads, rotary positions and prefix: GL301, GL302, GL304."""
        head_width = self.hidden_size // self.num_heads
        parts = ROTARY_PARTS.get(self.positions, 1)
        if self.hidden_size % self.num_heads and not self.uneven_heads:
            near = ", ".join(map(str, _divisors_near(self.num_heads, self.hidden_size)))
            yield Problem(
                "GL301",
                "num_heads",
                f"{self.num_heads} heads do not divide hidden_size {self.hidden_size} of '{{name}}'",
                f"{near} do",
                because="hidden_size",
            )
        elif self.mixing == "attention" and head_width % parts:
            yield Problem(
                "GL302",
                "num_heads",
                f"heads of '{{name}}' are {head_width} wide; {self.positions} needs a width divisible by {parts}",
                "use fewer heads, or positions: learned",
            )
        if self.embeds_views and self.puzzle_embedding_len <= VIEW_TOKENS:
            yield Problem(
                "GL304",
                "puzzle_embedding_len",
                f"'{{name}}' has {self.puzzle_embedding_len} prefix positions; puzzle_embedding: task_view "
                f"fills {VIEW_TOKENS + 1}",
                f"write puzzle_embedding_len: {VIEW_TOKENS + 1} or more",
            )


def _divisors_near(wanted: int, width: int) -> list[int]:
    """Return up to three divisors of `width` around `wanted`; 1 is always near enough."""
    near = [h for h in range(max(1, wanted - 64), min(width, wanted + 64) + 1) if width % h == 0]
    return sorted(sorted(near, key=lambda h: abs(h - wanted))[:3]) or [1]


class TrmSingleZModel(TrmModel):
    """TRM variant with one state instead of two."""

    kind: Literal["trm_singlez"] = "trm_singlez"  # type: ignore[assignment]


class TrmHier6Model(TrmModel):
    """TRM variant with six latent states, one set by each L cycle."""

    kind: Literal["trm_hier6"] = "trm_hier6"  # type: ignore[assignment]
    L_cycles: Annotated[int, Field(ge=1, le=6)] = 6
    """Latent updates a round; each has a state of its own, of which there are six."""


class HrmModel(TrmModel):
    """Hierarchical Reasoning Model (arXiv 2506.21734): a stack for each state, 1-step gradient, Q-learning."""

    kind: Literal["hrm"] = "hrm"  # type: ignore[assignment]
    layers: PositiveInt = 4
    """Blocks in each of the two stacks."""
    H_cycles: PositiveInt = 2
    """Rounds an ACT step."""
    L_cycles: PositiveInt = 2
    """Latent updates a round."""
    puzzle_embedding_len: Annotated[int, Field(ge=0, le=64)] = 1
    """Prefix positions; the first carries the puzzle embedding."""


class TransformerModel(TrmModel):
    """The baseline of the TRM paper: a deep stack called once an ACT step. Heads need not divide the width."""

    kind: Literal["transformer"] = "transformer"  # type: ignore[assignment]
    num_heads: PositiveInt = 12
    """Attention heads, each floor(hidden_size / num_heads) wide."""
    layers: PositiveInt = 8
    """Blocks in the stack."""
    H_cycles: Literal[1] = 1
    """It does not recur within a step."""
    L_cycles: Literal[0] = 0
    """It has no latent."""
    puzzle_embedding_len: Annotated[int, Field(ge=0, le=64)] = 1
    """Prefix positions; the first carries the puzzle embedding."""

    @property
    def uneven_heads(self) -> bool:
        """Heads are floor(hidden_size / num_heads) wide."""
        return True


class TrmHybridModel(TrmModel):
    """The z_init hybrid's network: a TRM of four layers and one ACT step, made for a state added at every position.

    Join it to a LLaMA with a `text_to_latent` of `mode: injection, projection: linear`.
    """

    kind: Literal["trm_hybrid"] = "trm_hybrid"  # type: ignore[assignment]
    layers: PositiveInt = 4
    """Blocks in the one shared stack."""
    H_cycles: PositiveInt = 2
    """Rounds an ACT step; only the last is back-propagated."""
    L_cycles: PositiveInt = 1
    """Latent updates a round."""
    expansion: Annotated[float, Field(gt=0)] = 2.0
    """SwiGLU expansion."""
    halt_max_steps: PositiveInt = 1
    """ACT steps; above 1 it halts like any TRM."""
