"""Records of the solver loop: plans, proposals, verdicts, and the state that LangGraph checkpoints.

Every record is plain data (ints, floats, strings, bytes, lists), so that a checkpoint restores without code. No record
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


class SearchPlan(LoopRecord):
    """Budget of an attempt that searches programs."""

    depth: int
    """Cost of the dearest image of a program."""
    states: int
    pieces: int
    megabytes: int
    seconds: float | None = None
    turns: tuple[int, ...] = Field((0,), exclude_if=lambda turns: turns == (0,))
    """Dihedral ids under which the grids are searched."""
    rules: bool = Field(True, exclude_if=lambda rules: rules)
    """Whether rules of cells are learnt too."""
    hints: tuple[GridRows, ...] | None = Field(None, exclude_if=lambda hints: hints is None)
    """Grid of a network or a language model for each test input, empty where there is none: programs whose answers come
    near them are ranked higher."""


class Plan(LoopRecord):
    """Parameters of one attempt. A replay with the same models and record gives the same bits."""

    attempt: int
    """Number of the attempt, from 1."""
    seed: int
    """Seed derived from the stage's seed and the task id, and so independent of the order of tasks."""
    views: tuple[str, ...] = ()
    """Views that vote beside the identity: `t3|||0213456789`, the tail of a puzzle id's name."""
    prompt: str = "plain"
    """Prompt form."""
    focus: int = 0
    """Index of the test input that the prompt shows."""
    temperature: float = 0.0
    """Sampling temperature of the LLaMA; 0 is greedy."""
    max_new_tokens: int = 0
    """Limit of tokens that the LLaMA may generate."""
    feedback: bool = False
    """Whether the prompt shows earlier attempts."""
    prefix: bool = False
    """Whether the LLaMA reads the latent prefix of the previous attempt."""
    act_steps: int | None = None
    """ACT steps of the TRM; the model's number when None."""
    halt: Literal["none", "score", "unchanged"] = "none"
    """Criterion by which a row of the TRM halts before its last ACT step."""
    patience: Annotated[int, Field(ge=1)] = 1
    """Consecutive ACT steps that must meet the criterion."""
    policy: str = "fixed"
    """Policy that chose the plan."""
    arm: str = ""
    """Kind of plan, as the bandit counts them: `plain.cool.narrow.short`."""
    search: SearchPlan | None = Field(None, exclude_if=lambda search: search is None)
    """Budget of a search, which then proposes in place of the network and the language model."""


class Reasoning(LoopRecord):
    """Answer of the LLaMA in one attempt."""

    prompt: str
    text: str
    latent: bytes | None
    """Hidden state that the adapter reads, fp16 [hidden_size] or [states, hidden_size]; rounded before use, so that the
    record equals the value used. None where no adapter reads hidden states."""
    prompt_tokens: int
    new_tokens: int
    prefix: bytes | None = None
    """Latent prefix that the LLaMA read, fp16 [tokens, hidden_size]."""
    prefix_tokens: int = 0
    dropped_demos: int = 0
    dropped_attempts: int = 0
    over_budget: int = 0
    duration_s: float = 0.0
    """Share of the batch's time that this call took, s."""
    geometry: dict[str, Any] = {}
    """Number of rows of the batch, and row of the call; of a server's answer its url and the parameters sent."""
    finish_reason: str | None = None
    """Reason why the text ends: `length` at the limit of tokens, `stop`, or another word of the server."""
    reasoning_content: str | None = None
    """Reasoning that a server returned apart from the text."""


class Ask(LoopRecord):
    """Question that confirms an attempt, with the language model's answer."""

    about: str
    """`demo 2` for the second demonstration left out of the prompt, else the view: `t3|||0213456789`."""
    prompt: str
    text: str
    cut: bool = False
    """Whether the model stopped at its limit of tokens."""
    prompt_tokens: int = 0
    new_tokens: int = 0
    duration_s: float = 0.0

    @property
    def tokens(self) -> int:
        """Number of tokens read and written."""
        return self.prompt_tokens + self.new_tokens


class Candidate(LoopRecord):
    """Proposed grid for one test input, after views were inverted and votes counted."""

    grid: GridRows
    source: str
    """Source of the grid: `trm`, `llama` for a grid read from text, or the name of another proposer."""
    votes: int
    """Number of views that gave exactly this grid."""
    num_views: int
    """Number of views that could vote."""
    confidence: float | None = None
    """Mean halting probability of the views that voted for the grid."""
    whole: float | None = None
    """Share of the voting views with an unbroken border of EOS; None for a grid not made of tokens."""
    program: str | None = None
    """Program that gives the grid, as text; None for a grid of a network or a language model."""
    fits: int | None = None
    """Number of shown demonstrations that the program reproduces."""
    shown: int | None = None
    """Number of demonstrations that the search was shown."""
    cost: int | None = None
    """Length of the program: the cost of its dearest image, and of each part after the first."""
    again: int | None = None
    """Number of demonstrations without which the search finds the same answers, and that demonstration's output."""
    ruled: int | None = Field(None, exclude_if=lambda ruled: ruled is None)
    """Number of demonstrations without which the best rules of cells give the same answers, and that demonstration's
    output; None where no rules reproduce every demonstration."""
    agreed: bool | None = Field(None, exclude_if=lambda agreed: agreed is None)
    """Whether layers of images and rules of cells, each by themselves, give the same answers to every test input."""


class ActStep(LoopRecord):
    """Metrics of one ACT step over the attempt's rows."""

    q_halt: float
    """Mean halting logit."""
    changed_cells: int
    """Number of token positions whose argmax changed against the previous step."""
    num_rows: int | None = None
    """Number of rows that made the step; None in older records, where all rows did."""


class Proposal(LoopRecord):
    """Ranked candidates of the TRM and of the LLaMA's text for each test input and each check demonstration."""

    candidates: tuple[tuple[Candidate, ...], ...]
    """Candidates of each test input, best first; empty where no grid could be read."""
    checks: tuple[tuple[Candidate, ...], ...] = ()
    """Candidates of each check demonstration (never trained on), best first."""
    steps: tuple[ActStep, ...] = ()
    digest: str = ""
    """sha256 over the raw tokens and halting logits of the attempt's rows, and the prefix."""
    prefix: bytes | None = None
    """Latent prefix for the next attempt, fp16 [tokens, hidden_size]."""
    geometry: dict[str, Any] = {}
    """Batch shape, device, threads and versions that bit-equal re-execution needs."""
    seconds: float = 0.0
    """Share of the TRM's time that this attempt took, s."""
    only: int | None = None
    """Index of the only test input with a proposal; all test inputs when None."""
    reading: dict[str, Any] | None = None
    """Parser of the text and its choice (`Reading.as_dict`); None without a text, and in records of parser 1."""
    confirmation: dict[str, Any] | None = None
    """Record of the questions that confirm the text's grid: `confirmed`, and the dumps of `asks`; None without any."""
    checked: tuple[int, ...] | None = None
    """Indices of the demonstrations of `checks`; None for the task's check demonstrations."""

    @property
    def asks(self) -> tuple[Ask, ...]:
        """Questions that were asked to confirm the text's grid, in order."""
        return tuple(Ask.model_validate(ask) for ask in (self.confirmation or {}).get("asks", ()))

    @property
    def confirmed(self) -> bool:
        """Whether the answers to the questions confirm the text's grid."""
        return bool(self.confirmation and self.confirmation["confirmed"])

    def grids(self) -> list[GridRows]:
        """Return the proposed grid of each test input; [] where there is none."""
        return [list(ranked[0].grid) if ranked else [] for ranked in self.candidates]


class Signal(LoopRecord):
    """Result of one verifier for an attempt."""

    name: str
    score: float | None
    """Score in [0, 1]; None where it cannot be computed for this task, and then left out of the mean."""
    detail: str = ""
    """Description of the errors from demonstrations and model outputs alone; empty without errors."""


class Verdict(LoopRecord):
    """Combined judgement of an attempt, made without the held-out answer."""

    accepted: bool
    score: float
    """Weighted mean of the available signals, in [0, 1]."""
    signals: tuple[Signal, ...]
    feedback: str
    """Text that the next attempt's prompt shows."""
    weights: tuple[tuple[float, ...], ...]
    """Score of each candidate of each test input, the weight of its votes in `select`."""


class FinishedAttempt(LoopRecord):
    """Finished attempt, as later attempts and the selection read it."""

    attempt: int
    arm: str = ""
    """Kind of plan."""
    only: int | None = None
    """Index of the only test input with a proposal; all test inputs when None."""
    text: str = ""
    candidates: tuple[tuple[Candidate, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    score: float
    accepted: bool
    feedback: str
    llm_tokens: int = 0
    seconds: float = 0.0


class Pick(LoopRecord):
    """Final grid for a test input."""

    test_index: int
    rank: int
    """Rank of the grid, 0 or 1."""
    grid: GridRows
    weight: float
    attempt: int
    """First attempt that proposed the grid."""


class LoopState(TypedDict, total=False):
    """LangGraph state of one task: dumps of the records above, so that msgpack restores plain values."""

    task_id: str
    attempt: int
    planned: dict[str, Any]
    reasoning: dict[str, Any] | None
    adapted: dict[str, Any] | None
    proposal: dict[str, Any]
    verdict: dict[str, Any]
    prefix: bytes | None
    """Latent prefix that the next attempt may read, fp16 [tokens, hidden_size]."""
    history: list[dict[str, Any]]
    timings: dict[str, float]
    started_at: float
    picks: list[dict[str, Any]]


def derive_seed(*parts: object) -> int:
    """Return a 31-bit seed, a hash of the parts."""
    text = "|".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF
