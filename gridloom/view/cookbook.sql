-- Questions to the ledger, each after a line with its title; docs/ledger.md prints the same, which a test compares.

-- ## How did each run end?
select run_id, name, status, stages, attempts, seconds from v_runs order by started_at desc

-- ## Which tasks failed, the nearest miss first?
from v_failed select task_id, attempts, best_verdict, cell_accuracy order by cell_accuracy desc nulls last limit 10

-- ## How do the runs compare?
select name, stage, pass1, pass2, scored_tasks, attempts, llm_tokens, seconds from v_leaderboard

-- ## How many attempts until a task was accepted?
select first_accepted, count(*) as tasks
from (select task_id, min(attempt) filter (verdict = 'accepted') as first_accepted from v_attempts group by run_id, task_id)
group by all order by all

-- ## Which views (dihedral transformations) solve most?
select substr(view, 2, 1)::int as dihedral, count(*) as attempts, avg((verdict = 'accepted')::int) as accepted
from (select unnest(from_json(plan->'views', '["VARCHAR"]')) as view, verdict from v_attempts)
group by all order by accepted desc

-- ## Where does the verifier err: accepted, but wrong?
select task_id, attempt_id, score, feedback from v_attempts where verdict = 'accepted' and solved = false

-- ## Scores of each verifier on right and on wrong attempts:
select verifier, a.solved, count(*) as attempts, avg(v.score) as mean_score
from verdicts v join v_attempts a using (run_id, stage, task_id, attempt, fork)
group by all order by all

-- ## How far can each verifier be believed? Measured by a `calibrate` stage; `all` is the weighted mean that decides.
select verifier, threshold, precision, recall, accepted, attempts from v_verifiers

-- ## What would another threshold have accepted?
select threshold, accepted, precision, recall from calibrations where verifier = 'all' order by threshold

-- ## What does a solved task cost?
select run_id, sum(llm_tokens) / nullif(count(*) filter (solved), 0) as tokens_per_solved,
       sum(seconds) / nullif(count(*) filter (solved), 0) as seconds_per_solved
from v_tasks group by all

-- ## Where does the time of an attempt go?
select node, avg(seconds::double) as mean_s, max(seconds::double) as max_s
from (select unnest(json_keys(timings)) as node, timings->>unnest(json_keys(timings)) as seconds from attempts)
group by all order by mean_s desc

-- ## How good were the estimates? Times are null without a calibration; peak memory on a CPU is by how much the process grew.
select stage, expected_s, measured_s, seconds_error_percent, expected_peak_bytes, measured_peak_bytes from v_costs

-- ## At which ACT step does the TRM stop changing its answer?
select act_step, avg(changed_cells) as changed_cells, avg(q_halt) as q_halt from trm_steps group by all order by all

-- ## How went the loss?
select step, value from metrics where stage = 'pretrain' and name = 'loss' order by step

-- ## What did the first demonstration of a task look like, as text?
select task_id, array_to_string(list_transform(demos[1].output, lambda r: array_to_string(r, ' ')), chr(10)) as grid
from tasks limit 1

-- ## Which checkpoint solved which task on which attempt?
select task_id, attempt, checkpoint_key from v_attempts where solved order by all

-- ## What changed between two attempts of a task?
select a.attempt_id, b.attempt_id, a.plan->'views' as views_a, b.plan->'views' as views_b, b.score - a.score as gain
from v_attempts a join v_attempts b
  on b.run_id = a.run_id and b.stage = a.stage and b.task_id = a.task_id and b.attempt = a.attempt + 1

-- ## Was anything lost or set aside?
select journal, lost_lines from journals where lost_lines > 0
