"""What evaluations and calibrations record: one frozen dataclass a ledger table, as in `records`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gridloom.stores.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRecord(Record):
    """What a checkpoint answered under one view, in an evaluation; the predictions of a test input vote."""

    TABLE: ClassVar[str] = "predictions"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "test_index", "view_index")
    run_id: str
    stage: str
    """`STAGE.votes`."""
    task_id: str
    test_index: int
    view_index: int
    """0 is the identity. In an ensemble the checkpoints take turns, so the first indices are identities."""
    view: str
    """`|||t3|||0213456789`, the end of a puzzle id's name."""
    grid: list[list[int]] | None
    """With the view undone; NULL where the tokens hold no grid."""
    q_halt: float
    """Halting logit after the last ACT step."""
    checkpoint_key: str | None = None
    """Which checkpoint answered; NULL in older ledgers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecord(Record):
    """Written by an evaluation's own stage alone: where the right grid of a test input stands among the votes."""

    TABLE: ClassVar[str] = "evaluations"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "task_id", "test_index")
    run_id: str
    stage: str
    vote_run_id: str | None = None
    """Run that made the predictions; None when it is this run."""
    vote_stage: str
    task_id: str
    test_index: int
    rank: int | None
    """0 is the grid with most votes; NULL where no view gave the right grid."""
    votes: int
    """For the right grid."""
    num_candidates: int
    num_views: int
    num_cast: int
    """Views that ran; early stopping leaves out others."""
    shape_match: bool
    cell_accuracy: float
    """Of the grid with most votes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRecord(Record):
    """What a verifier is worth at one threshold, over attempts whose answers are known; written by calibrate alone."""

    TABLE: ClassVar[str] = "calibrations"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "verifier", "threshold")
    run_id: str
    stage: str
    solve_run_id: str | None
    """Run that made the attempts; None when it is this run."""
    solve_stage: str
    verifier: str
    """`all` is the weighted mean that decides."""
    threshold: float
    """Attempts with this score or a higher one count as accepted."""
    attempts: int
    """Those that the verifier had a score for."""
    num_right: int
    """Of these, attempts whose every grid is right."""
    accepted: int
    accepted_right: int
    precision: float | None
    """accepted_right / accepted."""
    recall: float | None
    """accepted_right / num_right."""
    is_chosen: bool
    """The lowest threshold whose precision is what was asked for; where none is, the most precise."""


EVALUATION_TABLES: tuple[type[Record], ...] = (PredictionRecord, EvaluationRecord, CalibrationRecord)
