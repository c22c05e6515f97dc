"""`gridloom watch`: a run on a terminal, as it goes on."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from run_cases import graph, node
from store_cases import EPOCH, RIGHT, attempt, pick, small_run, task
from view_support import client_of, fill

from gridloom.cli.show import watch as module
from gridloom.cli.show.terminal import Terminal
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import MetricRecord, RunRecord, StageRecord
from gridloom.stores.runs.process_records import ProcessRecord
from gridloom.stores.workspace import Workspace
from gridloom.view.reader import Reader


def test_a_run_is_drawn_with_stages_scores_and_attempts(
    tmp_path: Path, typist: Callable[[Path], Callable[..., str]]
) -> None:
    fill(Workspace(tmp_path / "w"))
    type_ = typist(tmp_path)
    text = type_("watch", "run-1", "--home", "w")
    assert "run run-1  quickstart  done" in text
    assert "pretrain  train" in text
    assert "loss 0.05128" in text
    assert "pass@2 50.0%" in text
    assert "cccc0003.1@" in text
    assert "\x1b" not in type_("watch", "run-2", "--home", "w")
    assert "did you mean 'run-2'" in type_("watch", "run-9", "--home", "w", code=1)
    assert "gridloom run quickstart" in type_("watch", "--home", "empty", code=1)


def test_workers_and_their_losses_stand_in_one_line(
    tmp_path: Path, typist: Callable[[Path], Callable[..., str]]
) -> None:
    with LedgerWriter(Workspace(tmp_path / "w"), "run-1") as writer:
        writer.append(*small_run("run-1"))
        type_ = typist(tmp_path)
        assert "workers:" not in type_("watch", "--home", "w")

        def record(process: str, worker: str | None, status: str, error: str | None = None) -> None:
            more = {"host": "n1", "pid": 1, "worker": worker, "started_at": 1.0}
            writer.append(ProcessRecord(run_id="run-1", process=process, status=status, error=error, **more))

        record("2026-12-01T00-00-00-a", None, "started")
        record("2026-12-01T00-00-01-a", "srun-0", "lost", "killed by SIGKILL")
        record("2026-12-01T00-00-02-a", "srun-0", "started")
        record("2026-12-01T00-00-03-a", "srun-1", "lost", "exit status 1")
        record("2026-12-01T00-00-04-a", "srun-2", "started")
        shown = type_("watch", "--home", "w")
    assert "workers: 1 lost, 2 running; lost 2 times, last srun-1 on n1 (exit status 1)" in shown
    with client_of(Workspace(tmp_path / "w")) as client:
        page = client.get("/run?id=run-1").text
    assert '<th scope="col">worker</th>' in page
    assert "<td>srun-1</td>" in page
    assert "exit status 1" in page


def test_a_live_run_is_drawn_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.05)
    out = io.StringIO()
    console: Console = Terminal(file=out, force_terminal=True, width=120)
    workspace = Workspace(tmp_path / "w")
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run("run-1"), RunRecord(run_id="run-1", status="started"))

        def finish() -> None:
            writer.append(attempt("dddd0004", 1), RunRecord(run_id="run-1", status="done"))

        later = threading.Timer(0.3, finish)
        later.start()
        reader = Reader(workspace)
        try:
            assert module.watch(console, reader, None) == "done"
        finally:
            later.join()
            reader.close()
    assert "dddd0004.1" in out.getvalue()


def test_what_a_running_stage_has_left_is_told_from_the_process_that_runs_now(
    tmp_path: Path, typist: Callable[[Path], Callable[..., str]]
) -> None:
    type_ = typist(tmp_path)
    with LedgerWriter(Workspace(tmp_path / "w"), "run-1") as writer:
        learning = graph(node("learn", "1")).model_dump_json()
        writer.append(RunRecord(run_id="run-1", name="two", graph=learning, status="started", started_at=EPOCH))
        for place, began in enumerate((EPOCH, EPOCH + 1000)):
            process = f"2026-12-01T00-00-0{place}-a"
            writer.append(ProcessRecord(run_id="run-1", process=process, status="started", started_at=began))
        writer.append(
            StageRecord(run_id="run-1", stage="learn", kind="train", status="running", started_at=EPOCH),
            MetricRecord(run_id="run-1", stage="learn", step=1, name="steps_per_s", value=0.125, recorded_at=EPOCH + 8),
            StageRecord(run_id="run-1", stage="solve", kind="solve", status="running", started_at=EPOCH),
            *(task(name) for name in ("aaaa0001", "bbbb0002", "cccc0003", "dddd0004", "eeee0005")),
        )
        shown = type_("watch", "--home", "w")
        assert "0 of 5 tasks" in shown
        assert "0 of 5 tasks," not in shown, "without a rate no time"
        # one task of the process before, two of this one within 40 s, one that was begun
        for name, ended in (("aaaa0001", 10.0), ("bbbb0002", 1015.0), ("cccc0003", 1040.0)):
            writer.append(attempt(name, 1, ended_at=EPOCH + ended), pick(name, 0, RIGHT))
        writer.append(attempt("dddd0004", 1, ended_at=EPOCH + 1041))
        shown = type_("watch", "--home", "w")
        assert "3 of 5 tasks, 40 s left" in shown
        assert "1 of 3 steps, 16 s left" in shown
        with client_of(Workspace(tmp_path / "w")) as client:
            page = client.get("/run?id=run-1").text
        assert "3 of 5 tasks, 40 s left" in page
        assert "1 of 3 steps, 16 s left" in page
        writer.append(RunRecord(run_id="run-1", status="interrupted"))
        assert "left" not in type_("watch", "--home", "w"), "what has stopped has no end in sight"
