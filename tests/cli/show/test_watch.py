"""`gridloom watch`: a run on a terminal, as it goes on."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from store_cases import attempt, small_run
from view_support import client_of, fill

from gridloom.cli.show import watch as module
from gridloom.cli.show.terminal import Terminal
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import RunRecord
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
