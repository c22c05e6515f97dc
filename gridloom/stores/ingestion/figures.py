"""Figures of attempts and tasks that the views show, kept in the ledger by ingestion, in the transaction of the rows.

Over a million attempts a view that joins and counts takes seconds; one that reads what ingestion counted does not.
Every figure depends on rows of the ledger only: `count_all` makes all of them anew, for a ledger of another layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gridloom.stores.attempt import KEY
from gridloom.stores.ingestion.registered import registered
from gridloom.stores.runs.names import PLACES

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

KEYS = ", ".join(KEY)
TASK = "run_id, stage, task_id"
FIGURES = "v_llm_tokens, v_llm_new_tokens, v_temperature, v_trm_steps, v_seconds, v_place"
SCORED_TASKS = "SELECT coalesce(solve_run_id, run_id) AS run_id, solve_stage AS stage, task_id FROM {0}"
PARTS = ("llm_calls", "trm_steps", "candidates", "verdicts")
"""Tables with rows of an attempt; its figures are counted from the first two."""
EARLY_PARTS = (
    f"SELECT DISTINCT {KEYS} FROM ({' UNION ALL '.join(f'SELECT {KEYS} FROM {name}' for name in PARTS)}) "
    f"ANTI JOIN attempts USING ({KEYS})"
)
"""Keys of the attempts that the ledger has parts of only."""


def figures_of(attempts: str, calls: str, steps: str, columns: str) -> str:
    """Return the statement that selects `columns` and the figures of attempts, from the tables named."""
    return f"""
SELECT {columns},
  l.prompt_tokens + l.new_tokens AS v_llm_tokens, l.new_tokens AS v_llm_new_tokens, l.temperature AS v_temperature,
  s.trm_steps AS v_trm_steps,
  coalesce(list_sum(map_values(TRY_CAST(a.timings::JSON AS MAP(VARCHAR, DOUBLE)))),
    date_diff('microsecond', a.started_at, a.ended_at) / 1e6) AS v_seconds,
  p.place AS v_place
FROM {attempts} a
LEFT JOIN {calls} l USING ({KEYS})
LEFT JOIN (SELECT {KEYS}, count(*) AS trm_steps FROM {steps} GROUP BY ALL) s USING ({KEYS})
LEFT JOIN places p USING (run_id, stage)"""


SCORED = """
SELECT p.run_id, p.stage, p.task_id, p.test_index, p.grid, bool_or(s.exact_match) AS exact_match
FROM (FROM picks SEMI JOIN counted_tasks USING (run_id, stage, task_id)) p
JOIN scores s ON coalesce(s.solve_run_id, s.run_id) = p.run_id AND s.solve_stage = p.stage
  AND s.task_id = p.task_id AND s.test_index = p.test_index AND s.rank = p.rank
GROUP BY ALL"""
"""Picks that were scored, of the tasks in `counted_tasks`."""
# a right pick decides every attempt (equal or wrong), a wrong pick only the attempts with the same grid
_JUDGED = f"""
WITH proposed AS (
  SELECT a.rowid AS id, run_id, stage, task_id, len(grids) AS num_tests,
    unnest(grids) AS grid, generate_subscripts(grids, 1) - 1 AS test_index
  FROM attempts a SEMI JOIN counted_tasks USING ({TASK})
),
judged AS (
  SELECT id, num_tests, count(*) FILTER (is_right) AS num_right, count(*) FILTER (NOT is_right) AS num_wrong
  FROM (
    SELECT p.id, p.num_tests, p.test_index,
      CASE WHEN bool_or(s.exact_match) THEN bool_or(s.exact_match AND s.grid = p.grid)
           WHEN bool_or(s.grid = p.grid) THEN false END AS is_right
    FROM proposed p JOIN scored_picks s USING (run_id, stage, task_id, test_index)
    GROUP BY ALL
  )
  GROUP BY ALL
)
SELECT a.rowid AS id,
  CASE WHEN j.num_wrong > 0 THEN false WHEN j.num_right = j.num_tests THEN true END AS solved
FROM (SELECT rowid FROM attempts SEMI JOIN counted_tasks USING ({TASK})) a
LEFT JOIN judged j ON j.id = a.rowid"""
_TASK_FIGURES = f"""
WITH best_pick AS (
  SELECT coalesce(solve_run_id, run_id) AS run_id, solve_stage AS stage, task_id, test_index,
    bool_or(exact_match) AS exact, coalesce(bool_or(exact_match) FILTER (rank = 0), false) AS exact_first,
    max(cell_accuracy) AS cell_accuracy
  FROM scores GROUP BY ALL
),
scored AS (
  SELECT {TASK}, bool_and(exact) AS solved, bool_and(exact_first) AS solved_first,
    avg(exact::INT) AS pass2, avg(exact_first::INT) AS pass1, avg(cell_accuracy) AS cell_accuracy
  FROM best_pick SEMI JOIN counted_tasks USING ({TASK}) GROUP BY ALL
),
tried AS (
  SELECT {TASK}, count(*) FILTER (fork = 0) AS attempts, count(*) AS all_attempts,
    bool_or(verdict = 'accepted') FILTER (fork = 0) AS accepted, max(score) FILTER (fork = 0) AS best_score,
    arg_max({{'id': attempt_id, 'verdict': verdict, 'feedback': feedback}}, (coalesce(score, -1e300), -attempt))
      FILTER (fork = 0) AS best,
    (sum(v_llm_tokens) FILTER (fork = 0))::BIGINT AS llm_tokens, sum(v_seconds) FILTER (fork = 0) AS seconds,
    max(checkpoint_key) AS checkpoint_key
  FROM attempts SEMI JOIN counted_tasks USING ({TASK}) GROUP BY ALL
)
SELECT {TASK}, coalesce(attempts, 0) AS attempts, coalesce(all_attempts, 0) AS all_attempts, accepted, best_score,
  best.id AS best_attempt_id,
  coalesce(nullif(split_part(best.feedback, chr(10), 1), ''), best.verdict) AS best_verdict,
  solved, solved_first, pass1, pass2, cell_accuracy, llm_tokens, seconds, checkpoint_key
FROM tried FULL JOIN scored USING ({TASK})"""


def with_figures(connection: duckdb.DuckDBPyConnection, attempts: pa.Table, calls: str, steps: str) -> pa.Table:
    """Return attempts with their figures, from the rows of the batch alone: no table has other parts of them.

    The joins have only the columns that they need: they would copy the texts and grids of all attempts.

    Args:
        calls: name of the relation with the new rows of `llm_calls`.
        steps: the same of `trm_steps`.
    """
    import pyarrow as pa

    place = pa.array(range(attempts.num_rows), pa.int64())
    narrow = attempts.select([*KEY, "timings", "started_at", "ended_at"]).append_column("place_in_batch", place)
    with registered(connection, "narrow_attempts", narrow):
        query = figures_of("narrow_attempts", calls, steps, "place_in_batch")
        counted = connection.sql(f"SELECT {FIGURES} FROM ({query}) ORDER BY place_in_batch").to_arrow_table()
    for name in counted.column_names:
        attempts = attempts.append_column(name, counted[name])
    return attempts


def keep_places(connection: duckdb.DuckDBPyConnection, attempts: str) -> None:
    """Give each run's stage that has attempts a place; where a new one needs more digits, all attempts are renamed."""
    new = f"SELECT DISTINCT run_id, stage FROM {attempts} ANTI JOIN places USING (run_id, stage)"
    if not connection.execute(f"SELECT 1 FROM ({new}) LIMIT 1").fetchall():
        return
    connection.execute(f"INSERT INTO places (run_id, stage) {new}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE new_places AS {PLACES}")
    changed = "new_places n WHERE n.run_id = {0}.run_id AND n.stage = {0}.stage"
    ((num_renamed,),) = connection.execute(
        "SELECT count(*) FROM places JOIN new_places n USING (run_id, stage) WHERE places.place <> n.place"
    ).fetchall()
    connection.execute(f"UPDATE places SET place = n.place FROM {changed.format('places')}")
    if num_renamed:
        connection.execute(f"UPDATE attempts SET v_place = n.place FROM {changed.format('attempts')}")
    connection.execute("DROP TABLE new_places")


def count_attempts(connection: duckdb.DuckDBPyConnection, touched: str) -> None:
    """Count the figures of the attempts whose keys are in `touched` from all tables."""
    semi = f"SEMI JOIN {touched} USING ({KEYS})"
    attempts = f"(SELECT rowid AS id, * FROM attempts {semi})"
    query = figures_of(attempts, f"(FROM llm_calls {semi})", f"(FROM trm_steps {semi})", "a.id")
    assigned = ", ".join(f"{name} = f.{name}" for name in FIGURES.split(", "))
    connection.execute(f"UPDATE attempts SET {assigned} FROM ({query}) f WHERE attempts.rowid = f.id")


def count_tasks(connection: duckdb.DuckDBPyConnection) -> None:
    """Count what the rows of the tasks in `counted_tasks` amount to: whether attempts are right, and sums."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE scored_picks AS {SCORED}")
    if connection.execute("SELECT 1 FROM scored_picks LIMIT 1").fetchall():
        connection.execute(
            f"UPDATE attempts SET v_solved = f.solved FROM ({_JUDGED}) f "
            "WHERE attempts.rowid = f.id AND v_solved IS DISTINCT FROM f.solved"
        )
    condition = " AND ".join(f"task_figures.{name} = c.{name}" for name in TASK.split(", "))
    connection.execute(f"DELETE FROM task_figures USING counted_tasks c WHERE {condition}")
    connection.execute(f"INSERT INTO task_figures BY NAME {_TASK_FIGURES}")
    connection.execute("DROP TABLE scored_picks")


def count_tasks_of(connection: duckdb.DuckDBPyConnection, incoming: Mapping[str, pa.Table]) -> None:
    """Count the tasks that the rows of a batch belong to, after they were inserted.

    Args:
        incoming: rows by table, each registered as `incoming_` and the table's name.
    """
    parts = ("attempts", "llm_calls", "trm_steps", "picks")
    sources = [f"SELECT {TASK} FROM incoming_{name}" for name in parts if name in incoming]
    if "scores" in incoming:
        sources.append(SCORED_TASKS.format("incoming_scores"))
    if not sources:
        return
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE counted_tasks AS SELECT DISTINCT {TASK} FROM ({' UNION ALL '.join(sources)})"
    )
    count_tasks(connection)
    connection.execute("DROP TABLE counted_tasks")


def count_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Count all figures from the tables anew."""
    for table in ("places", "task_figures", "early_parts"):
        connection.execute(f"DELETE FROM {table}")
    connection.execute("UPDATE attempts SET v_solved = NULL WHERE v_solved IS NOT NULL")
    keep_places(connection, "attempts")
    connection.execute(f"INSERT INTO early_parts {EARLY_PARTS}")
    runs = connection.execute("SELECT DISTINCT run_id FROM places ORDER BY run_id").fetchall()
    for (run_id,) in runs:  # one by one, which bounds the memory
        connection.execute("SET VARIABLE counted_run = ?", [run_id])
        count_attempts(connection, f"(SELECT {KEYS} FROM attempts WHERE run_id = getvariable('counted_run'))")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE counted_tasks AS SELECT DISTINCT {TASK} FROM (SELECT {TASK} FROM attempts "
        f"UNION ALL {SCORED_TASKS.format('scores')})"
    )
    count_tasks(connection)
    connection.execute("DROP TABLE counted_tasks")
