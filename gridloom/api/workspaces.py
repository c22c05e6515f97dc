"""A workspace as scripts hold it: SQL over its ledger, its attempts, and their replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridloom.api.attempts import Attempt
from gridloom.compiler.text.write import override_text
from gridloom.runtime.execution.launch import off_loop
from gridloom.stores.ledger import Ledger
from gridloom.stores.runs.names import find_run
from gridloom.stores.workspace import Workspace as Folder

if TYPE_CHECKING:
    import duckdb

    from gridloom.api.scores import ScoreTable
    from gridloom.solvers.replay.report import ReplayReport


class Workspace:
    """A folder with everything that runs recorded. Looking at it writes nothing but the ledger's own bookkeeping.

    Args:
        path: the folder; by default $GRIDLOOM_HOME, else `.gridloom`. It need not exist before a run is recorded in it.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._folder = Folder.find(None if path is None else Path(path))
        self._ledger = Ledger(self._folder)

    @property
    def path(self) -> Path:
        """The folder, absolute."""
        return self._folder.root

    @property
    def warnings(self) -> tuple[str, ...]:
        """Remarks on the answers so far, such as damaged lines of a journal that were left out."""
        return tuple(self._ledger.warnings)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"<Workspace {self.path}>"

    def sql(self, query: str, params: Sequence[Any] | dict[str, Any] | None = None) -> duckdb.DuckDBPyRelation:
        """Answer one reading SQL statement with everything recorded up to now; docs/ledger.md lists views and tables.

        The relation holds its rows in memory: it can be asked and filtered further (`.df()`, `.pl()`,
        `.to_arrow_table()`, `.fetchall()`, `.filter(...)`) while runs go on writing. Columns with the name of an
        earlier one are numbered: `a`, `a_1`.

        Args:
            query: such as `from v_attempts where not solved`.
            params: values of `?` in order, or of `$name` by name.

        Raises:
            StoreError: no reading statement, an SQL error, or nothing recorded yet.
        """
        return self._ledger.relation(query, params)

    def attempts(
        self,
        run: str | None = None,
        task: str | None = None,
        solved: bool | None = None,
        *,
        stage: str | None = None,
        limit: int | None = None,
    ) -> list[Attempt]:
        """Return the attempts of a run, by stage, task and number.

        Args:
            run: a run id; by default the newest run that made attempts.
            task: a task id, for its attempts alone.
            solved: True for those that are right by the held-out answers, False for those that are wrong; an attempt
                that was not scored is neither.
            stage: a solve stage, for its attempts alone.
            limit: the most that are returned.

        Raises:
            StoreError: nothing is recorded yet, or the ledger cannot be read.
        """
        run = run or self._ledger.latest_run()
        rows = self._ledger.attempts(run, stage=stage, task_id=task, solved=solved, limit=limit)
        read = self._ledger.attempt
        return [Attempt(row, partial(read, row["attempt_id"], row["run_id"], row["stage"])) for row in rows]

    def scores(self, run: str | None = None) -> ScoreTable:
        """Return pass@1 and pass@2 of every solve stage with 95% intervals, latest run first; of one run with `run`.

        Raises GridloomError for an unknown run; StoreError: nothing is recorded yet.
        """
        from gridloom.api.scores import score_table

        return score_table(self._ledger, None if run is None else find_run(run, self._ledger))

    def attempt(self, attempt_id: str, run: str | None = None, *, stage: str | None = None) -> Attempt:
        """Return one attempt by its name, such as `0934a4d8.7@4fc1`, or by its id where that alone is unique.

        Args:
            attempt_id: a name, or an id such as `0934a4d8.7`.
            run: the run that made it; any by default.
            stage: the solve stage that made it; any by default.

        Raises:
            ReplayError: no such attempt, and the message names the nearest ids; or several, and it names each.
            StoreError: nothing is recorded yet, or the ledger cannot be read.
        """
        row = self._ledger.attempt(attempt_id, run, stage)
        return Attempt(row, lambda: row)

    def replay(
        self,
        attempt_id: str,
        *,
        run: str | None = None,
        stage: str | None = None,
        live: bool = False,
        set: Mapping[str, Any] | None = None,
        from_node: str | None = None,
        progress: bool = False,
    ) -> ReplayReport:
        """Re-execute an attempt from its record and compare it bit for bit; `report.equal` is the outcome.

        Args:
            attempt_id: a name such as `0934a4d8.7@4fc1`, or an id such as `0934a4d8.7` where that alone is unique.
            run: the run it belongs to; any by default.
            stage: the solve stage it belongs to; any by default.
            live: run the language model too, in place of the recorded text and latent.
            set: changes of the plan, such as `{"act_steps": 8}`; the outcome is recorded as a fork, `report.fork_id`.
            from_node: first node that is executed: `reason` (as with `live`), `adapt`, `propose` or `verify`.
            progress: whether to show bars on the terminal.

        Raises:
            ReplayError: an unknown or ambiguous attempt, an unknown node or key, or a record or checkpoint that
                is not at hand.
        """
        from gridloom.api.reporting import reporter
        from gridloom.solvers.replay.replay import replay

        overrides = [override_text(key, value) for key, value in (set or {}).items()]
        return off_loop(
            partial(
                replay,
                self._folder,
                attempt_id,
                run_id=run,
                stage=stage,
                live=live,
                overrides=overrides,
                from_node=from_node,
                progress=reporter(progress),
            )
        )


def workspace(path: str | Path | None = None) -> Workspace:
    """Return the workspace at `path`; by default at $GRIDLOOM_HOME, else at `.gridloom`. Creates nothing."""
    return Workspace(path)
