"""Spec of the model engine: the fields of the recursive core, and a section for each switchable part.

A part is switched on by its section, which may be empty (`memory: {}`), and off by leaving it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.specs.base import Later, Problem, SpecModel
from gridloom.specs.validation import default_of

PARTS = (
    "deep_supervision",
    "decoder",
    "vision",
    "capsules",
    "unified",
    "planning",
    "multi_token",
    "memory",
    "concepts",
    "dqn",
    "gradient_checkpointing",
)
"""Switchable parts by the name of their field: sections, and two flags."""
FLAGS = ("unified", "gradient_checkpointing")
"""Parts that are true or false; every other one is a section."""
Share = Annotated[float, Field(ge=0, le=1)]


class DeepSupervision(SpecModel):
    """Answer loss at earlier H cycles of an ACT step, with a gradient one cycle deep."""

    steps: PositiveInt = 3
    """Number of H cycles before the last that get a loss, evenly spaced; every one if `steps` exceeds them."""


class Decoder(SpecModel):
    """Autoregressive answers: prefix-LM over source and answer tokens. Answer token i reads the tokens before it."""


class Vision(SpecModel):
    """Recursive encoder of the drawn row: patches with learned 2-D positions, H and L cycles without rotary positions.

    The row reaches the network through its image alone.
    """

    draw: Literal["grid", "text"] = "grid"
    """`grid`: cells of a canvas in the colours of a fixed palette; `text`: characters on pages of 28 x 12."""
    image: Annotated[int, Field(ge=16, le=1024)] = 224
    """Side of an image in pixels."""
    patch: Annotated[int, Field(ge=2, le=256)] = 16
    """Side of a patch in pixels; divides `image`."""
    layers: PositiveInt = 2
    """Blocks of the encoder's stack; with `unified` the core's stack is used."""
    H_cycles: PositiveInt = 2
    """H cycles of the encoder; the last is back-propagated."""
    L_cycles: PositiveInt = 3
    """L cycles per H cycle of the encoder."""


class Capsules(SpecModel):
    """Hierarchical encoding of a page: k sketches, a checksum of each, and m children that can be opened."""

    capsules: PositiveInt = 12
    """Number k of sketches of a page."""
    children: PositiveInt = 4
    """Number m of children of a capsule."""
    checksum: PositiveInt = 32
    """Width R of a checksum."""
    pooling: Literal["attention", "average"] = "attention"
    """`attention`: learned weights over patches; `average`: means over the cells of `grid`."""
    grid: tuple[PositiveInt, PositiveInt] = (3, 4)
    """Rows and columns of `average` pooling; their product is `capsules`."""
    open: Literal["none", "all", "learned"] = "none"
    """Which capsules show their children to the core: `learned` opens one with each EXPAND action of `dqn`."""
    hierarchy: bool = True
    """Attention bias between an open capsule and its children: +2 from parent, +1.5 from child, +0.5 of siblings."""
    checksum_threshold: Annotated[float, Field(ge=-1, le=1)] = 0.5
    """A row may halt before its last step if its mean reconstructability reaches this."""
    reconstruction_weight: NonNegativeFloat = 0.5
    """Weight of the losses of checksums and children, times 0.5."""


class Planning(SpecModel):
    """Latent planning: paths of continuous thoughts, scored and merged, behind a gate."""

    paths: PositiveInt = 4
    """Number P of paths."""
    depth: PositiveInt = 2
    """Number of thoughts of a path, and of planner layers."""
    gate: bool = True
    """Learned gate of each row; in evaluation rows with a gate below 0.5 skip the planner."""
    path_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability that a path is dropped for a row in training; at least one is kept."""
    temperature: PositiveFloat = 1.0
    """Temperature of the softmax over the paths' values."""


class MultiToken(SpecModel):
    """Multi-token prediction (DeepSeek-V3): modules that predict tokens 2 to `depths` + 1 ahead in training."""

    depths: Annotated[int, Field(ge=1, le=8)] = 3
    """Number of modules."""
    weight: PositiveFloat = 0.5
    """Weight lambda of the mean loss of the modules."""
    between: Annotated[bool, Later()] = Field(default=True, exclude_if=default_of(True))
    """Whether a module reads the tokens between, up to the one before its own. Without them (arXiv 2404.19737) the
    state of an answer alone must say what comes."""


class Memory(SpecModel):
    """Memory bank of solved rows: address from the question, value from the solution; kept in checkpoints."""

    capacity: Annotated[int, Field(ge=1, le=1_048_576)] = 4096
    """Number C of entries."""
    heads: PositiveInt = 8
    """Heads of the read; must divide `hidden_size`."""
    read: PositiveInt = 32
    """Number of nearest entries that a read weighs."""
    reward_threshold: float = 0.05
    """A row is written when it halts in training with a reward above this: 1 where exact, else -0.5."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability that a row's read is dropped in training, so that the network does not rely on it."""


class Concepts(SpecModel):
    """Vector-quantised codebook of concepts over the capsules, by exponential moving averages."""

    concepts: Annotated[int, Field(ge=2, le=65_536)] = 2048
    """Number K of codes."""
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Decay of the moving averages of counts and sums."""
    commitment: PositiveFloat = 0.25
    """Weight beta of the commitment loss, which pulls sketches towards their codes."""
    refinement: Share = 0.5
    """Share of the code of a capsule's state that is added to the state from H cycle 2 on."""
    dead_after: PositiveInt = 5000
    """Optimizer steps below 1% of the mean count after which a code is replaced by a current sketch."""


class Dqn(SpecModel):
    """Halting by double deep Q-learning with a replay buffer; actions CONTINUE, HALT, EXPAND."""

    capacity: Annotated[int, Field(ge=1, le=2_000_000)] = 20_000
    """Transitions in the replay buffer."""
    min_size: PositiveInt = 5000
    """Transitions before learning starts."""
    batch: PositiveInt = 256
    """Transitions per optimizer step."""
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Discount."""
    tau: Annotated[float, Field(gt=0, le=1)] = 0.005
    """Rate at which the target network follows the Q network, once per optimizer step."""
    epsilon: Share = 0.5
    """Probability of a random action at step 0."""
    epsilon_end: Share = 0.05
    """Probability of a random action after `epsilon_steps`."""
    epsilon_steps: PositiveInt = 100_000
    """Optimizer steps over which the probability falls in a straight line."""
    hidden: PositiveInt = 128
    """Width of the hidden layers of the Q network."""
    layers: PositiveInt = 1
    """Hidden layers of the Q network."""
    step_penalty: NonNegativeFloat = 0.01
    """Cost of a further ACT step."""
    reward_exact: float = 1.0
    """Reward of halting on an exact answer."""
    reward_wrong: float = -0.5
    """Reward of halting on any other answer."""
    prioritized: bool = False
    """Sample transitions in proportion to their errors (prioritized experience replay, arXiv 1511.05952)."""
    per_alpha: Share = 0.6
    """Exponent of priorities."""
    per_beta: Share = 0.4
    """Exponent of importance weights at step 0; it rises to 1 over `epsilon_steps`."""
    count_curiosity: NonNegativeFloat = 0.0
    """Weight beta of the bonus beta / sqrt(N + 1) for a state whose hash was seen N times; 0.05 is usual."""
    rnd_curiosity: NonNegativeFloat = 0.0
    """Weight of the bonus by random network distillation (arXiv 1810.12894); 0.1 is usual."""


class EngineModel(TrmModel):
    """Recursive core (the TRM's) with switchable parts; without any part it computes what a `trm` does."""

    kind: Literal["engine"] = "engine"  # type: ignore[assignment]
    mixing: Literal["attention"] = "attention"
    """Token mixing: self-attention."""
    puzzle_embedding: Literal["table"] = "table"
    """A learned row for each task under each view."""
    num_key_value_heads: PositiveInt | None = None
    """Heads of keys and values, shared by groups of query heads (GQA); divides `num_heads`, which is the default."""
    gradient_checkpointing: bool = False
    """Recompute activations of stack calls in the backward pass: less memory, one more forward pass."""
    unified: bool = False
    """The core's stack also encodes images, with a learned role vector; needs `vision`."""
    deep_supervision: DeepSupervision | None = None
    """Losses at earlier H cycles."""
    decoder: Decoder | None = None
    """Autoregressive answers instead of parallel ones."""
    vision: Vision | None = None
    """Read rows as images."""
    capsules: Capsules | None = None
    """Pool the patches of an image into capsules; needs `vision`."""
    planning: Planning | None = None
    """Latent planning after the last H cycle."""
    multi_token: MultiToken | None = None
    """Multi-token prediction; needs `decoder`."""
    memory: Memory | None = None
    """Memory bank."""
    concepts: Concepts | None = None
    """Codebook of concepts; needs `capsules`."""
    dqn: Dqn | None = None
    """Learned halting."""

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_key_value_heads or self.num_heads

    @property
    def packing_problem(self) -> str:
        """Why packed rows are refused: parts have sizes that follow from the row's length."""
        return "a recursive network such as a trm, not an engine"

    @property
    def any_canvas(self) -> bool:
        """Whether rows of any square canvas can run: never, a part may hold weights of positions."""
        return False

    @property
    def part_versions(self) -> dict[str, int]:
        """Version 2 of the memory bank: its projections start as one rotation."""
        return {} if self.memory is None else {"memory": 2}

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the parts that are on."""
        return tuple(name for name in PARTS if getattr(self, name) not in (None, False))

    def problems(self) -> Iterator[Problem]:
        """Yield problems of the core, and of parts that need or exclude one another (GL301, GL303)."""
        yield from super().problems()
        if self.num_heads % self.kv_heads:
            yield Problem(
                "GL301",
                "num_key_value_heads",
                f"{self.kv_heads} heads of keys and values do not divide the {self.num_heads} heads of '{{name}}'",
                "write a divisor of num_heads",
                because="num_heads",
            )
        for part, needs in (
            ("capsules", "vision"),
            ("unified", "vision"),
            ("concepts", "capsules"),
            ("multi_token", "decoder"),
        ):
            if part in self.active and needs not in self.active:
                why = "it predicts tokens ahead, so answers must be causal" if part == "multi_token" else ""
                yield Problem(
                    "GL303",
                    part,
                    f"'{{name}}' has {part} without {needs}" + (f"; {why}" if why else ""),
                    f"add  {needs}: {'true' if needs in FLAGS else '{}'}  or remove {part}",
                )
        if self.positions == "rope_2d" and ("vision" in self.active or "decoder" in self.active):
            yield Problem(
                "GL303",
                "positions",
                "'{name}' has rope_2d with vision or decoder: rotary positions run along the 1-D answer alone",
                "write positions: rope",
            )
        if self.memory is not None and self.hidden_size % self.memory.heads:
            yield Problem(
                "GL301",
                "memory",
                f"{self.memory.heads} heads of the memory do not divide hidden_size {self.hidden_size} of '{{name}}'",
                "write a divisor of hidden_size as memory.heads",
                because="hidden_size",
            )
        yield from self._vision_problems()

    def _vision_problems(self) -> Iterator[Problem]:
        vision, capsules = self.vision, self.capsules
        if vision is None:
            return
        if vision.image % vision.patch:
            yield Problem(
                "GL303",
                "vision",
                f"patches of {vision.patch} pixels do not divide the image of {vision.image} of '{{name}}'",
                "write a patch that divides image",
            )
        if self.puzzle_embedding_len:
            yield Problem(
                "GL303",
                "puzzle_embedding_len",
                "'{name}' has a puzzle prefix with vision, which reads the row from its image alone",
                "write puzzle_embedding_len: 0",
                because="vision",
            )
        if self.unified and self.vision is not None and vision.layers != self.layers:
            yield Problem(
                "GL303",
                "unified",
                f"'{{name}}' is unified, and vision.layers {vision.layers} is not the core's layers {self.layers}",
                f"write layers: {self.layers} under vision",
            )
        if capsules is None:
            return
        patches = (vision.image // vision.patch) ** 2
        if capsules.pooling == "average" and capsules.grid[0] * capsules.grid[1] != capsules.capsules:
            yield Problem(
                "GL303",
                "capsules",
                f"a grid of {capsules.grid[0]} x {capsules.grid[1]} is not {capsules.capsules} capsules of '{{name}}'",
                "write a grid whose product is capsules",
            )
        if capsules.children > patches:
            yield Problem(
                "GL303",
                "capsules",
                f"{capsules.children} children exceed the {patches} patches of an image of '{{name}}'",
                f"write children: {patches} or less",
            )
        if capsules.open == "learned" and self.dqn is None:
            yield Problem(
                "GL303",
                "capsules",
                "'{name}' opens capsules by a learned action without dqn, which learns it",
                "add  dqn: {}  or write open: all",
            )
