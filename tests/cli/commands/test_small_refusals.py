"""Refusals before anything runs, and the command that continues."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from store_cases import attempt, small_run

from gridloom.cli.command_line import command_line
from gridloom.cli.main import main
from gridloom.errors import StageError
from gridloom.runtime.interop.result_files import parse_failures
from gridloom.runtime.machine.device import resolve_device
from gridloom.solvers.replay.report import ReplayReport
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import RunRecord
from gridloom.stores.workspace import Workspace


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gridloom", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out + err


@pytest.mark.parametrize(
    "device", ["gpu", "CPU", "mps", "cuda:", "cuda:x", "cuda:-1", "cuda:\u0663", "", "cpu\n", "meta"]
)
@pytest.mark.parametrize("command", ["run", "plan", "solve"])
def test_what_is_no_device_is_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], command: str, device: str
) -> None:
    code, text = said(capsys, command, "no-such-spec", "--device", device)
    assert code == 2
    assert "is no device: give auto, cpu, cuda or cuda:N" in text
    with pytest.raises(StageError, match="is no device"):
        resolve_device(device)


def test_a_gpu_that_is_not_here_is_named() -> None:
    with pytest.raises(StageError, match="device 'cuda:999' is not here"):
        resolve_device("cuda:999")


@pytest.mark.parametrize(
    ("what", "remedy"), [("sudoku4", "gridloom specs show sudoku4"), ("a.yaml", "gridloom explain STAGE --spec a.yaml")]
)
def test_a_spec_where_a_field_is_explained_is_called_one(
    capsys: pytest.CaptureFixture[str], what: str, remedy: str
) -> None:
    code, text = said(capsys, "explain", what)
    assert code == 1
    assert f"'{what}' is a spec" in text
    assert remedy in text
    assert "no kind or field" not in text


def test_unknown_recipes_runs_stages_and_tasks_are_refused_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "specs", "show", "sudoku5")[0] == 1
    assert "did you mean 'sudoku" in said(capsys, "specs", "show", "sudoku5")[1]
    with LedgerWriter(Workspace(tmp_path), "run-1") as writer:
        writer.append(*small_run(), attempt("aaaa0001", 1, stage="other"))
    home = ("--home", str(tmp_path))
    for words, message in (
        (("attempts", "--run", "nope"), "unknown run 'nope'"),
        (("attempts", "--stage", "nope"), "run run-1 has no solve stage 'nope'"),
        (("attempts", "--task", "nope"), "run run-1 has no task 'nope'"),
        (("replay", "--failed", "--run", "nope"), "unknown run 'nope'"),
        (("replay", "aaaa0001.1"), "2 attempts are called 'aaaa0001.1'"),
        (("attempt", "aaaa0001.1"), "2 attempts are called 'aaaa0001.1'"),
    ):
        code, text = said(capsys, *words, *home)
        assert (code, text.splitlines()[0]) == (1, message)
    with LedgerWriter(Workspace(tmp_path / "empty"), "run-1") as writer:
        writer.append(RunRecord(run_id="run-1", status="done", started_at=1.0))
    for option, what in (("--stage", "stage"), ("--task", "task")):
        code, text = said(capsys, "attempts", option, "nope", "--home", str(tmp_path / "empty"))
        assert (code, text.splitlines()[0]) == (1, f"no attempt is recorded, so none of {what} 'nope'")
    code, text = said(capsys, "attempts", "--stage", "other", *home)
    assert code == 0
    assert "1 attempt." in text
    code, text = said(capsys, "attempt", "aaaa0001.1", "--stage", "other", *home)
    assert code == 0
    assert "from stage other of run run-1" in text


def test_the_command_that_continues_is_quoted_and_complete() -> None:
    overrides = ["models.trm={hidden_size: 64}", "name=it's"]
    again = command_line(
        "solve", "my spec.yaml", overrides, device="cpu", limit=3, walltime=90.0, split=None, quiet=True
    )
    assert shlex.split(again) == [
        *("gridloom", "solve", "my spec.yaml", "--set", overrides[0], "--set", overrides[1]),
        *("--device", "cpu", "--limit", "3", "--walltime", "90", "-q"),
    ]


def test_published_files_have_the_mode_of_the_umask(tmp_path: Path) -> None:
    store = ArtifactStore(Workspace(tmp_path))
    before = os.umask(0o027)
    try:
        with store.writing("gl1:a") as out:
            (out / "sub").mkdir()
            for name in ("weights", "sub/more"):
                (out / name).write_text("x")
                (out / name).chmod(0o600)
            made = store.publish(out, key="gl1:a", type="checkpoint", kind="train", producer={}, inputs={})
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.path.rglob("*") if path.is_file()}
    assert modes == {"weights": 0o640, "more": 0o640, "manifest.json": 0o640}
    store.verify(made)


def test_attempts_that_were_asked_for_no_text_fail_to_parse_nothing() -> None:
    lines = [
        {"text": "", "plan": {"max_new_tokens": 0}},
        {"text": None, "plan": {"max_new_tokens": 5}},
        {"text": "no grid", "plan": {"max_new_tokens": 5}},
        {"text": "no grid", "plan": {}},  # written before plans had the field
    ]
    assert parse_failures(lines) == 2


@pytest.mark.parametrize(
    ("recorded", "now", "equal", "text"),
    [
        ("rejected", "rejected", True, "same grid, same verdict,"),
        ("rejected", "rejected", False, "same grid, same verdict with other scores,"),
        ("rejected", "accepted", False, "same grid, another verdict (rejected -> accepted),"),
    ],
)
def test_a_replay_names_a_verdict_another_only_where_it_is(recorded: str, now: str, equal: bool, text: str) -> None:
    fields: dict[str, Any] = {
        "checkpoint_key": "gl1:c",
        "nodes": (),
        "score": 0.5,
        "grids": [],
        "device": "cpu",
        "live": False,
        "changes": {},
        "notes": (),
        "seconds": 1.0,
    }
    report = ReplayReport(
        attempt_id="a.1",
        run_id="run-1",
        stage="solve",
        grids_equal=True,
        verdict_equal=equal,
        verdict=now,
        recorded_verdict=recorded,
        **fields,
    )
    shown = str(report).splitlines()
    assert shown[0] == f"{report.name}, stage solve of run run-1"
    assert shown[1].startswith(text)


@pytest.mark.parametrize(
    "words",
    [
        ("sql", "select '\udcff'"),
        ("sql", "select 1", "--parquet", "\udcff.parquet"),
        ("attempt", "\udcff"),
        ("attempts", "--run", "\udcff"),
        ("replay", "t.1\udcff"),
        ("runs", "compare", "\udcff"),
    ],
)
def test_arguments_of_queries_that_are_not_utf8_are_one_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    workspace = Workspace(tmp_path)
    monkeypatch.setenv("GRIDLOOM_HOME", str(tmp_path))
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run())
    status, text = said(capsys, *words)
    assert status == 1
    assert "is not UTF-8 text: " in text
    assert "\\udcff" in text
