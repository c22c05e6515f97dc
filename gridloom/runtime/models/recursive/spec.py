"""Specs of the recursive networks: widths, cycles, ACT steps, halting."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt

from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.base import Later, Precision, Problem
from gridloom.specs.stages import DepthPhase

VIEW_TOKENS = 10
"""Number of prefix positions of the view in a `task_view` network: dihedral transform and nine colours."""
ROTARY_PARTS = {"rope": 2, "rope_2d": 4}
"""Divisor of the width of a head: pairs of features are rotated, with two axes a pair for each."""


class TrmModel(NetworkSpec):
    """Tiny Recursive Model (arXiv 2510.04871): one shared stack applied over H and L cycles with ACT halting."""

    kind: Literal["trm"] = "trm"
    hidden_size: Annotated[int, Field(ge=8, multiple_of=2)] = 512
    """Width D of tokens and carry."""
    num_heads: PositiveInt = 8
    """Attention heads; must divide `hidden_size`."""
    layers: PositiveInt = 2
    """Number of blocks in the shared stack."""
    H_cycles: PositiveInt = 3
    """H cycles per ACT step; only the last is back-propagated."""
    L_cycles: PositiveInt = 4
    """L cycles per H cycle."""
    expansion: Annotated[float, Field(gt=0)] = 4.0
    """SwiGLU expansion; the inner width is round(expansion * D * 2/3) rounded up to a multiple of 256."""
    mixing: Literal["attention", "mlp"] = "attention"
    """Token mixing: self-attention, or an MLP over positions (fixed canvas)."""
    positions: Literal["rope", "rope_2d", "learned", "none"] = "rope"
    """Position encoding. `rope` rotates by the index in the flat sequence, as the original; `rope_2d` rotates half of
    each head by row and half by column of the cell, so that neighbours are near in both directions on every canvas."""
    puzzle_embedding_len: Annotated[int, Field(ge=0, le=64)] = 16
    """Number of prefix positions; the first holds the puzzle embedding, the others are free registers."""
    puzzle_embedding: Annotated[Literal["table", "task_view"], Later()] = "table"
    """`table`: a learned row for each task under each view, as the original. `task_view`: a learned row for each task,
    then ten tokens that encode the view: its dihedral transform, and for each colour 1-9 the colour shown in its place.
    `task_view` takes eleven prefix positions; its size is independent of the number of views, and it also encodes views
    that training never drew."""
    halt_max_steps: PositiveInt = 16
    """Maximum number of ACT steps; evaluation runs all of them unless `halt` is set."""
    halt_exploration: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that a row must run a random minimum number of ACT steps in training."""
    precision: Precision = "bf16"
    """Activation dtype of the stack; master weights are fp32."""

    @property
    def any_canvas(self) -> bool:
        """Whether no weight depends on a position, as with `rope_2d` alone."""
        return self.positions == "rope_2d"

    @property
    def packing_problem(self) -> str:
        """What must change for packed rows: positions by row and column, and attention."""
        found = [] if self.positions == "rope_2d" else [f"positions: rope_2d, not {self.positions}"]
        found += [] if self.mixing == "attention" else [f"mixing: attention, not {self.mixing}"]
        return " and ".join(found)

    @property
    def needs_square(self) -> bool:
        """Whether rows must be square canvases, as with `rope_2d`."""
        return self.positions == "rope_2d"

    @property
    def embeds_views(self) -> bool:
        """Whether the prefix holds tokens of the view."""
        return self.puzzle_embedding == "task_view"

    @property
    def uneven_heads(self) -> bool:
        """Whether heads of width floor(D / h) are allowed if h does not divide D."""
        return False

    def at_depth(self, phase: DepthPhase) -> Self:
        """Return the spec with the ACT steps and cycles of a training phase."""
        return self.model_copy(
            update={
                "halt_max_steps": min(phase.act_steps, self.halt_max_steps),
                "H_cycles": phase.H_cycles or self.H_cycles,
                "L_cycles": phase.L_cycles or self.L_cycles,
            }
        )

    def problems(self) -> Iterator[Problem]:
        """Yield problems of heads, rotary positions and prefix (GL301, GL302, GL304)."""
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
    """Return up to three divisors of `width` around `wanted`."""
    near = [h for h in range(max(1, wanted - 64), min(width, wanted + 64) + 1) if width % h == 0]
    return sorted(sorted(near, key=lambda h: abs(h - wanted))[:3]) or [1]


class TrmSingleZModel(TrmModel):
    """TRM variant with one state instead of two."""

    kind: Literal["trm_singlez"] = "trm_singlez"  # type: ignore[assignment]


class TrmHier6Model(TrmModel):
    """TRM variant with six latent states, each updated by one L cycle."""

    kind: Literal["trm_hier6"] = "trm_hier6"  # type: ignore[assignment]
    L_cycles: Annotated[int, Field(ge=1, le=6)] = 6
    """L cycles per H cycle; each updates one of the six latent states."""


class HrmModel(TrmModel):
    """Hierarchical Reasoning Model (arXiv 2506.21734): a stack per state, 1-step gradient, Q-learning."""

    kind: Literal["hrm"] = "hrm"  # type: ignore[assignment]
    layers: PositiveInt = 4
    """Number of blocks in each of the two stacks."""
    H_cycles: PositiveInt = 2
    """H cycles per ACT step."""
    L_cycles: PositiveInt = 2
    """L cycles per H cycle."""
    puzzle_embedding_len: Annotated[int, Field(ge=0, le=64)] = 1
    """Number of prefix positions; the first holds the puzzle embedding."""


class TransformerModel(TrmModel):
    """Baseline of the TRM paper: a deep stack called once per ACT step. `num_heads` need not divide `hidden_size`."""

    kind: Literal["transformer"] = "transformer"  # type: ignore[assignment]
    num_heads: PositiveInt = 12
    """Attention heads, each floor(hidden_size / num_heads) wide."""
    layers: PositiveInt = 8
    """Number of blocks in the stack."""
    H_cycles: Literal[1] = 1
    """Fixed: no recursion within an ACT step."""
    L_cycles: Literal[0] = 0
    """Fixed: no latent state."""
    puzzle_embedding_len: Annotated[int, Field(ge=0, le=64)] = 1
    """Number of prefix positions; the first holds the puzzle embedding."""

    @property
    def uneven_heads(self) -> bool:
        """Whether heads of width floor(D / h) are allowed: always."""
        return True


class TrmHybridModel(TrmModel):
    """Network of the z_init hybrid: a TRM of four layers and one ACT step, to which a state is added at every position.

    Combine with a LLaMA by a `text_to_latent` of `mode: injection, projection: linear`.
    """

    kind: Literal["trm_hybrid"] = "trm_hybrid"  # type: ignore[assignment]
    layers: PositiveInt = 4
    """Number of blocks in the shared stack."""
    H_cycles: PositiveInt = 2
    """H cycles per ACT step; only the last is back-propagated."""
    L_cycles: PositiveInt = 1
    """L cycles per H cycle."""
    expansion: Annotated[float, Field(gt=0)] = 2.0
    """SwiGLU expansion."""
    halt_max_steps: PositiveInt = 1
    """Maximum number of ACT steps; above 1 with halting as in any TRM."""
