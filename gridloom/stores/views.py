"""Views for queries. The first column is run_id; times are UTC, durations are in seconds, ratios in [0, 1]."""

from __future__ import annotations

from gridloom.stores.attempt import KEY, column_names
from gridloom.stores.records import AttemptRecord

_ATTEMPT_HEAD = (*KEY, "attempt_id", "parent", "verdict", "score")
_ATTEMPT_TAIL = ("started_at", "ended_at", "plan", "timings", "grids", "stage_key", "checkpoint_key")
_ATTEMPT_LEFT_OUT = ("prompt", "text", "latent", "prefix", "geometry")
"""Columns of an attempt that v_attempts lacks: texts and bytes are read from the table."""
_PLACED = frozenset({*_ATTEMPT_HEAD, "feedback", *_ATTEMPT_TAIL, *_ATTEMPT_LEFT_OUT})
ATTEMPT_END = ", ".join(f"a.{name}" for name in (*_ATTEMPT_TAIL, *column_names(AttemptRecord, _PLACED)))
"""Last columns of v_attempts but its name, of the table `attempts a`."""

VIEWS: dict[str, str] = {
    "v_places": "SELECT run_id, stage, place FROM places",
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
LEFT JOIN (SELECT run_id, count(*) AS processes, sum(seconds) AS seconds FROM run_processes
  WHERE worker IS NULL GROUP BY run_id) p
  USING (run_id)
LEFT JOIN (SELECT run_id, count(*) AS stages, count(*) FILTER (status = 'cached') AS cached,
             count(*) FILTER (status = 'failed') AS failed, count(*) FILTER (status = 'blocked') AS blocked
           FROM stages GROUP BY run_id) s
  USING (run_id)
LEFT JOIN (SELECT run_id, count(*) AS tasks, sum(attempts)::BIGINT AS attempts
           FROM task_figures WHERE all_attempts > 0 GROUP BY run_id) a
  USING (run_id)""",
    # one table without a join, so that a page of it is read without reading the rest
    "v_attempts": f"""
SELECT
  a.run_id, a.stage, a.task_id, a.attempt, a.fork, a.attempt_id, a.parent,
  a.verdict, a.score, a.v_solved AS solved, a.feedback,
  a.v_llm_tokens AS llm_tokens, a.v_llm_new_tokens AS llm_new_tokens, a.v_temperature AS temperature,
  a.v_trm_steps AS trm_steps, a.v_seconds AS seconds,
  date_diff('microsecond', a.started_at, a.ended_at) / 1e6 AS elapsed_s,
  {ATTEMPT_END},
  a.attempt_id || '@' || a.v_place AS name
FROM attempts a""",
    "v_tasks": """
SELECT
  t.run_id, t.stage, t.task_id, t.subset, len(t.demos) AS demos, len(t.tests) AS tests,
  coalesce(f.attempts, 0) AS attempts, coalesce(f.accepted, false) AS accepted, f.best_score,
  f.best_attempt_id, f.best_verdict,
  f.solved, f.solved_first, f.pass1, f.pass2, f.cell_accuracy,
  f.llm_tokens, f.seconds
FROM tasks t
LEFT JOIN task_figures f USING (run_id, stage, task_id)""",
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
LEFT JOIN (SELECT run_id, stage, max(checkpoint_key) AS checkpoint_key FROM task_figures GROUP BY ALL) k
  USING (run_id, stage)
GROUP BY t.run_id, t.stage
ORDER BY pass2 DESC NULLS LAST, pass1 DESC NULLS LAST, started_at DESC""",
    "v_processes": """
SELECT
  p.run_id, p.process,
  CASE WHEN p.status = 'started' AND (
         p.process < max(p.process) FILTER (p.worker IS NULL) OVER (PARTITION BY p.run_id)
         OR list_contains(getvariable('dead_runs')::VARCHAR[], p.run_id))
       THEN 'crashed' ELSE p.status END AS status,
  p.started_at, p.ended_at, p.seconds, p.host, p.pid, p.device, p.gridloom_version, p.error,
  p.worker
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
