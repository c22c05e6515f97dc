"""`gridloom gc`: what killed processes left goes, journals on request, and nothing that anyone needs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gridloom.cli.main import main
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import RunRecord
from gridloom.stores.workspace import Workspace

KILLED = """
import os, signal, sys
from pathlib import Path
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import RunRecord
from gridloom.stores.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
writer = LedgerWriter(workspace, "killed")
writer.append(RunRecord(run_id="killed", name="n", status="started", started_at=1.0))
with ArtifactStore(workspace).writing("gl1:half") as out:
    (out / "half.bin").write_bytes(bytes(1_500_000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command and return what it prints."""

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["gridloom", "gc", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_gc_removes_what_a_killed_process_left_and_journals_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[..., str]
) -> None:
    home = tmp_path / "home"
    subprocess.run([sys.executable, "-c", KILLED, str(home)], check=False)
    monkeypatch.setenv("GRIDLOOM_HOME", str(home))
    workspace = Workspace(home)
    aside = home / "artifacts" / ".writing"
    with ArtifactStore(workspace).writing("gl1:mine"), LedgerWriter(workspace, "mine") as writer:
        writer.append(RunRecord(run_id="mine", name="n", status="started", started_at=2.0))
        before = names(aside), names(workspace.journal_dir)
        dry = said("--dry-run", "--journals")
        assert dry.splitlines() == [
            "1 unpublished artifact of killed processes, 1.5 MB: would be removed",
            "1 journal of ended processes, wholly in the ledger, 0.0 MB: would be removed",
        ]
        assert before == (names(aside), names(workspace.journal_dir))
        assert "kept; --journals removes them" in said()
        assert len(names(workspace.journal_dir)) == 2
        assert len(names(aside)) == 2, "the living writer's folder and lock"
        found = json.loads(said("--journals", "--json"))
        assert (found["aborted"]["number"], found["journals"]["number"], found["journals"]["removed"]) == (0, 1, True)
        assert writer.journal_path is not None
        assert names(workspace.journal_dir) == [writer.journal_path.name]
    assert {run["run_id"] for run in Ledger(workspace).runs()} == {"killed", "mine"}


def test_gc_of_an_empty_workspace_makes_nothing(tmp_path: Path, said: Callable[..., str]) -> None:
    assert "0 journals" in said("--home", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
