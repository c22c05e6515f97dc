"""What passes round the solver loop: plans, proposals, verdicts, and the state LangGraph checkpoints.

Every record is plain data (ints, floats, strings, bytes, lists), so that a checkpoint restores without code, and none
has a field for a held-out answer.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from gridloom.runtime.data.files.grids import GridRows


class LoopRecord(BaseModel):
    """Base of the loop's records: immutable, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Plan(LoopRecord):
    """How one attempt is made. Replaying it with the same models and record gives the same bits."""

    attempt: int
    """Counts from 1."""
    seed: int
    """Derived from the stage's seed and the task id, so that the order of tasks changes nothing."""
    views: tuple[str, ...] = ()
    """Views voted over beside the identity: `t3|||0213456789`, the tail of a puzzle id's name."""
    prompt: str = "plain"
    """Prompt form."""
    focus: int = 0
    """The test input that the prompt shows."""
    temperature: float = 0.0
    """Sampling temperature of the LLaMA; 0 is greedy."""
    max_new_tokens: int = 0
    """Tokens the LLaMA may write."""
    feedback: bool = False
    """The prompt tells of the attempts before."""
    prefix: bool = False
    """The LLaMA reads the latent of the attempt before."""
    act_steps: int | None = None
    """ACT steps of the TRM; the model's own number when None."""
    halt: Literal["none", "score", "unchanged"] = "none"
    """When a row of the TRM stops before its last ACT step."""
    patience: Annotated[int, Field(ge=1)] = 1
    """Steps in a row that must say so."""
    policy: str = "fixed"
    """The policy that chose it."""
    arm: str = ""
    """What kind of plan it is, as the bandit counts them: `plain.cool.narrow.short`."""


class Reasoning(LoopRecord):
    """What the LLaMA answered."""

    prompt: str
    text: str
    latent: bytes | None
    """Hidden state handed to the adapter, fp16 [hidden_size]; rounded before use, so that the record is what ran. None
    where no adapter reads one."""
    prompt_tokens: int
    new_tokens: int
    prefix: bytes | None = None
    """The latent prefix it read, fp16 [tokens, hidden_size]."""
    prefix_tokens: int = 0
    dropped_demos: int = 0
    dropped_attempts: int = 0
    over_budget: int = 0
    duration_s: float = 0.0
    """The call's share of its batch's time."""
    geometry: dict[str, Any] = {}
    """Batch shape and row of the call."""


class Candidate(LoopRecord):
    """One proposed grid for one test input, after its views were inverted and counted."""

    grid: GridRows
    source: str
    """What proposed it: `trm`, `llama` for a grid read from its text, or the name of another proposer."""
    votes: int
    """Views that gave exactly this grid."""
    num_views: int
    """Views asked."""
    confidence: float | None = None
    """Mean halting probability of the views that voted for it."""
    whole: float | None = None
    """Share of those views whose border of EOS was unbroken; None where there are no tokens to look at."""


class ActStep(LoopRecord):
    """One ACT step over the attempt's rows."""

    q_halt: float
    """Mean halting logit."""
    changed_cells: int
    """Token positions whose argmax changed against the step before."""
    num_rows: int | None = None
    """Rows that made the step; None in older records, where all did."""


class Proposal(LoopRecord):
    """What the TRM and the LLaMA's text propose: ranked candidates a test input, and the work on the check pairs."""

    candidates: tuple[tuple[Candidate, ...], ...]
    """Per test input, best first; empty where nothing could be read."""
    checks: tuple[tuple[Candidate, ...], ...] = ()
    """The same for each demonstration that training never saw."""
    steps: tuple[ActStep, ...] = ()
    digest: str = ""
    """sha256 over the raw tokens and halting logits of the attempt's rows, and the prefix."""
    prefix: bytes | None = None
    """Latent prefix for the next attempt, fp16 [tokens, hidden_size]."""
    geometry: dict[str, Any] = {}
    """Batch shape, device, threads and versions that bit-equal re-execution needs."""
    seconds: float = 0.0
    """The attempt's share of the TRM's time."""
    only: int | None = None
    """The one test input that was asked about; all of them when None."""

    def grids(self) -> list[GridRows]:
        """Return the proposed grid of each test input; [] where there is none."""
        return [list(ranked[0].grid) if ranked else [] for ranked in self.candidates]


class Signal(LoopRecord):
    """What one verifier says of an attempt."""

    name: str
    score: float | None
    """In [0, 1]; None when it cannot be computed for this task and so takes no part."""
    detail: str = ""
    """What is wrong, from demonstrations and model outputs alone; empty when nothing is."""


class Verdict(LoopRecord):
    """The combined judgement of an attempt, reached without the held-out answer."""

    accepted: bool
    score: float
    """Weighted mean of the available signals, in [0, 1]."""
    signals: tuple[Signal, ...]
    feedback: str
    """What the next attempt is told."""
    weights: tuple[tuple[float, ...], ...]
    """Score of each candidate of each test input; `select` weighs votes with it."""


class FinishedAttempt(LoopRecord):
    """One finished attempt, as later attempts and the selection see it."""

    attempt: int
    arm: str = ""
    """The plan's kind."""
    only: int | None = None
    """The one test input that was asked about; all of them when None."""
    text: str = ""
    candidates: tuple[tuple[Candidate, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    score: float
    accepted: bool
    feedback: str
    llm_tokens: int = 0
    seconds: float = 0.0


class Pick(LoopRecord):
    """One final grid for a test input."""

    test_index: int
    rank: int
    """0 or 1."""
    grid: GridRows
    weight: float
    attempt: int
    """Attempt that proposed it first."""


class LoopState(TypedDict, total=False):
    """The LangGraph state of one task; dumps of the records above, so that msgpack restores it as plain values."""

    task_id: str
    attempt: int
    planned: dict[str, Any]
    reasoning: dict[str, Any] | None
    adapted: dict[str, Any] | None
    proposal: dict[str, Any]
    verdict: dict[str, Any]
    prefix: bytes | None
    """Latent prefix the next attempt may read."""
    history: list[dict[str, Any]]
    timings: dict[str, float]
    started_at: float
    picks: list[dict[str, Any]]


def derive_seed(*parts: object) -> int:
    """Return a 31-bit seed that depends on the parts alone."""
    text = "|".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF
