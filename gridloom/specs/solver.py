"""The `solver` block of a solve stage: how many attempts, with what plans, judged by which verifiers."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from gridloom.specs.base import Later, Operational, Registered, SpecModel
from gridloom.specs.solver_kinds import AUTO, POLICIES, PROPOSERS, VERIFIERS

Weight = Annotated[float, Field(ge=0)]
Latents = Literal["own", "shuffled", "zero"]


class Verifier(SpecModel):
    """How an attempt is judged without the held-out answer: weights of the signals and the score that accepts.

    Each signal gives a score in [0, 1]; a signal that cannot be computed for a task takes no part in the mean.
    Verifiers of other packages are weighed by their names, as keys beside those below; so are those of programs,
    `fits_demonstrations`, `found_again` and `unrivalled` (4 each where a program is judged) and `short_program` (1).
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[Annotated[str, Registered(VERIFIERS, never=("oracle",))], Weight]
    leave_one_out: Weight = 2.0
    """Share of the demonstrations that training never saw (`data.*.check_demos`) reproduced exactly."""
    agreement: Weight = 2.0
    """Share of the views that voted for the proposed grid."""
    form: Weight = 1.0
    """Well-formedness: rectangular, within 30x30, no holes, not a copy of the input unless a demonstration is one."""
    shape: Weight = 1.0
    """Size rules that all demonstrations obey."""
    palette: Weight = 1.0
    """Output colours within what the demonstrations allow."""
    confidence: Weight = 0.5
    """The TRM's halting probability."""
    accept: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Score from which the attempt is accepted and the loop stops."""

    def weights(self) -> dict[str, float]:
        """Return the weight of each verifier by name: built-in ones, then those of other packages by name.

        The order is that of the sums, so it does not depend on the order in which a spec was written or read.
        """
        own = {name: float(getattr(self, name)) for name in type(self).model_fields if name != "accept"}
        return {**own, **dict(sorted((self.model_extra or {}).items()))}


class Reason(SpecModel):
    """Settings of the LLaMA's prompt and sampling."""

    max_new_tokens: Annotated[int, Field(ge=0, le=1_048_576)] = 32
    """Tokens to generate an attempt; 0 reads the hidden state of the prompt only."""
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0
    """Sampling temperature of the first attempt; 0 is greedy."""
    temperature_step: Annotated[float, Field(ge=0, le=5)] = 0.3
    """Added at each retry, so that a repeated proposal is not repeated for ever."""
    prompt: Literal["plain", "compact"] = "plain"
    """How grids are written: `plain` with spaces between the digits, `compact` without, about half as many tokens."""


class Budget(SpecModel):
    """Limits of one task, counted over all its attempts and kept across a crash; no attempt begins beyond them."""

    tokens: PositiveInt | None = None
    """Tokens read and written by the LLaMA."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds of the task's own work, its share of shared batches. Depends on the machine, so results may too."""


class Confirm(SpecModel):
    """Questions that a language model alone is asked again about its grid, which is accepted on agreement alone."""

    left_out: Annotated[int, Field(ge=0, le=10)] = 1
    """Demonstrations, each left out of the prompt once, whose output the model must then predict."""
    views: Annotated[int, Field(ge=0, le=32)] = 1
    """Views of the whole task (a turn or reflection, and a permutation of the colours other than 0) under which the
    model must give the same grid."""


SEARCH_VERSION = 4
"""Version of the search, in the key of a stage that searches: another one may find other programs within the same
budget, and rank them otherwise."""


class Search(SpecModel):
    """Search of programs: the first attempt, and later ones that go deeper."""

    depths: tuple[Annotated[int, Field(ge=10, le=60)], ...] = (20,)
    """Cost of the dearest image of each search attempt, about 10 a function. The first attempt has the first depth; the
    others come after the attempts of the network or the language model, the last ones of `max_attempts`."""
    states: Annotated[int, Field(ge=100, le=4_000_000)] = 100_000
    """States that a search may keep."""
    pieces: Annotated[int, Field(ge=100, le=200_000)] = 20_000
    """Pieces that outputs may be composed of."""
    megabytes: Annotated[int, Field(ge=16, le=16_384)] = 256
    """Memory of the images of a search, in 2^20 bytes."""
    turns: Annotated[tuple[Annotated[int, Field(ge=0, le=7)], ...], Later()] = Field(
        (0,), exclude_if=lambda turns: turns == (0,)
    )
    """Dihedral ids under which the grids are searched, one after the other until a program fits every demonstration:
    6 exchanges rows and columns."""
    rules: Annotated[bool, Later()] = Field(True, exclude_if=lambda rules: rules)
    """Learn rules of cells beside layers of images, where an image of the outputs' size is known."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """Time of one search, after which its result depends on the machine; without it states alone are counted."""

    @model_validator(mode="after")
    def _has_depths(self) -> Self:
        if not self.depths:
            raise ValueError("name at least one depth, as in  depths: [20]")
        if not self.turns:
            raise ValueError("name at least one turn, as in  turns: [0]")
        return self


class Solver(SpecModel):
    """The loop plan -> reason -> adapt -> propose -> verify -> record, repeated until accepted or out of attempts."""

    max_attempts: PositiveInt = 4
    """Trips round the loop for one task."""
    policy: Annotated[str, Registered(POLICIES)] = "fixed"
    """How the next attempt is chosen: `fixed` repeats one plan on other views, a little warmer each time; `escalate`
    makes each attempt harder (more views, warmer, the other prompt form, more ACT steps); `bandit` draws plans by how
    well such plans were judged in the ledger's earlier runs. Other packages may bring more."""
    # absent from graphs at its default, which were written before the field came
    proposer: Annotated[str, Registered(PROPOSERS, also=(AUTO,)), Later()] = Field(
        AUTO, exclude_if=lambda name: name == AUTO
    )
    """What proposes grids: `trm` runs the checkpoint's network, `text` takes the grid that a language model wrote
    alone, `search` searches programs and needs no `with`, `auto` is the one of the first two that fits what `with`
    names. Other packages may bring more."""
    # absent from graphs at its default, which were written before the field came
    search: Annotated[Search | None, Later()] = Field(None, exclude_if=lambda search: search is None)
    """Search programs before the network or the language model is asked, and deeper after it; `proposer: search` alone
    searches by this block, or by its defaults. Without it no other proposer searches."""
    budget: Budget = Budget()
    """What one task may cost beside its attempts."""
    early_stop: bool = True
    """End a task when the attempts that are left could no longer change its picks."""
    views: PositiveInt = 8
    """Views of the test input an attempt predicts and votes over."""
    act_steps: PositiveInt | None = None
    """ACT steps of the TRM; the model's `halt_max_steps` when absent."""
    halt: Annotated[Literal["none", "score", "unchanged"], Later()] = "none"
    """Let a row of the TRM stop before its last ACT step, which changes results: where the network would halt by its
    `score`, as in training, or where its grid is `unchanged` from one step to the next. `none` makes every step."""
    patience: Annotated[PositiveInt, Later()] = 1
    """Consecutive steps that must meet the `halt` criterion before a row stops; ignored with `halt: none`."""
    in_flight: Annotated[PositiveInt, Operational()] = 8
    """Tasks under way at once; their model calls share batches. Changes results by float rounding at most."""
    feedback: bool = True
    """Feed the verdict's text and the last latent back into the next attempt."""
    reason: Reason = Reason()
    """The LLaMA step; ignored when the checkpoint holds no LLaMA."""
    latents: Latents = "own"
    """LLaMA states that the TRM reads, for an ablation: the task's `own`, those of another task (`shuffled`), or the
    mean state of training, which the adapter reads as `zero`."""
    verifier: Verifier = Verifier()
    """The judge."""
    # absent from graphs at its default, which were written before the field came
    confirm: Annotated[Confirm | None, Later()] = Field(None, exclude_if=lambda confirm: confirm is None)
    """Ask a language model that solves alone again, and accept its grid on agreement; without it no grid of such a
    model is accepted. The questions count in `budget.tokens`. Ignored where a checkpoint proposes."""
