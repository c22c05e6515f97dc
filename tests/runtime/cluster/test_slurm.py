"""Tests of runs on Slurm: the jobs that are submitted, and on a real Slurm of this host that they resume."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import slurm_cluster
from compiler_support import SPEC

from gridloom.compiler.compile import compile_text
from gridloom.compiler.facts import StaticFacts
from gridloom.runtime.cluster.profile import Profile
from gridloom.runtime.cluster.slurm import StageJob, groups, jobs_of, parameters
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

TASKS = ["--set", "stages.solve.limit=8", "--set", "stages.solve.solver.search.states=100"]
SWEEP = ["-m", "stages.solve.solver.search.depths=[20],[10]"]
PATIENCE_S = 1200
"""Longest wait for a job; on a free machine each takes seconds."""


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


def test_the_job_of_a_stage_that_splits_has_workers_on_all_its_nodes(facts: StaticFacts) -> None:
    graph = compile_text(SPEC, facts=facts).graph
    solve, other = (next(n for n in graph.nodes if (n.kind == "solve") is is_solve) for is_solve in (True, False))
    profile = Profile(where="slurm:short", nodes=3, workers=2, cpus=4)
    assert jobs_of(profile, [solve], ["my.yaml"])[0].arguments[-2:] == ("--on", "srun:6")
    assert jobs_of(profile, [other], ["my.yaml"])[0].arguments[-2:] == ("--on", "here")
    wanted, alone = parameters(profile, [solve], []), parameters(profile, [other], [])
    assert (wanted["nodes"], alone["nodes"]) == (3, 1)
    assert "--ntasks=1" in wanted["srun_args"], "else every node would run the stage"
    submitit = pytest.importorskip("submitit")
    assert {*wanted} <= submitit.SlurmExecutor._valid_parameters()
    on_one = Profile(where="slurm:short", workers=2)
    assert jobs_of(on_one, [solve], ["my.yaml"])[0].arguments[-2:] == ("--on", "local:2")


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


def test_a_job_that_gets_sigterm_saves_and_waits_for_slurm_to_queue_it_again(tmp_path: Path) -> None:
    """Started again in the grace of its partition, it would be cut off; ended, it would not be queued again."""
    pytest.importorskip("submitit")
    script = tmp_path / "run.py"
    script.write_text(
        "import os, signal, sys, time\n"
        f"place = {str(tmp_path)!r}\n"
        "def save(*_):\n    open(f'{place}/saved', 'w').close()\n    sys.exit(75)\n"
        "signal.signal(signal.SIGUSR1, save)\n"
        "open(f'{place}/started-{os.getpid()}', 'w').close()\ntime.sleep(60)\n"
    )
    code = (
        "import os, signal, subprocess, sys\n"
        "from gridloom.runtime.cluster import slurm\n"
        "real = subprocess.Popen\n"
        f"slurm.subprocess.Popen = lambda command, **more: real([sys.executable, {str(script)!r}], **more)\n"
        f"job = slurm.StageJob((), ('solve',), {str(tmp_path)!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('logged', flush=True))\n"
        "def handler(*_):\n    job.checkpoint()\n    os._exit(7)\n"
        "signal.signal(signal.SIGUSR2, handler)\n"
        "job()\n"
    )

    def wait_for(name: str) -> None:
        deadline = time.monotonic() + 60
        while not [*tmp_path.glob(name)]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as job:
        wait_for("started-*")
        time.sleep(0.2)
        job.send_signal(signal.SIGTERM)
        wait_for("saved")
        time.sleep(1.0)
        assert len([*tmp_path.glob("started-*")]) == 1
        assert job.poll() is None
        job.send_signal(signal.SIGUSR2)
        assert job.wait(60) == 7
        assert job.stdout is not None
        assert job.stdout.read() == "logged\n"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables of a real Slurm with two nodes on this host."""
    if problem := slurm_cluster.problem():
        pytest.fail(problem)
    with slurm_cluster.slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield {**os.environ, **environment, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def alone(slurm: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of the attempts of both variants that one process makes, by artifact."""
    home = tmp_path_factory.mktemp("alone")
    gridloom(slurm, "run", "solve-search", *TASKS, *SWEEP, "--home", str(home), "-q")
    return artifacts(home)


def gridloom(environment: dict[str, str], *words: str) -> str:
    """Run a command line, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "gridloom", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def artifacts(home: Path) -> dict[str, str]:
    """Attempts and picks that a workspace has published, by artifact."""
    paths = [path for name in ("attempts.jsonl", "picks.json") for path in home.glob(f"artifacts/*/{name}")]
    return {str(path.relative_to(home)): path.read_text() for path in paths}


def processes(*words: str) -> list[int]:
    """Return the ids of the processes of this Python whose command lines have all these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_text(errors="replace").split("\0")
            if line[0] == sys.executable and {*words} <= {*line}:
                found.append(int(path.parent.name))
    return found


@dataclass
class Submitted:
    """A run that was submitted to Slurm, with the lines that it printed: stages -> id, ids that it waits for."""

    environment: dict[str, str]
    home: Path
    lines: dict[str, tuple[str, str]]

    @classmethod
    def of(cls, environment: dict[str, str], folder: Path, profile: dict[str, Any], *more: str) -> Submitted:
        """Submit the run of some tasks with a profile."""
        home, on = folder / "home", folder / "low.yaml"
        on.write_text(json.dumps({"where": "slurm:low", "time": "30m", "memory": "3G", "notice_s": 100, **profile}))
        printed = gridloom(environment, "run", "solve-search", *TASKS, *more, "--home", str(home), "--on", str(on))
        print(printed)
        found = re.findall(r"^([0-9]+)  (.+?)(?:  after (.*))?$", printed, re.M)
        return cls(environment, home, {name: (job, after) for job, name, after in found})

    def id(self, name: str) -> str:
        """Return the id of the job, or of the array, that a line names so."""
        (found,) = (job for line, (job, _) in self.lines.items() if re.search(rf"(^|of ){name}(:|$)", line))
        return found

    def ask(self, *words: str) -> str:
        """Return what a program of Slurm prints."""
        return subprocess.run(words, env=self.environment, capture_output=True, text=True).stdout

    def logs(self, job: str = "") -> str:
        """Return the output of a job, of an array, or of all."""
        return "".join(
            f"{path.name}:\n{path.read_text()}\n" for path in sorted((self.home / "slurm").glob(f"{job}*_log.*"))
        )

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, self.ask("squeue") + self.logs()
            time.sleep(0.1)

    def ended(self) -> bool:
        """Return whether the last job has left the queue."""
        return not self.ask("squeue", "-h", "-j", self.id("results")).strip()

    def started_again(self, job: str) -> list[int]:
        """Return how often the job, or each of the array, was queued again."""
        return [int(count) for count in re.findall(r"Restarts=([0-9]+)", self.ask("scontrol", "show", "job", job))]

    def pause(self, number: int) -> list[int]:
        """Wait until so many solves have recorded an attempt each, and stop the processes; return their ids.

        A process that is stopped does not end before its signal comes, whatever the speed of the machine.
        """
        found: set[int] = set()

        def stopped() -> bool:
            for pid in processes("gridloom", "run", str(self.home), "--only"):
                journals = [path.read_text() for path in self.home.glob(f"journal/*-{pid}-*.jsonl")]
                if pid not in found and any('"attempt_id"' in text for text in journals):
                    os.kill(pid, signal.SIGSTOP)
                    found.add(pid)
            return len(found) == number

        self.until(stopped)
        return sorted(found)

    def go_on(self, pids: list[int]) -> None:
        """Let stopped solves go on once Slurm has signalled the job of each."""
        logs = self.home / "slurm"
        job = self.id("solve")
        self.until(lambda: sum("signal SIG" in path.read_text() for path in logs.glob(f"{job}_*_log.err")) >= len(pids))
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    def saved(self) -> int:
        """Return the number of runs that a signal stopped and that saved their state."""
        found = Ledger(Workspace(self.home)).rows("select status from run_processes where worker is null")
        return [row["status"] for row in found].count("interrupted")

    def start_pending(self, job: str, number: int) -> None:
        """Wait until a job is queued again, and start it: by itself Slurm waits for two minutes."""
        self.until(lambda: len(self.started_again(job)) >= number and all(self.started_again(job)))
        self.until(lambda: "COMPLETING" not in self.ask("squeue", "-h", "-j", job, "-o", "%T"))
        self.ask("scontrol", "update", f"JobId={job}", "TimeLimit=30", "StartTime=now")


@pytest.mark.slurm
def test_a_job_that_reaches_its_limit_is_queued_again_and_equals_the_lone_run(
    slurm: dict[str, str], alone: dict[str, str], tmp_path: Path
) -> None:
    run = Submitted.of(slurm, tmp_path, {})
    solve = run.id("solve")
    assert run.lines["solve"][1] == run.id("arc1")
    assert solve in run.lines["score"][1].split(", ")
    pids = run.pause(1)
    # Slurm signals when less than the notice is left: at its next look, some 30 s later at most
    elapsed = run.ask("squeue", "-h", "-j", solve, "-o", "%M").strip().split(":")
    limit = 1 + int(elapsed[-2]) + 60 * int(elapsed[-3] if len(elapsed) > 2 else 0)
    assert not subprocess.run(["scontrol", "update", f"JobId={solve}", f"TimeLimit={limit}"], env=slurm).returncode
    run.go_on(pids)
    run.start_pending(solve, 1)
    run.until(run.ended)
    assert run.saved() == 1, run.logs()
    assert "pass@2" in run.logs(run.id("results")), run.logs()
    made = artifacts(run.home)
    assert len(made) == 2
    assert made.items() <= alone.items()


@pytest.mark.slurm
def test_the_jobs_of_a_sweep_are_an_array_that_is_preempted_and_equals_the_lone_run(
    slurm: dict[str, str], alone: dict[str, str], tmp_path: Path
) -> None:
    run = Submitted.of(slurm, tmp_path, {}, *SWEEP)
    solve = run.id("solve")
    assert any(line.startswith("2 of solve") for line in run.lines)
    pids = run.pause(2)
    other = ["srun", "-p", "high", "--nodes=2", "--exclusive", "sleep", "1"]
    with subprocess.Popen(other, env=slurm, stderr=subprocess.DEVNULL) as more_urgent:
        run.go_on(pids)
        assert more_urgent.wait() == 0
    run.start_pending(solve, 2)
    run.until(run.ended)
    assert run.saved() == 2, run.logs()
    assert "pass@2" in run.logs(run.id("results")), run.logs()
    assert artifacts(run.home) == alone


@pytest.mark.slurm
def test_one_solve_is_shared_by_workers_on_the_nodes_of_its_job(
    slurm: dict[str, str], alone: dict[str, str], tmp_path: Path
) -> None:
    run = Submitted.of(slurm, tmp_path, {"nodes": 2})

    def are_two() -> bool:
        text = "".join(path.read_text() for path in run.home.glob("journal/*.jsonl"))
        return all(f'"worker":"srun-{index}"' in text for index in range(2))

    run.until(are_two)
    worker = processes("gridloom.runtime.cluster.worker", str(run.home))[0]
    os.kill(worker, signal.SIGKILL)  # one of the nodes loses its worker
    run.until(run.ended)
    assert "pass@2" in run.logs(run.id("results")), run.logs()
    made = artifacts(run.home)
    assert len(made) == 2
    assert made.items() <= alone.items()
    rows = Ledger(Workspace(run.home)).rows("select host, worker, status from run_processes where worker is not null")
    assert {row["host"] for row in rows} == {*slurm_cluster.NODES}, rows
    assert sorted(row["status"] for row in rows) == ["done", "done", "lost"], rows


@pytest.mark.slurm
def test_every_node_of_an_allocation_answers_the_check(slurm: dict[str, str], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "gridloom",
        "cluster",
        "check",
        "--on",
        "srun:3",
        "--json",
        "--home",
        str(tmp_path),
    ]
    done = subprocess.run(["salloc", "--nodes=2", "--mem=3G", *command], env=slurm, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)["workers"]
    assert [(row["worker"], row["host"]) for row in found] == [("srun-0", "n1"), ("srun-1", "n2"), ("srun-2", "n1")]
