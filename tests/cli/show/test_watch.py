"""`gridloom watch`: a run on a terminal, as it goes on."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from store_cases import attempt, small_run
from view_support import fill

from gridloom.cli.show import watch as module
from gridloom.cli.show.terminal import Terminal
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import RunRecord
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
