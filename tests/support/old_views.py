"""The definitions of views that count over all rows, which those over kept figures must equal.

They are what gridloom 0.1.0 had before ingestion kept the figures; `old_` stands for `v_`.
"""

from __future__ import annotations

from gridloom.stores.views import ATTEMPT_END

OLD_VIEWS: dict[str, str] = {
    "old_places": """
WITH made AS (
  SELECT run_id, stage, sha256(run_id || '/' || stage) AS digest FROM (SELECT DISTINCT run_id, stage FROM attempts)
),
shortest AS (
  SELECT digits FROM made, range(4, 65) AS r(digits)
  GROUP BY digits HAVING count(DISTINCT left(digest, digits)) = count(*) ORDER BY digits LIMIT 1
)
SELECT run_id, stage, left(digest, digits) AS place FROM made, shortest""",
    "old_runs": """
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
    "old_attempts": f"""
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
  {ATTEMPT_END},
  a.attempt_id || '@' || p.place AS name
FROM attempts a
LEFT JOIN old_places p USING (run_id, stage)
LEFT JOIN judged j USING (run_id, stage, task_id, attempt, fork)
LEFT JOIN llm_calls l USING (run_id, stage, task_id, attempt, fork)
LEFT JOIN steps s USING (run_id, stage, task_id, attempt, fork)""",
    "old_tasks": """
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
  FROM old_attempts WHERE fork = 0 GROUP BY ALL
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
    "old_failed": """
SELECT run_id, stage, task_id, attempts, best_verdict, best_score, best_attempt_id, cell_accuracy, accepted, solved
FROM old_tasks
WHERE attempts > 0 AND NOT coalesce(solved, accepted)""",
    "old_leaderboard": """
SELECT
  t.run_id, t.stage, any_value(r.name) AS name, any_value(k.checkpoint_key) AS checkpoint_key,
  count(*) AS tasks, sum(t.tests)::BIGINT AS test_inputs, count(t.solved) AS scored_tasks,
  avg(t.pass1) AS pass1, avg(t.pass2) AS pass2, count(*) FILTER (t.solved) AS solved_tasks,
  count(*) FILTER (t.accepted) AS accepted_tasks,
  sum(t.attempts)::BIGINT AS attempts, sum(t.llm_tokens)::BIGINT AS llm_tokens, sum(t.seconds) AS seconds,
  any_value(r.started_at) AS started_at
FROM old_tasks t
LEFT JOIN runs r USING (run_id)
LEFT JOIN (SELECT run_id, stage, max(checkpoint_key) AS checkpoint_key FROM attempts GROUP BY ALL) k
  USING (run_id, stage)
GROUP BY t.run_id, t.stage
ORDER BY pass2 DESC NULLS LAST, pass1 DESC NULLS LAST, started_at DESC""",
}
