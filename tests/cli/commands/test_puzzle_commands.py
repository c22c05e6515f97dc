"""`gridloom stage finish` and `gridloom solve FILE.txt`: what has been learnt so far answers puzzles of one's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gridloom.cli.main import main
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SPEC = """\
gridloom: 1
name: own
extends: sudoku4
data: {sudokus: {train: 60, test: 4}}
models: {trm: {hidden_size: 32}}
stages:
  learn: {steps: 4, batch_size: 8, checkpoint_every: 2, log_every: 1, warmup_steps: 2}
  judge: null
"""
QUESTION, ANSWER = "1.3..4..2..3.3.1", "1234341221434321"

Run = Callable[..., str]


@pytest.fixture
def gridloom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(SPEC)

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["gridloom", *words, "--home", str(tmp_path / "home")])
        try:
            main()
        except SystemExit as done:
            if done.code:
                raise RuntimeError(capsys.readouterr().err) from None
        return capsys.readouterr().out

    return run


def test_puzzles_of_ones_own_are_answered_shown_and_recorded(gridloom: Run, tmp_path: Path) -> None:
    gridloom("run", "own.yaml")
    (tmp_path / "mine.txt").write_text(f"{QUESTION}\n{QUESTION} {ANSWER}\n")
    out = gridloom("solve", "mine.txt", "--with", "learn")
    assert "sudoku 1: " in out
    assert "sudoku 2: " in out
    assert "  1.3.   " in out
    assert "are solved by their rules; the answers of 1 are not known" in out
    rows = Ledger(Workspace(tmp_path / "home")).rows("from puzzle_predictions order by puzzle")
    assert [row["exact"] is None for row in rows] == [True, False]
    for row in rows:
        assert row["prediction"][:4] in out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("solve", "mine.txt"), "no checkpoint is named that answers them"),
        (("solve", "mine.txt", "--with", "lern"), "'lern' is no folder of a checkpoint, and no finished training"),
        (("evaluate", "trm-arc1-small", "mine.txt"), "did you mean 'shipped:trm-arc1-small'?"),
        (("solve", "gone.txt", "--with", "learn"), "gone.txt"),
        (
            ("solve", "mine.txt", "--with", "~nosuchuser/x"),
            "cannot read the checkpoint .~nosuchuser/x.: no home folder of ~nosuchuser",
        ),
        (("solve", "own.yaml", "--with", "learn"), "--with is for a file of puzzles"),
        (
            ("solve", "mine.txt", "--with", "learn", "--split", "test"),
            "holds puzzles, and --split is for specs",
        ),
        (("solve", "mine.txt", "--with", "learn", "--limit", "1"), "--limit is for specs"),
        (("solve", "mine.txt", "--with", "learn", "--budget", "5s"), "--budget is for specs"),
        (("solve", "mine.txt", "--with", "learn", "--finished-early", "learn"), "--finished-early is for specs"),
        (("stage", "finish", "own.yaml", "learn"), "has no training state in this workspace"),
        (("stage", "finish", "own.yaml", "learn", "--best", "--newest"), "--best and --newest are two states"),
        (("run", "own.yaml", "--finished-early", "learn"), "was not finished early in"),
    ],
)
def test_what_is_missing_is_named(gridloom: Run, tmp_path: Path, words: tuple[str, ...], problem: str) -> None:
    (tmp_path / "mine.txt").write_text(QUESTION)
    with pytest.raises(RuntimeError, match=problem):
        gridloom(*words)


def test_the_same_file_again_runs_nothing_and_shows_the_same(gridloom: Run, tmp_path: Path) -> None:
    gridloom("run", "own.yaml")
    (tmp_path / "mine.txt").write_text(QUESTION)
    shown = [gridloom("solve", "mine.txt", "--with", "learn", "-q").splitlines()[:5] for _ in range(2)]
    assert shown[0] == shown[1]
    assert len(shown[0]) == 5
