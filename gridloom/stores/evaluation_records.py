"""Records of evaluations and calibrations: one frozen dataclass per ledger table, as in `records`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gridloom.stores.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRecord(Record):
    """Prediction of a checkpoint under one view, in an evaluation; the predictions of a test input vote."""

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
    """Grid with the view inverted; NULL where the tokens hold no grid."""
    q_halt: float
    """Halting logit after the last ACT step."""
    checkpoint_key: str | None = None
    """Checkpoint that made the prediction; NULL in older ledgers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecord(Record):
    """Rank of the right grid of a test input among the votes; written by the stage `count_votes` only."""

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
    """Number of votes for the right grid."""
    num_candidates: int
    num_views: int
    num_cast: int
    """Number of views that ran; early stopping leaves out others."""
    shape_match: bool
    cell_accuracy: float
    """Cell accuracy of the grid with most votes, in [0, 1]."""
    rank_of_original: int | None = None
    """`rank` where answers without a grid are one candidate too, as TinyRecursiveModels counts (0x0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRecord(Record):
    """Precision and recall of a verifier at one threshold, on tasks with known answers; written by calibrate only."""

    TABLE: ClassVar[str] = "calibrations"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "verifier", "threshold")
    run_id: str
    stage: str
    solve_run_id: str | None
    """Run that made the attempts; None when it is this run."""
    solve_stage: str
    verifier: str
    """Name of the verifier; `all` is the weighted mean, which decides."""
    threshold: float
    """Attempts with this score or a higher one count as accepted."""
    attempts: int
    """Number of attempts that the verifier could score."""
    num_right: int
    """Number of these attempts with all grids right."""
    accepted: int
    accepted_right: int
    precision: float | None
    """accepted_right / accepted."""
    recall: float | None
    """accepted_right / num_right."""
    is_chosen: bool
    """Whether the threshold is the lowest with the wanted precision; where none has it, the most precise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PuzzlePredictionRecord(Record):
    """Answer to a maze or sudoku in an evaluation. Cells are text as in the published CSV files, row by row."""

    TABLE: ClassVar[str] = "puzzle_predictions"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "puzzle")
    run_id: str
    stage: str
    puzzle: int
    """Number of the test puzzle, from 0."""
    kind: str
    """maze or sudoku."""
    size: int
    """Side in cells."""
    question: str
    """`.` for a blank of a sudoku; a maze of `#`, space, `S`, `G`."""
    prediction: str
    """Answer of the checkpoint, of an ensemble that of most members; `?` for a token that is no cell."""
    exact: bool | None
    """Whether every cell is right; NULL where the answer is not known."""
    cells_right: int | None
    num_cells: int
    valid: bool
    """Whether the prediction solves the puzzle: a sudoku's rules hold and all clues are kept; one shortest path."""
    act_steps: int
    """ACT steps of the answer; of an ensemble the sum over its members."""
    q_halt: float
    """Halting logit of the answer."""
    checkpoint_key: str
    """Checkpoint that answered; of an ensemble the first."""
    path_excess: int | None = None
    """Steps of a maze's marked path beyond the fewest, 0 for a shortest one; NULL where the marked cells are no simple
    path from S to G with walls kept, for sudokus, and in older ledgers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DifficultyRecord(Record):
    """Answers to the sequences of one difficulty in an evaluation."""

    TABLE: ClassVar[str] = "difficulties"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "difficulty")
    run_id: str
    stage: str
    kind: str
    """Kind of task: parity, addition, ..."""
    difficulty: int
    """Nonzero entries of parity; numbers of addition and sort; symbols, vectors or characters of the others."""
    num_rows: int
    num_scored: int
    """Number of rows that ask for something."""
    num_right: int
    """Number of rows with every place right."""
    num_places: int
    num_places_right: int
    mean_steps: float
    """Mean steps of a row, of its inputs where the network ponders each."""
    checkpoint_key: str
    """Checkpoint that answered; of an ensemble the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltingStudyRecord(Record):
    """Value of a halting study, in long format: a point of a series of one part. docs/halting_study.md lists them."""

    TABLE: ClassVar[str] = "halting_study"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "stage", "part", "series", "place")
    run_id: str
    stage: str
    part: str
    """steps, threshold, gain, difficulty, correlation, reliability, calibration or residual."""
    series: str
    """Rule of halting, measure of difficulty, or signal."""
    place: int
    """Number of the point in its series, from 0."""
    x: float
    """Allowed steps, threshold, difficulty, or middle of a bin, as the part has it."""
    n: int
    """Number of rows behind the point."""
    exact: float | None
    """Share of rows whose answer is right as a whole."""
    cell_accuracy: float | None
    mean_steps: float | None
    """ACT steps of a row; of a network that ponders, steps of an input or position."""
    operations: float | None
    """Operations of a row by the cost model, at these mean steps."""
    value: float | None
    """Figure of the part: gain over fixed steps, correlation, calibration figure, mean signal, median residual."""
    low: float | None
    """Lower bound of the 95% interval of `value`, or of `exact` in steps, threshold and reliability; a quartile in
    residual."""
    high: float | None
    checkpoint_key: str


EVALUATION_TABLES: tuple[type[Record], ...] = (
    PredictionRecord,
    EvaluationRecord,
    CalibrationRecord,
    PuzzlePredictionRecord,
    DifficultyRecord,
    HaltingStudyRecord,
)
