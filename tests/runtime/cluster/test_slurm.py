"""Tests of runs on Slurm: the jobs that are submitted, and on a real Slurm of this host that they resume."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster
from compiler_support import SPEC

from gridloom.compiler.compile import compile_text
from gridloom.compiler.facts import StaticFacts
from gridloom.runtime.cluster.profile import Profile
from gridloom.runtime.cluster.slurm import StageJob, groups, jobs_of

TASKS = ["--set", "stages.solve.limit=32", "--set", "stages.solve.solver.search.states=4000"]


def test_a_sweep_is_an_array_a_shared_stage_one_job_and_inputs_come_first(facts: StaticFacts) -> None:
    graph = compile_text(SPEC + "sweep: {stages.solve.solver.views: [2, 4, 8]}\n", facts=facts).graph
    found = groups(graph, graph.nodes)
    assert ["solve@1", "solve@2", "solve@3"] in [[node.name for node in group] for group in found]
    place = {node.name: number for number, group in enumerate(found) for node in group}
    assert all(place[name] < place[node.name] for node in graph.nodes for name in node.inputs.values())
    assert sorted(place) == sorted(node.name for node in graph.nodes)


def test_a_stage_has_a_job_of_its_own_where_the_run_is_restricted_too(facts: StaticFacts) -> None:
    graph = compile_text(SPEC, facts=facts).graph
    profile, node = Profile(where="slurm:short"), next(node for node in graph.nodes if node.kind == "solve")
    (job,) = jobs_of(profile, [node], ["my.yaml"], ["score"])
    assert job.stages == (node.name,)
    assert "--only" not in job.arguments
    (results,) = jobs_of(profile, [], ["my.yaml"], ["score"])
    assert results.stages == ("score",)


def test_a_job_that_fails_raises_and_one_that_was_told_to_stop_is_the_same_job_again(tmp_path: Path) -> None:
    job = StageJob(("no-such-recipe", "--home", str(tmp_path)), ("solve",), str(tmp_path))
    with pytest.raises(RuntimeError, match=r"gridloom run no-such-recipe .* --only solve ended with 1"):
        job()
    pytest.importorskip("submitit")
    again = job.checkpoint().function
    assert (again.arguments, again.stages, again.folder) == (job.arguments, job.stages, job.folder)


def test_a_signal_while_a_job_waits_for_its_run_saves_it(tmp_path: Path) -> None:
    """submitit calls `checkpoint` in a signal handler, which interrupts the job's own wait for the same child."""
    pytest.importorskip("submitit")
    script = tmp_path / "run.py"
    script.write_text(
        "import signal, sys, time\nsignal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))\n"
        f"open({str(tmp_path / 'ready')!r}, 'w').close()\ntime.sleep(60)\n"
    )
    code = (
        "import os, signal, subprocess, sys\n"
        "from gridloom.runtime.cluster import slurm\n"
        "real = subprocess.Popen\n"
        f"slurm.subprocess.Popen = lambda command, **more: real([sys.executable, {str(script)!r}], **more)\n"
        f"job = slurm.StageJob((), ('solve',), {str(tmp_path)!r})\n"
        "def handler(*_):\n    job.checkpoint()\n    os._exit(7)\n"
        "signal.signal(signal.SIGUSR2, handler)\n"
        "job()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as job:
        deadline = time.monotonic() + 60
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)
        job.send_signal(signal.SIGUSR2)
        assert job.wait(60) == 7


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables of a real Slurm on this host."""
    if problem := slurm_cluster.problem():
        pytest.fail(problem)
    with slurm_cluster.slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield {**os.environ, **environment, "OMP_NUM_THREADS": "1"}


def gridloom(environment: dict[str, str], *words: str) -> str:
    """Run a command line, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "gridloom", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def wait_for(environment: dict[str, str], job: str, states: str, patience_s: float = 3600) -> None:
    """Wait until a job is in a state, or has left the queue where `states` is empty."""
    deadline = time.monotonic() + patience_s
    while True:
        shown = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], env=environment, capture_output=True, text=True)
        if (states and shown.stdout.strip() in states.split()) or (not states and not shown.stdout.strip()):
            return
        assert time.monotonic() < deadline, (job, states, shown.stdout, shown.stderr)
        time.sleep(0.5)


@pytest.fixture(scope="module")
def alone(slurm: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of the attempts that one process makes."""
    home = tmp_path_factory.mktemp("alone")
    gridloom(slurm, "run", "solve-search", *TASKS, "--home", str(home), "-q")
    return artifacts(home)


def artifacts(home: Path) -> dict[str, str]:
    """Attempts and picks that a workspace has published."""
    return {name: next(home.glob(f"artifacts/*/{name}")).read_text() for name in ("attempts.jsonl", "picks.json")}


@pytest.mark.slurm
@pytest.mark.parametrize("how", ["timed out", "preempted"])
def test_stages_run_as_jobs_that_are_queued_again_and_equal_the_lone_run(
    slurm: dict[str, str], alone: dict[str, str], tmp_path: Path, how: str
) -> None:
    profile = tmp_path / "low.yaml"
    notice = 100 if how == "timed out" else 10
    profile.write_text(json.dumps({"where": "slurm:low", "time": "30m", "cpus": 1, "notice_s": notice}))
    home = tmp_path / "home"
    printed = gridloom(slurm, "run", "solve-search", *TASKS, "--home", str(home), "--on", str(profile))
    jobs = re.findall(r"^([0-9]+)  (\S+)(?:  after (.*))?$", printed, re.M)
    names = {name: (job, after) for job, name, after in jobs}
    assert names["solve"][1] == names["arc1"][0]
    assert set(names["score"][1].split(", ")) >= {names["solve"][0]}
    solve, last = names["solve"][0], names["results"][0]
    wait_for(slurm, solve, "RUNNING")
    deadline = time.monotonic() + 600
    while not any('"attempt_id"' in path.read_text() for path in home.glob("journal/*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    if how == "timed out":
        # Slurm signals when less than the notice is left: at its next look, some 30 s later at most
        shown = subprocess.run(["squeue", "-h", "-j", solve, "-o", "%M"], env=slurm, capture_output=True, text=True)
        minutes = 2 + int(shown.stdout.strip().split(":")[0])
        subprocess.run(["scontrol", "update", f"JobId={solve}", f"TimeLimit={minutes}"], env=slurm, check=True)
        wait_for(slurm, solve, "PENDING")
        # as long as at first, and without the two minutes that Slurm waits before it starts a job again
        again = ["scontrol", "update", f"JobId={solve}", "TimeLimit=30", "StartTime=now"]
        subprocess.run(again, env=slurm, check=True)
    else:
        subprocess.run(["srun", "-p", "high", "--exclusive", "sleep", "1"], env=slurm, check=True, capture_output=True)
    wait_for(slurm, last, "")
    logs = "".join(path.read_text() for path in sorted((home / "slurm").glob(f"{solve}_*")) if path.suffix != ".pkl")
    assert "Requeue" in logs or "requeue" in logs, logs
    shown = (home / "slurm" / f"{last}_0_log.out").read_text()
    assert "pass@2" in shown, shown
    assert artifacts(home) == alone
