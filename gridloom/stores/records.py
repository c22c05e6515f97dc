"""What is recorded: one frozen dataclass a ledger table. Field names are column names.

Every record is idempotent by its table's primary key: appending it twice leaves one row. Records of `runs` and `stages`
update (later non-null fields win, and one with a new status resets ended_at and error); all others are written once.
Grids are nested lists of ints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

Grids = list[list[list[int]]]
REASON: Mapping[str, str] = {"node": "reason"}
"""Metadata of an attempt's column that the loop's node `reason` gives: the field of that name of what it returns."""
VERIFY: Mapping[str, str] = {"node": "verify"}
"""The same for the node `verify`."""
PROPOSE: Mapping[str, str] = {"node": "propose"}
"""The same for the node `propose`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base: `TABLE` names the table, `KEY` its primary key."""

    TABLE: ClassVar[str] = ""
    KEY: ClassVar[tuple[str, ...]] = ()
    UPDATES: ClassVar[bool] = False
    FINITE: ClassVar[bool] = False
    """Whether no float in it can be NaN or infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord(Record):
    """One run of a spec; a resumed run goes on under its id."""

    TABLE: ClassVar[str] = "runs"
    KEY: ClassVar[tuple[str, ...]] = ("run_id",)
    UPDATES: ClassVar[bool] = True
    run_id: str
    name: str | None = None
    graph_key: str | None = None
    status: str | None = None
    """started, done, failed, interrupted; `started` with a dead pid is shown as crashed."""
    spec: str | None = None
    """Path or name as the user typed it."""
    overrides: list[str] | None = None
    graph: str | None = None
    """The RunGraph as JSON."""
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
    """Figures the stage left: peak memory, rates, estimates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateRecord(Record):
    """What a stage was expected to cost when the run first planned to execute it."""

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
    """None without a calibration."""
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
    """A task as a solve stage saw it: never an answer."""

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
    """One trip round the loop, with all that a replay needs."""

    TABLE: ClassVar[str] = "attempts"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "attempt", "fork")
    run_id: str
    stage: str
    task_id: str
    attempt: int
    """Counts from 1."""
    fork: int = 0
    """0 for an attempt of the loop; 1, 2, ... for forks made by `replay --set`."""
    attempt_id: str
    """`TASK.ATTEMPT` or `TASK.ATTEMPT+FORK`."""
    parent: str | None = None
    """attempt_id that a fork came from."""
    plan: dict[str, Any]
    prompt: str | None = field(default=None, metadata=REASON)
    text: str | None = field(default=None, metadata=REASON)
    latent: bytes | None = field(default=None, metadata=REASON)
    """The LLaMA state handed to the adapter, fp16."""
    prefix: bytes | None = field(default=None, metadata=REASON)
    """The latent prefix read from the attempt before, fp16 [tokens, width]."""
    grids: Grids
    """The proposed grid for each test input; an empty grid where there is none."""
    verdict: str
    """accepted, rejected."""
    score: float | None = field(default=None, metadata=VERIFY)
    feedback: str = field(default="", metadata=VERIFY)
    stage_key: str
    """Fingerprint of the solve stage."""
    checkpoint_key: str
    """Fingerprint of the checkpoint it ran with; of a language model alone, the digest of its weights."""
    geometry: dict[str, Any]
    """Batch shape, threads, device and versions: what bit-equal re-execution needs."""
    started_at: float
    ended_at: float
    timings: dict[str, float]
    """Seconds by node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRecord(Record):
    """A grid that the views of an attempt voted for."""

    TABLE: ClassVar[str] = "candidates"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "attempt", "fork", "test_index", "rank")
    run_id: str
    stage: str
    task_id: str
    attempt: int
    fork: int = 0
    test_index: int
    rank: int
    """0 is the attempt's proposal."""
    source: str
    """trm or llama."""
    grid: list[list[int]]
    votes: int
    num_views: int
    confidence: float | None = None
    """Mean halting probability of the views that voted for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRecord(Record):
    """What one verifier said of an attempt."""

    TABLE: ClassVar[str] = "verdicts"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "attempt", "fork", "verifier")
    run_id: str
    stage: str
    task_id: str
    attempt: int
    fork: int = 0
    verifier: str
    score: float | None
    """None when the signal cannot be computed for this task."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmCallRecord(Record):
    """The LLaMA's part in an attempt."""

    TABLE: ClassVar[str] = "llm_calls"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "attempt", "fork")
    run_id: str
    stage: str
    task_id: str
    attempt: int
    fork: int = 0
    model: str
    prompt_tokens: int
    new_tokens: int
    prefix_tokens: int
    dropped_demos: int
    """Demonstrations left out of the prompt, oldest first, to keep to its limit."""
    dropped_attempts: int | None = None
    """Earlier attempts left out likewise; NULL in older ledgers."""
    over_budget: int | None = None
    """Tokens (of an endpoint characters) above the prompt's limit, as test input, question and the newest attempt
    always stay; NULL in older ledgers."""
    temperature: float
    seed: int
    duration_s: float


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
    """Token positions whose argmax changed against the step before."""
    num_rows: int | None = None
    """Rows that made the step: with `solver.halt` some stop earlier, and the figures are of the others. NULL in older
    ledgers, where all made every step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PickRecord(Record):
    """The final picks of a task: two distinct grids a test input (pass@2)."""

    TABLE: ClassVar[str] = "picks"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "test_index", "rank")
    run_id: str
    stage: str
    task_id: str
    test_index: int
    rank: int
    """0 and 1."""
    grid: list[list[int]]
    weight: float
    attempt: int
    """Attempt that proposed it first."""
    accepted: bool
    num_attempts: int
    """Attempts made on the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord(Record):
    """Written by the score stage alone: how one pick compares with the held-out answer."""

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
    """One replay: which nodes were bit-equal to the record."""

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
