"""Commands as people type them: help, versions, short ids, lists that can be cut, shells and pipes, completion."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from store_cases import small_run
from typer.main import get_command

from gridloom.cli.complete import (
    complete_artifacts,
    complete_attempts,
    complete_metrics,
    complete_runs,
    complete_tasks,
)
from gridloom.cli.help import first_sentence
from gridloom.cli.main import HEADINGS, make_app
from gridloom.cli.sql_shell import SqlShell
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.workspace import Workspace
from gridloom.version import __version__

RUN = "2026-11-30T21-29-33-1xy3nbn8"
Type = Callable[..., str]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the records of one run."""
    folder = tmp_path_factory.mktemp("everyday")
    with LedgerWriter(Workspace(folder / ".gridloom"), RUN) as writer:
        writer.append(*small_run(RUN))
    (folder / "deep").mkdir()
    Ledger(Workspace(folder / ".gridloom")).ingest()
    return folder


@pytest.fixture
def run(project: Path, typist: Callable[[Path], Type]) -> Type:
    """Type a command below the project's folder."""
    return typist(project / "deep")


def test_every_command_stands_under_a_heading_with_a_whole_sentence(run: Type) -> None:
    out = " ".join(run("-h").split())
    commands = get_command(make_app()).commands  # type: ignore[attr-defined]
    listed = [name for names in HEADINGS.values() for name in names]
    assert sorted(set(listed)) == sorted(listed)
    for name, command in commands.items():
        assert f"{name} {' '.join(first_sentence(command.help or '').split())}" in out, name
    assert "..." not in out.replace("[ARGS]...", "")
    assert run("--version") == f"gridloom {__version__}\n"
    assert "rm Remove runs from the ledger: attempts, metrics, journals" in " ".join(run("runs", "-h").split())


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("complie",), "compile"),
        (("runs", "lst"), "list"),
        (("artifacts", "paht"), "path"),
        (("plan", "quikstart"), "quickstart"),
        (("init", "mine", "--from", "sudoku44"), "sudoku4"),
        (("runs", "show", "1xy3nbn9"), RUN),
        (("attempt", "aaaa0001.9"), "aaaa0001"),
        (("plan", "quickstart", "-m", "jont_steps=1,2"), "joint_steps"),
        (("evaluate", "shipped:trm-arc1-smal", "x"), "trm-arc1-small"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(run: Type, words: tuple[str, ...], near: str) -> None:
    assert near in run(*words, code=2 if words[0] in ("complie",) or words[1] in ("lst", "paht") else 1)


def test_runs_are_listed_shown_and_removed_by_short_ids(run: Type, project: Path) -> None:
    assert "1xy3nbn8" in run("runs")
    assert run("runs") == run("runs", "list")
    assert json.loads(run("runs", "list", "--json", "--limit", "1"))[0]["run_id"] == RUN
    assert RUN in run("runs", "show", "1xy3")
    assert json.loads(run("runs", "show", "1xy3", "--json"))["run_id"] == RUN
    assert "would be removed" in run("runs", "rm", "1xy3", "--dry-run")
    assert "1 run" not in run("runs", "list", "--limit", "1")
    assert "aaaa0001.1" in run("attempts", "--run", "1xy3")
    assert "no artifact is called 'x'" in run("artifacts", "path", "x", code=1)
    assert json.loads(run("artifacts", "list", "--json")) == []
    assert "artifacts take at most" in run("gc", "--max-size", "1GB", "--dry-run")
    assert "is no size" in run("gc", "--max-size", "big", code=2)


def test_sql_is_read_from_standard_input(run: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ((), ("-",)):
        monkeypatch.setattr("sys.stdin", io.StringIO("select count(*) as n\nfrom runs"))
        assert json.loads(run("sql", *words, "--json")) == [{"n": 1}]


def test_the_shell_goes_on_after_an_error_and_completes_tables(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "select 41 +\n  1 as answer;\nfrom nope;\n.tables\n.columns runs\n.huh\n.quit\nselect 7;\n"
    shell = SqlShell(Ledger(Workspace(project / ".gridloom")), stdin=io.StringIO(text))
    shell.cmdloop()
    out = capsys.readouterr().out
    for wanted in ("answer", "42", "Table with name nope does not exist", "v_attempts", "graph_key", ".columns TABLE"):
        assert wanted in out
    assert " 7" not in out, "nothing is read after .quit"
    assert shell.completenames("v_fa") == ["v_failed"]
    assert "task_id" in shell.completedefault("task_i")


def test_a_shell_completes_specs_runs_and_attempts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def completed(*words: str) -> list[str]:
        line = " ".join(words)
        environment = os.environ | {
            "_GRIDLOOM_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            "GRIDLOOM_HOME": str(project / ".gridloom"),
        }
        code = "import sys; sys.argv = ['gridloom']; from gridloom.cli.main import main; main()"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        return done.stdout.split()

    assert completed("gridloom", "plan", "quicks") == ["quickstart"]
    monkeypatch.setenv("GRIDLOOM_HOME", str(project / ".gridloom"))
    assert complete_runs("1xy") == ["1xy3nbn8"]
    assert "aaaa0001.1" in " ".join(complete_attempts("aaaa"))
    assert complete_tasks("aaaa")[0] == "aaaa0001"
    monkeypatch.setenv("GRIDLOOM_HOME", str(project / "nothing"))
    assert complete_runs("") == complete_metrics("") == complete_artifacts("") == []


def test_init_copies_a_recipe_that_compiles(run: Type, project: Path, typist: Callable[[Path], Type]) -> None:
    out = run("init", "mine", "--from", "sudoku4")
    assert "next: gridloom plan mine.yaml" in out
    text = (project / "deep" / "mine.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=./gridloom.schema.json\n")
    assert "\nname: mine\n" in text
    assert "mine compiles" in run("compile", "mine.yaml")


def test_values_after_m_are_a_sweep_of_the_field_that_they_name(run: Type) -> None:
    out = run("plan", "sudoku4", "-m", "lr=1e-3,1e-4", "--json")
    names = [stage["stage"] for stage in json.loads(out)["stages"]]
    assert names == ["sudokus", "learn@1", "judge@1", "learn@2", "judge@2"]
    both = run("plan", "sudoku4", "-m", "lr=1e-3,1e-4", "-m", "stages.learn.steps=5,6,7")
    assert "learn@2.3" in both
    assert "`gridloom run sudoku4 -m lr=1e-3,1e-4 -m stages.learn.steps=5,6,7` does it" in both
    assert "fields are called 'kind'" in run("plan", "sudoku4", "-m", "kind=a,b", code=1)
    assert "is not PATH=VALUE" in run("plan", "sudoku4", "-m", "lr", code=1)
