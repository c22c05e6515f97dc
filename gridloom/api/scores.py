"""Scores of solve stages as scripts hold them: rows with intervals, which draw themselves in notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gridloom.stores.ledger import Ledger
from gridloom.view.pages.runs import all_scores
from gridloom.view.reader import Session


@dataclass(frozen=True, slots=True)
class Score:
    """Score of one solve stage of a run."""

    run_id: str
    """Run that made the attempts."""
    stage: str
    """Solve stage."""
    name: str | None
    """Name of the spec."""
    tasks: int
    """Number of tasks."""
    scored_tasks: int
    """Number of tasks whose picks were compared with the answers."""
    solved_tasks: int
    """Number of tasks with every test input right."""
    accepted_tasks: int
    """Number of tasks with an attempt that the verifiers accepted."""
    attempts: int
    """Number of attempts, without forks."""
    pass1: float | None
    """pass@1, in [0, 1]; None where nothing is scored."""
    pass1_interval: tuple[float, float] | None
    """95% Wilson interval over tasks."""
    pass2: float | None
    """pass@2, in [0, 1]; None where nothing is scored."""
    pass2_interval: tuple[float, float] | None
    """95% Wilson interval over tasks."""


@dataclass(frozen=True, repr=False)
class ScoreTable:
    """Scores of solve stages, latest run first."""

    rows: tuple[Score, ...]
    """One row a solve stage."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Score]:
        return iter(self.rows)

    def __getitem__(self, number: int) -> Score:
        return self.rows[number]

    def __repr__(self) -> str:
        return f"<ScoreTable of {len(self.rows)} solve stage{'' if len(self.rows) == 1 else 's'}>"

    def _repr_html_(self) -> str:
        """Draw the scores as a table, for notebooks."""
        from gridloom.api.markup import document, table

        names = ("run", "stage", "spec", "pass@2", "pass@1", "scored", "solved", "accepted", "tasks", "attempts")
        rows = (
            (
                one.run_id,
                one.stage,
                one.name or "-",
                _share(one.pass2, one.pass2_interval),
                _share(one.pass1, one.pass1_interval),
                str(one.scored_tasks),
                str(one.solved_tasks),
                str(one.accepted_tasks),
                str(one.tasks),
                f"{one.attempts:,}",
            )
            for one in self.rows
        )
        return document(table(names, rows))


def _share(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "-"
    low, high = interval
    return f"{value:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def score_table(ledger: Ledger, run: str | None) -> ScoreTable:
    """Return the scores of a run, or of all runs. Raises StoreError: nothing is recorded yet."""
    with ledger.reading() as connection:
        rows = all_scores(Session(connection, ledger.workspace, ()), run)
    return ScoreTable(tuple(Score(**{name: row[name] for name in Score.__slots__}) for row in rows))
