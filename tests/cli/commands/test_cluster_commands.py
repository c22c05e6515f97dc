"""Commands that name a place: plan --on, run --only, cluster check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SPEC = """
gridloom: 1
name: two
device: cpu
where: local:3
data:
  bits: {kind: parity, bits: 4}
models:
  net: {kind: act_rnn, cell: gru, hidden_size: 8, halt_max_steps: 4}
stages:
  learn: {kind: train, model: net, data: bits, steps: 10, batch_size: 8}
  judge: {kind: evaluate, with: learn, data: bits}
"""


@pytest.fixture
def type_(typist: Callable[[Path], Any], tmp_path: Path) -> Any:
    """A command line in a folder with a spec."""
    (tmp_path / "two.yaml").write_text(SPEC)
    return typist(tmp_path)


def test_plan_on_a_place_shows_workers_memory_and_transfer(type_: Any) -> None:
    shown = type_("plan", "two.yaml", "--on", "ray:40")
    assert "on ray:40: 40 workers on the nodes of the cluster" in shown
    assert "GB a worker" in shown
    assert "0.0 MB of 0 published inputs to each node without the shared disk; 2 more are not made yet" in shown
    assert "run two.yaml --on ray:40" in shown


def test_plan_says_where_a_spec_itself_puts_the_work(type_: Any) -> None:
    shown = type_("plan", "two.yaml")
    assert "on local:3: 1 node, 3 workers" in shown
    assert "GB for 3 on one node" in shown
    assert "transfer   none" in shown
    assert "on here" not in type_("plan", "two.yaml", "--on", "local:2")


def test_a_number_of_workers_that_slurm_would_not_see_is_refused(type_: Any) -> None:
    assert "--on 'slurm:gpu:4' is no place" in type_("plan", "two.yaml", "--on", "slurm:gpu:4", code=1)


def test_workers_on_an_allocation_need_one(type_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    for command in (("run", "two.yaml"), ("cluster", "check")):
        shown = type_(*command, "--on", "srun:2", code=1)
        assert "--on srun needs an allocation of Slurm, and this process is in none" in shown
        assert "salloc --nodes 2 gridloom run SPEC --on srun" in shown


def test_a_check_without_a_place_shows_an_example(type_: Any) -> None:
    shown = type_("cluster", "check", code=1)
    assert "--on is missing" in shown
    assert "gridloom cluster check --on local:2" in shown


def test_a_place_or_a_stage_that_is_none_is_an_error(type_: Any) -> None:
    assert "--on 'mars' is no place" in type_("run", "two.yaml", "--on", "mars", code=1)
    assert "did you mean 'learn'" in type_("run", "two.yaml", "--only", "lern", "--on", "here", code=1)


def test_only_a_stage_runs_with_what_it_needs(type_: Any, tmp_path: Path) -> None:
    assert "2 stages ran" in type_("run", "two.yaml", "--only", "learn", "--on", "here", "-q")
    assert len([*(tmp_path / ".gridloom" / "artifacts").glob("gl1-*")]) == 2


def test_cluster_check_asks_every_worker_and_fails_where_one_cannot_write(
    type_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = json.loads(type_("cluster", "check", "--on", "local:1", "--json"))
    assert answers["problems"] == []
    assert [(row["worker"], row["writes"], row["sees_workspace"]) for row in answers["workers"]] == [
        ("local-0", "", True)
    ]
    from gridloom.runtime.execution import checked_cluster

    monkeypatch.setattr(
        checked_cluster, "check_cluster", lambda crew, root: [answers["workers"][0] | {"writes": "full"}]
    )
    monkeypatch.setattr(checked_cluster, "remote_file_system", lambda folder: "nfs4")
    shown = type_("cluster", "check", "--on", "local:1", code=1)
    assert "local-0 on" in shown
    assert "cannot write: full" in shown
    assert "lies on nfs4" in shown
    assert "GRIDLOOM_LEDGER" in shown


def test_a_submission_is_refused_where_another_process_runs_the_spec(type_: Any) -> None:
    said = type_("solve", "solve-search", "--submission", "picks.json", "--on", "torchrun:2", code=1)
    assert "--submission is written by the process that runs the spec, and torchrun:2 takes the run over" in said
