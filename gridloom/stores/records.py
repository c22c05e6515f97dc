"""Records: one frozen dataclass per ledger table. Field names are column names.

Every record is idempotent by its table's primary key: appending it twice leaves one row. Records of `runs` and `stages`
update (the first start is kept, of other fields the later non-null one wins, and a new status resets ended_at and
error); all others are written once.
Grids are nested lists of ints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

Grids = list[list[list[int]]]
REASON: Mapping[str, str] = {"node": "reason"}
"""Metadata of an attempt's column that equals the field of the same name in the result of the node `reason`."""
VERIFY: Mapping[str, str] = {"node": "verify"}
"""Metadata of a column that equals a field in the result of the node `verify`."""
PROPOSE: Mapping[str, str] = {"node": "propose"}
"""Metadata of a column that equals a field in the result of the node `propose`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of the records: `TABLE` is the name of the table, `KEY` its primary key."""

    TABLE: ClassVar[str] = ""
    KEY: ClassVar[tuple[str, ...]] = ()
    UPDATES: ClassVar[bool] = False
    FINITE: ClassVar[bool] = False
    """Whether all floats of the record are finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord(Record):
    """One run of a spec; a resumed run keeps its id."""

    TABLE: ClassVar[str] = "runs"
    KEY: ClassVar[tuple[str, ...]] = ("run_id",)
    UPDATES: ClassVar[bool] = True
    run_id: str
    name: str | None = None
    graph_key: str | None = None
    status: str | None = None
    """started, done, failed, interrupted; `started` with a dead pid is shown as crashed."""
    spec: str | None = None
    """Path or name of the spec as the user typed it."""
    overrides: list[str] | None = None
    graph: str | None = None
    """RunGraph as JSON."""
    device: str | None = None
    host: str | None = None
    pid: int | None = None
    gridloom_version: str | None = None
    started_at: float | None = None
    """Seconds since the epoch in the record, a UTC TIMESTAMP in the table; as all times here."""
    ended_at: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord(Record):
    """A stage or dataset of a run."""

    TABLE: ClassVar[str] = "stages"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage")
    UPDATES: ClassVar[bool] = True
    run_id: str
    stage: str
    kind: str | None = None
    key: str | None = None
    status: str | None = None
    """cached, running, done, failed, interrupted, or blocked by a stage that failed: `error` names it. A stage that a
    resumed run finds cached stays done in that run."""
    started_at: float | None = None
    ended_at: float | None = None
    error: str | None = None
    notes: dict[str, Any] | None = None
    """Figures of the stage: peak memory, rates, estimates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateRecord(Record):
    """Estimated cost of a stage when the run first planned to execute it."""

    TABLE: ClassVar[str] = "estimates"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage")
    run_id: str
    stage: str
    parameters: int
    frozen_parameters: int
    flops: dict[str, float]
    """Operations a step by kind of work: `fp32` trains, `fp32 ACT` infers, `fp32 prompt` reads, `fp32 token` writes."""
    step: str
    num_steps: int
    peak_bytes: int
    seconds: float | None = None
    """Estimated time, s; None without measured speeds of the device."""
    calibrated_on: str | None = None
    assumes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord(Record):
    """A published artifact folder, and the run that made it."""

    TABLE: ClassVar[str] = "artifacts"
    KEY: ClassVar[tuple[str, ...]] = ("key",)
    key: str
    type: str
    kind: str
    run_id: str
    stage: str
    bytes: int
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRecord(Record):
    """A figure that a stage measured at a step."""

    TABLE: ClassVar[str] = "metrics"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "step", "name")
    run_id: str
    stage: str
    step: int
    name: str
    value: float
    recorded_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord(Record):
    """Task of a solve stage, without its held-out answers."""

    TABLE: ClassVar[str] = "tasks"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id")
    run_id: str
    stage: str
    task_id: str
    subset: str
    demos: list[dict[str, list[list[int]]]]
    """[{'input': grid, 'output': grid}]"""
    check_demos: list[int]
    tests: Grids


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord(Record):
    """One cycle of the loop, with all inputs of a replay."""

    TABLE: ClassVar[str] = "attempts"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "attempt", "fork")
    run_id: str
    stage: str
    task_id: str
    attempt: int
    """Number of the attempt, from 1."""
    fork: int = 0
    """0 for an attempt of the loop; 1, 2, ... for forks made by `replay --set`."""
    attempt_id: str
    """`TASK.ATTEMPT` or `TASK.ATTEMPT+FORK`."""
    parent: str | None = None
    """attempt_id of the attempt that was forked."""
    plan: dict[str, Any]
    prompt: str | None = field(default=None, metadata=REASON)
    text: str | None = field(default=None, metadata=REASON)
    latent: bytes | None = field(default=None, metadata=REASON)
    """Hidden state of the LLaMA that the adapter reads, fp16."""
    prefix: bytes | None = field(default=None, metadata=REASON)
    """Latent prefix of the previous attempt, fp16 [tokens, width]."""
    grids: Grids
    """Proposed grid for each test input; an empty grid where there is none."""
    verdict: str
    """accepted, rejected."""
    score: float | None = field(default=None, metadata=VERIFY)
    feedback: str = field(default="", metadata=VERIFY)
    stage_key: str
    """Key of the solve stage."""
    checkpoint_key: str
    """Key of the checkpoint; for a language model alone, the digest of its weights."""
    geometry: dict[str, Any]
    """Conditions of bit-equal re-execution: batch shape, threads, device and versions."""
    started_at: float
    ended_at: float
    timings: dict[str, float]
    """Node -> seconds."""
    reading: dict[str, Any] | None = field(default=None, metadata=PROPOSE)
    """Parser of the text and its choice: writing, place, number of other grids, note. NULL without a text, and in
    older ledgers, whose texts parser 1 read."""
    confirmation: dict[str, Any] | None = field(default=None, metadata=PROPOSE)
    """Questions by which the language model's grid was confirmed or not, with its answers; NULL without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRecord(Record):
    """Grid that views of an attempt voted for."""

    TABLE: ClassVar[str] = "candidates"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "attempt", "fork", "test_index", "rank")
    run_id: str
    stage: str
    task_id: str
    attempt: int
    fork: int = 0
    test_index: int
    rank: int
    """Rank of the candidate; 0 is the attempt's proposal."""
    source: str
    """trm, llama for a grid read from text, or the name of another proposer."""
    grid: list[list[int]]
    votes: int
    num_views: int
    confidence: float | None = None
    """Mean halting probability of the views that voted for the grid."""
    program: str | None = None
    """Program that gives the grid, as text; NULL for other grids, and in older ledgers."""
    fits: int | None = None
    """Demonstrations that the program reproduces."""
    shown: int | None = None
    """Demonstrations that the search was shown."""
    cost: int | None = None
    """Cost of the program."""
    again: int | None = None
    """Demonstrations without which the search finds the same answers, and that demonstration's output; NULL for other
    grids, where a demonstration alone was shown, and in older ledgers."""
    ruled: int | None = None
    """Demonstrations without which the best rules of cells give the same answers, and that demonstration's output; NULL
    where no rules reproduce every demonstration, for other grids, and in older ledgers."""
    agreed: bool | None = None
    """Whether layers of images and rules of cells, each by themselves, give the same answers; NULL for other grids, and
    in older ledgers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRecord(Record):
    """Result of one verifier for an attempt."""

    TABLE: ClassVar[str] = "verdicts"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "attempt", "fork", "verifier")
    run_id: str
    stage: str
    task_id: str
    attempt: int
    fork: int = 0
    verifier: str
    score: float | None
    """Score in [0, 1]; None where it cannot be computed for this task."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmCallRecord(Record):
    """Call of the LLaMA in an attempt."""

    TABLE: ClassVar[str] = "llm_calls"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "attempt", "fork")
    run_id: str
    stage: str
    task_id: str
    attempt: int
    fork: int = 0
    model: str
    prompt_tokens: int
    """Tokens read, over all calls of the attempt."""
    new_tokens: int
    """Tokens written, over all calls of the attempt."""
    prefix_tokens: int
    dropped_demos: int
    """Number of demonstrations dropped from the prompt, oldest first, to meet its limit."""
    dropped_attempts: int | None = None
    """Number of earlier attempts dropped from the prompt; NULL in older ledgers."""
    over_budget: int | None = None
    """Tokens (for an endpoint characters) above the prompt's limit, since test input, question and the newest attempt
    are never dropped; NULL in older ledgers."""
    temperature: float
    seed: int
    duration_s: float
    num_calls: int | None = None
    """Number of calls: one, and the questions that confirm the answer. NULL in older ledgers, where it was one."""
    finish_reason: str | None = None
    """Reason why the text ends: `length` at the limit of tokens, `stop`, or another word of a server."""
    reasoning_content: str | None = None
    """Reasoning that a server returned apart from the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrmStepRecord(Record):
    """One ACT step of the propose node, over the rows of the attempt."""

    TABLE: ClassVar[str] = "trm_steps"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "attempt", "fork", "act_step")
    run_id: str
    stage: str
    task_id: str
    attempt: int
    fork: int = 0
    act_step: int
    q_halt: float
    """Mean halting logit."""
    changed_cells: int
    """Number of token positions whose argmax changed against the previous step."""
    num_rows: int | None = None
    """Number of rows that made the step, over which the figures are computed; with `solver.halt` some rows halt
    earlier. NULL in older ledgers, where all rows made every step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PickRecord(Record):
    """Final picks of a task: two distinct grids per test input (pass@2)."""

    TABLE: ClassVar[str] = "picks"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "test_index", "rank")
    run_id: str
    stage: str
    task_id: str
    test_index: int
    rank: int
    """Rank of the pick, 0 or 1."""
    grid: list[list[int]]
    weight: float
    attempt: int
    """First attempt that proposed the grid."""
    accepted: bool
    num_attempts: int
    """Number of attempts at the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord(Record):
    """Comparison of one pick with the held-out answer; written by the score stage only."""

    TABLE: ClassVar[str] = "scores"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "test_index", "rank")
    run_id: str
    stage: str
    solve_stage: str
    solve_run_id: str | None = None
    """Run that made the attempts; None when it is this run."""
    task_id: str
    test_index: int
    rank: int
    exact_match: bool
    shape_match: bool
    cell_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRecord(Record):
    """One replay, with the comparison of each node with the record."""

    TABLE: ClassVar[str] = "replays"
    KEY: ClassVar[tuple[str, ...]] = ("replay_id",)
    replay_id: str
    run_id: str
    stage: str
    attempt_id: str
    live: bool
    equal: bool
    first_divergence: str | None
    nodes: dict[str, Any]
    replayed_at: float


TABLES: tuple[type[Record], ...] = (
    RunRecord,
    StageRecord,
    EstimateRecord,
    ArtifactRecord,
    MetricRecord,
    TaskRecord,
    AttemptRecord,
    CandidateRecord,
    VerdictRecord,
    LlmCallRecord,
    TrmStepRecord,
    PickRecord,
    ScoreRecord,
    ReplayRecord,
)


def as_dict(record: Record) -> dict[str, Any]:
    """Return a record's fields by name."""
    return {one.name: getattr(record, one.name) for one in fields(record)}
