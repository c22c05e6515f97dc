"""Standard output: escaped whatever prints it, exact where data is asked for, and its loss ends in one line."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from store_cases import attempt, small_run, task

from gridloom.cli.main import main
from gridloom.cli.output import ExactStream, OutputLost, exact, optional_output, terminal_output
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.workspace import Workspace
from gridloom.wording import UNPRINTABLE

HOSTILE = "a[/b]\x1b[31m\n\r\u202e\x9b2J\x07[bold]:smile:"
GRIDLOOM = [sys.executable, "-m", "gridloom"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace whose task, stage, prompt and texts are hostile."""
    root = tmp_path / "home"
    with LedgerWriter(Workspace(root), "run-1") as writer:
        writer.append(*small_run())
        writer.append(
            task(HOSTILE),
            *(
                attempt(
                    HOSTILE, number, prompt=HOSTILE, text=HOSTILE * number, feedback=HOSTILE, plan={"focus": HOSTILE}
                )
                for number in (1, 2)
            ),
        )
    return root


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run the command line in this process; return its status and output."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gridloom", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def assert_plain(text: str) -> None:
    assert not (set(UNPRINTABLE.findall(text)) - {"\n"})


NAMES = (f"{HOSTILE}.1", f"{HOSTILE}.2")


@pytest.mark.parametrize(
    ("words", "status", "shown"),
    [
        (("attempts",), 0, r"a[/b]\x1b[31m\n\r\u202e\x9b2J\x07[bold]:smile:.1@"),
        (("attempt", NAMES[0]), 0, "a[/b]"),
        (("attempt", "diff", *NAMES), 0, "a[/b]"),
        (("attempt", HOSTILE), 1, r"unknown attempt 'a[/b]\x1b[31m"),
        (("attempts", "--task", f"{HOSTILE}x"), 1, r"has no task 'a[/b]\x1b[31m"),
        (("sql", "select task_id, text, prompt, plan from attempts"), 0, r"\x1b[31m\n\r\u202e"),
        (("sql", f'select 1 as "{HOSTILE}"'), 0, r"a[/b]\x1b[31m\n\r\u202e"),
        (("sql", f"select {HOSTILE}"), 1, "a[/b]"),
        (("plan", f"{HOSTILE}.yaml"), 1, r"a[/b]\x1b[31m\n\r\u202e"),
        (("plan", "sudoku4", "--set", f"vars.{HOSTILE}=1"), 1, "a[/b]"),
        (("specs", "show", HOSTILE), 1, "a[/b]"),
        (("explain", HOSTILE), 1, "a[/b]"),
        (("data", "show", HOSTILE), 1, "a["),
        (("runs", "compare", HOSTILE), 1, r"unknown run 'a[/b]\x1b[31m"),
        (("replay", HOSTILE), 1, "a[/b]"),
        (("attempts", f"--{HOSTILE}"), 2, "a[/b]"),
    ],
)
def test_hostile_text_is_escaped_by_every_command(
    home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, shown: str
) -> None:
    asks_home = words[0] in ("attempts", "attempt", "sql", "plan", "replay") or words[:2] == ("runs", "compare")
    code, out, err = said(capsys, *words, *(("--home", str(home)) if asks_home else ()))
    assert code == status, err
    assert_plain(out + err)
    assert shown in out + err


def test_json_and_csv_are_exact(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select task_id, text from attempts where attempt_id like 'a[%' order by attempt"
    _, out, _ = said(capsys, "sql", query, "--csv", "--home", str(home))
    assert list(csv.reader(io.StringIO(out, newline="")))[1:] == [[HOSTILE, HOSTILE], [HOSTILE, HOSTILE * 2]]
    for words in (("sql", query), ("attempts", "--task", HOSTILE)):
        _, out, _ = said(capsys, *words, "--json", "--home", str(home))
        assert {row["task_id"] for row in json.loads(out)} == {HOSTILE}
    _, out, _ = said(capsys, "attempt", NAMES[1], "--json", "--home", str(home))
    assert json.loads(out)["text"] == HOSTILE * 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("redirected", "status", "lines"),
    [
        (">/dev/full", 1, ["cannot write to standard output: No space left on device"]),
        (">&-", 1, ["cannot write to standard output: Bad file descriptor"]),
        ("| true; exit ${PIPESTATUS[0]}", 141, []),
        (">&- 2>&-", 1, []),
    ],
)
def test_lost_output_is_one_line_or_a_quiet_end(redirected: str, status: int, lines: list[str]) -> None:
    command = f"{sys.executable} -m gridloom specs list {redirected}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stderr.splitlines()) == (status, lines)


class Full(io.StringIO):
    """A stream whose device is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_work_goes_on_without_its_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    reached = []
    with terminal_output(), optional_output():
        print("lost")
        reached.append(1)
        print("lost too")
        exact().write("and this")
    assert reached == [1]
    assert capsys.readouterr().err == "cannot write to standard output: No space left on device\n"


def test_a_command_ends_at_its_first_lost_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    reached = []

    def command() -> None:
        with terminal_output():
            print("lost")
            reached.append(1)

    with pytest.raises(SystemExit) as ended:
        command()
    assert reached == []
    assert ended.value.code == 1
    with pytest.raises(OutputLost, match="Bad file descriptor"):
        ExactStream(None, "standard output").write("x")


def test_standard_error_lets_bars_of_libraries_pass_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal_output():
        sys.stderr.write("\r 50%|#####     | 1/2")
        sys.stderr.write("\n\x1b[A")
        sys.stderr.write("name \r\x1b[A\n")
        sys.stdout.write("\rname\n")
    out, err = capsys.readouterr()
    assert err == "\r 50%|#####     | 1/2\n\x1b[Aname \\r\\x1b[A\n"
    assert out == "\\rname\n"
