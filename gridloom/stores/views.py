"""Views for queries. The first column is run_id; times are UTC, durations are in seconds, ratios in [0, 1]."""

from __future__ import annotations

from gridloom.stores.attempt import KEY, column_names
from gridloom.stores.records import AttemptRecord
from gridloom.stores.runs.names import PLACES

_ATTEMPT_HEAD = (*KEY, "attempt_id", "parent", "verdict", "score")
_ATTEMPT_TAIL = ("started_at", "ended_at", "plan", "timings", "grids", "stage_key", "checkpoint_key")
_ATTEMPT_LEFT_OUT = ("prompt", "text", "latent", "prefix", "geometry")
"""Columns of an attempt that v_attempts lacks: texts and bytes are read from the table."""
_PLACED = frozenset({*_ATTEMPT_HEAD, "feedback", *_ATTEMPT_TAIL, *_ATTEMPT_LEFT_OUT})
_ATTEMPT_END = ", ".join(f"a.{name}" for name in (*_ATTEMPT_TAIL, *column_names(AttemptRecord, _PLACED)))

VIEWS: dict[str, str] = {
    "v_places": PLACES,
    "v_runs": """
SELECT
  r.run_id, r.name,
  CASE WHEN r.status = 'started' AND list_contains(getvariable('dead_runs')::VARCHAR[], r.run_id) THEN 'crashed'
       ELSE r.status END AS status,
  r.started_at, r.ended_at,
  coalesce(p.seconds, date_diff('millisecond', r.started_at, r.ended_at) / 1000) AS seconds,
  coalesce(s.stages, 0) AS stages, coalesce(s.cached, 0) AS cached,
  coalesce(s.failed, 0) AS failed, coalesce(s.blocked, 0) AS blocked,
  coalesce(a.tasks, 0) AS tasks, coalesce(a.attempts, 0) AS attempts,
  r.spec, r.overrides, r.device, r.host, r.pid, r.graph_key, r.gridloom_version, r.error, p.processes
FROM runs r
LEFT JOIN (SELECT run_id, count(*) AS processes, sum(seconds) AS seconds FROM run_processes GROUP BY run_id) p
  USING (run_id)
LEFT JOIN (SELECT run_id, count(*) AS stages, count(*) FILTER (status = 'cached') AS cached,
             count(*) FILTER (status = 'failed') AS failed, count(*) FILTER (status = 'blocked') AS blocked
           FROM stages GROUP BY run_id) s
  USING (run_id)
LEFT JOIN (SELECT run_id, count(DISTINCT (stage, task_id)) AS tasks, count(*) FILTER (fork = 0) AS attempts
           FROM attempts GROUP BY run_id) a
  USING (run_id)""",
    # a right pick decides every attempt (equal or wrong), a wrong pick only the attempts with the same grid
    "v_attempts": f"""
WITH scored AS (
  SELECT p.run_id, p.stage, p.task_id, p.test_index, p.grid, bool_or(s.exact_match) AS exact_match
  FROM picks p
  JOIN scores s ON coalesce(s.solve_run_id, s.run_id) = p.run_id AND s.solve_stage = p.stage
    AND s.task_id = p.task_id AND s.test_index = p.test_index AND s.rank = p.rank
  GROUP BY ALL
),
proposed AS (
  SELECT run_id, stage, task_id, attempt, fork, len(grids) AS num_tests,
    unnest(grids) AS grid, generate_subscripts(grids, 1) - 1 AS test_index
  FROM attempts
),
judged AS (
  SELECT run_id, stage, task_id, attempt, fork, num_tests,
    count(*) FILTER (is_right) AS num_right, count(*) FILTER (NOT is_right) AS num_wrong
  FROM (
    SELECT p.run_id, p.stage, p.task_id, p.attempt, p.fork, p.num_tests, p.test_index,
      CASE WHEN bool_or(s.exact_match) THEN bool_or(s.exact_match AND s.grid = p.grid)
           WHEN bool_or(s.grid = p.grid) THEN false END AS is_right
    FROM proposed p JOIN scored s USING (run_id, stage, task_id, test_index)
    GROUP BY ALL
  )
  GROUP BY ALL
),
steps AS (
  SELECT run_id, stage, task_id, attempt, fork, count(*) AS trm_steps FROM trm_steps GROUP BY ALL
)
SELECT
  a.run_id, a.stage, a.task_id, a.attempt, a.fork, a.attempt_id, a.parent,
  a.verdict, a.score,
  CASE WHEN j.num_wrong > 0 THEN false WHEN j.num_right = j.num_tests THEN true END AS solved,
  a.feedback,
  l.prompt_tokens + l.new_tokens AS llm_tokens, l.new_tokens AS llm_new_tokens, l.temperature,
  s.trm_steps,
  coalesce(list_sum(map_values(TRY_CAST(a.timings AS MAP(VARCHAR, DOUBLE)))),
    date_diff('microsecond', a.started_at, a.ended_at) / 1e6) AS seconds,
  date_diff('microsecond', a.started_at, a.ended_at) / 1e6 AS elapsed_s,
  {_ATTEMPT_END},
  a.attempt_id || '@' || p.place AS name
FROM attempts a
LEFT JOIN v_places p USING (run_id, stage)
LEFT JOIN judged j USING (run_id, stage, task_id, attempt, fork)
LEFT JOIN llm_calls l USING (run_id, stage, task_id, attempt, fork)
LEFT JOIN steps s USING (run_id, stage, task_id, attempt, fork)""",
    "v_tasks": """
WITH best_pick AS (
  SELECT coalesce(solve_run_id, run_id) AS run_id, solve_stage AS stage, task_id, test_index,
    bool_or(exact_match) AS exact, coalesce(bool_or(exact_match) FILTER (rank = 0), false) AS exact_first,
    max(cell_accuracy) AS cell_accuracy
  FROM scores GROUP BY ALL
),
scored AS (
  SELECT run_id, stage, task_id, bool_and(exact) AS solved, bool_and(exact_first) AS solved_first,
    avg(exact::INT) AS pass2, avg(exact_first::INT) AS pass1, avg(cell_accuracy) AS cell_accuracy
  FROM best_pick GROUP BY ALL
),
tried AS (
  SELECT run_id, stage, task_id, count(*) AS attempts, bool_or(verdict = 'accepted') AS accepted,
    max(score) AS best_score,
    arg_max({'id': attempt_id, 'verdict': verdict, 'feedback': feedback}, (coalesce(score, -1e300), -attempt)) AS best,
    sum(llm_tokens)::BIGINT AS llm_tokens, sum(seconds) AS seconds
  FROM v_attempts WHERE fork = 0 GROUP BY ALL
)
SELECT
  t.run_id, t.stage, t.task_id, t.subset, len(t.demos) AS demos, len(t.tests) AS tests,
  coalesce(a.attempts, 0) AS attempts, coalesce(a.accepted, false) AS accepted, a.best_score,
  a.best.id AS best_attempt_id,
  coalesce(nullif(split_part(a.best.feedback, chr(10), 1), ''), a.best.verdict) AS best_verdict,
  s.solved, s.solved_first, s.pass1, s.pass2, s.cell_accuracy,
  a.llm_tokens, a.seconds
FROM tasks t
LEFT JOIN tried a USING (run_id, stage, task_id)
LEFT JOIN scored s USING (run_id, stage, task_id)""",
    "v_failed": """
SELECT run_id, stage, task_id, attempts, best_verdict, best_score, best_attempt_id, cell_accuracy, accepted, solved
FROM v_tasks
WHERE attempts > 0 AND NOT coalesce(solved, accepted)""",
    "v_leaderboard": """
SELECT
  t.run_id, t.stage, any_value(r.name) AS name, any_value(k.checkpoint_key) AS checkpoint_key,
  count(*) AS tasks, sum(t.tests)::BIGINT AS test_inputs, count(t.solved) AS scored_tasks,
  avg(t.pass1) AS pass1, avg(t.pass2) AS pass2, count(*) FILTER (t.solved) AS solved_tasks,
  count(*) FILTER (t.accepted) AS accepted_tasks,
  sum(t.attempts)::BIGINT AS attempts, sum(t.llm_tokens)::BIGINT AS llm_tokens, sum(t.seconds) AS seconds,
  any_value(r.started_at) AS started_at
FROM v_tasks t
LEFT JOIN runs r USING (run_id)
LEFT JOIN (SELECT run_id, stage, max(checkpoint_key) AS checkpoint_key FROM attempts GROUP BY ALL) k
  USING (run_id, stage)
GROUP BY t.run_id, t.stage
ORDER BY pass2 DESC NULLS LAST, pass1 DESC NULLS LAST, started_at DESC""",
    "v_processes": """
SELECT
  p.run_id, p.process,
  CASE WHEN p.status = 'started' AND (
         p.process < max(p.process) OVER (PARTITION BY p.run_id)
         OR list_contains(getvariable('dead_runs')::VARCHAR[], p.run_id))
       THEN 'crashed' ELSE p.status END AS status,
  p.started_at, p.ended_at, p.seconds, p.host, p.pid, p.device, p.gridloom_version, p.error
FROM run_processes p
ORDER BY p.run_id DESC, p.process""",
    "v_stage_times": """
SELECT
  s.run_id, s.stage, s.kind, s.status, s.key, s.started_at, s.ended_at,
  coalesce(p.seconds, date_diff('millisecond', s.started_at, s.ended_at) / 1000) AS seconds,
  p.processes
FROM stages s
LEFT JOIN (SELECT run_id, stage, count(*) AS processes, sum(seconds) AS seconds FROM stage_processes GROUP BY ALL) p
  USING (run_id, stage)""",
    "v_verifiers": """
SELECT
  run_id, stage, verifier, threshold, precision, recall, accepted, accepted_right, attempts, num_right,
  coalesce(solve_run_id, run_id) AS solve_run_id, solve_stage
FROM calibrations WHERE is_chosen
ORDER BY run_id DESC, stage, precision DESC NULLS LAST, recall DESC NULLS LAST""",
    "v_costs": """
SELECT
  run_id, stage, status, expected_s, measured_s,
  100 * (expected_s - measured_s) / nullif(measured_s, 0) AS seconds_error_percent,
  expected_peak_bytes, measured_peak_bytes,
  100 * (expected_peak_bytes - measured_peak_bytes) / nullif(measured_peak_bytes, 0) AS peak_error_percent,
  num_steps / nullif(expected_s, 0) AS expected_steps_per_s, measured_steps_per_s,
  parameters, frozen_parameters, flops, num_steps, step, calibrated_on, assumes
FROM (
  SELECT e.*, s.status, e.seconds AS expected_s, e.peak_bytes AS expected_peak_bytes,
    CASE WHEN s.status = 'done' THEN s.seconds END AS measured_s,
    (s.notes->>'stage_memory_bytes')::BIGINT AS measured_peak_bytes,
    (s.notes->>'steps_per_s')::DOUBLE AS measured_steps_per_s
  FROM estimates e
  LEFT JOIN (SELECT run_id, stage, t.status, notes, t.seconds FROM stages JOIN v_stage_times t USING (run_id, stage)) s
    USING (run_id, stage)
)""",
    "v_metrics_latest": """
SELECT run_id, stage, name, max(step) AS step, arg_max(value, step) AS value, arg_max(recorded_at, step) AS recorded_at
FROM metrics GROUP BY run_id, stage, name""",
}
