"""Spec of the Universal Transformer: widths, hops, halting per position, signals, attention, readout."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from gridloom.runtime.models.pondering_spec import PonderingSpec
from gridloom.specs.base import Problem


class UniversalTransformerModel(PonderingSpec):
    """Universal Transformer (arXiv 1807.03819): one block, applied up to `halt_max_steps` times (hops).

    With `act` every position has a halting probability of its own, and the ponder cost of PonderingSpec applies.
    """

    kind: Literal["universal_transformer"] = "universal_transformer"
    embedding_size: PositiveInt = 64
    """Width E of the token embeddings, which a linear map without bias takes to H; no map where E = H. Vectors have no
    embedding: a linear map takes their features to H."""
    hidden_size: PositiveInt = 512
    """Width H of the state of a position."""
    heads: PositiveInt = 4
    """Attention heads; must divide `key_depth` and `value_depth`."""
    key_depth: NonNegativeInt = 256
    """Width of queries and keys over all heads; 0 for `hidden_size`."""
    value_depth: NonNegativeInt = 256
    """Width of values over all heads; 0 for `hidden_size`."""
    filter_size: PositiveInt = 256
    """Width of the hidden layer of the position-wise network (ReLU)."""
    halt_max_steps: PositiveInt = 6
    """Maximum number of hops; without `act` every row makes all of them."""
    act: bool = True
    """Whether positions halt separately by adaptive computation time; the fields of halting and ponder cost need it."""
    halt_warmup_steps: NonNegativeInt = 0
    """Optimizer steps at the start in which no gradient passes through the halting probabilities, so that no position
    learns to halt before the block has learnt what more hops are good for."""
    halt_from: Literal["before", "after"] = "before"
    """State from which the halting probability of a hop is read: the one before the block with the hop's signals, as in
    the listing of the paper, or the one after the block."""
    accumulator: Literal["sum", "legacy"] = "sum"
    """`sum`: the output of a position is the sum of its states with weights that sum to 1. `legacy`: the listing of the
    paper, o = w s + (1 - w) o from zero, whose weights sum to less than 1."""
    norm: Literal["pre", "post"] = "pre"
    """Layer norm before each sublayer and once before the readout, or after each sum as in the paper."""
    positions: Literal["sinusoid", "sinusoid_2d", "learned", "none"] = "sinusoid"
    """Position signal, added to the state before every hop: of the index in the row, of the cell's row and column (half
    of the width each; square canvases), a learned row for each index (rows of one length), or none."""
    hop_signal: bool = True
    """Whether the signal of the hop's number (timing signal) is added to the state before every hop."""
    attention: Literal["auto", "full", "causal"] = "auto"
    """`causal`: a position attends to itself and those before it. `auto`: causal for vectors with answers at each time
    step (addition, logic, sort), else full."""
    memory_tokens: Annotated[int, Field(ge=0, le=1024)] = 0
    """Learned positions before each row, which every position attends to; they run as long as the row, are not scored
    and have no ponder cost."""
    readout: Literal["auto", "each", "mean"] = "auto"
    """State that the answers are read from: `each`, that of their own position, and for answers of the whole row that
    of its last valid position; `mean`, the mean over the valid positions. `auto`: `mean` for answers of the whole row,
    else `each`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout in training, on the output of attention and position-wise network before it is added to the state."""

    @property
    def keys(self) -> int:
        """Width of queries and keys over all heads."""
        return self.key_depth or self.hidden_size

    @property
    def values(self) -> int:
        """Width of values over all heads."""
        return self.value_depth or self.hidden_size

    def halts_by_itself(self) -> bool:
        """Whether the initial bias alone ends the hops within the limit; True as well where all hops are wanted at
        first: without ACT, and with `halt_warmup_steps`."""
        return not self.act or self.halt_warmup_steps > 0 or super().halts_by_itself()

    @property
    def any_canvas(self) -> bool:
        """Whether positions mean the same on canvases of other sides: by row and column, or without positions."""
        return self.positions in ("sinusoid_2d", "none")

    def any_length(self, num_features: int) -> bool:
        """Return whether positions mean the same in longer and shorter rows: by index, or without positions."""
        return self.positions in ("sinusoid", "none")

    @property
    def needs_square(self) -> bool:
        """Whether rows must be square canvases."""
        return self.positions == "sinusoid_2d"

    @property
    def reads(self) -> tuple[Literal["tokens", "vectors"], ...]:
        """Vectors where the data has them, as all sequence tasks do, else tokens."""
        return ("vectors", "tokens")

    def problems(self) -> Iterator[Problem]:
        """Yield GL363 for each depth that the heads do not divide."""
        for field, depth in (("key_depth", self.keys), ("value_depth", self.values)):
            if depth % self.heads:
                lower = depth // self.heads * self.heads
                near = " or ".join(str(width) for width in (lower, lower + self.heads) if width)
                shown = depth if getattr(self, field) else f"{depth}, its hidden_size"
                yield Problem(
                    "GL363",
                    field,
                    f"{self.heads} heads of '{{name}}' do not divide its {field} {shown}",
                    f"set {field} to {near}, or change heads",
                    because="heads",
                )
