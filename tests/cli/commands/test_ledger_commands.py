"""`sql` and `attempts`: every value in every format, pages of long lists, and output that cannot be written."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest
from big_ledger import write_journals

Run = Callable[..., str]
NUM_ATTEMPTS = 450


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    write_journals(folder / ".gridloom", NUM_ATTEMPTS, seed=1)
    return folder


@pytest.fixture
def run(recorded: Path, typist: Callable[[Path], Run]) -> Run:
    return typist(recorded)


def test_equal_column_names_keep_their_values_in_every_format(run: Run, recorded: Path) -> None:
    sql = "select 1 as a, 2 as a"
    lines = run("sql", sql).splitlines()
    assert [line.split() for line in lines[:2]] == [["a", "a_1"], ["1", "2"]]
    assert json.loads(run("sql", sql, "--json")) == [{"a": 1, "a_1": 2}]
    assert [*csv.reader(run("sql", sql, "--csv").splitlines())] == [["a", "a_1"], ["1", "2"]]
    run("sql", sql, "--parquet", "equal.parquet")
    assert pyarrow.parquet.read_table(recorded / "equal.parquet").to_pylist() == [{"a": 1, "a_1": 2}]


def test_far_dates_and_odd_values_are_shown_in_every_format(run: Run) -> None:
    sql = (
        "select 'infinity'::timestamp as t, '0044-03-15 (BC)'::date as d, 'nan'::double as n, '\\xff'::blob as b, "
        "interval '1 month' as i, 1.5 as dec, '2026-01-01 00:00:00.25'::timestamp as s, [date '290000-01-01'] as l"
    )
    shown = run("sql", sql)
    assert "infinity" in shown
    assert "0044-03-15 (BC)" in shown
    (row,) = json.loads(run("sql", sql, "--json"), parse_constant=pytest.fail)
    assert row == {
        "t": "infinity",
        "d": "0044-03-15 (BC)",
        "n": "nan",
        "b": "b'\\xff'",
        "i": "1 month",
        "dec": 1.5,
        "s": "2026-01-01 00:00:00.250000",
        "l": ["290000-01-01"],
    }
    _, cells = csv.reader(run("sql", sql, "--csv").splitlines())
    wanted = ["infinity", "0044-03-15 (BC)", "nan", "ff", "1 month", "1.5", "2026-01-01 00:00:00.250000"]
    assert cells[:7] == wanted
    assert json.loads(run("sql", "select 1 where false", "--json")) == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--json", "--csv"), "choose one"),
        (("--json", "--parquet", "x.parquet"), "choose one"),
        (("--parquet", ""), "--parquet needs the name of a file"),
    ],
)
def test_formats_that_contradict_each_other_are_wrong_usage(run: Run, words: tuple[str, ...], problem: str) -> None:
    assert problem in " ".join(run("sql", "select 1", *words, code=2).split())


def test_a_parquet_file_that_is_a_folder_is_one_message(run: Run, recorded: Path) -> None:
    (recorded / "folder").mkdir()
    assert "cannot write folder" in run("sql", "select 1", "--parquet", "folder", code=1)


def test_attempts_lists_fifty_and_counts_the_rest(run: Run) -> None:
    lines = run("attempts").splitlines()
    assert len(lines) == 1 + 50 + 1
    assert lines[-1].startswith(
        f"50 of {NUM_ATTEMPTS} attempts. {NUM_ATTEMPTS - 50} more: --limit N or --all lists them."
    )
    few = run("attempts", "--limit", "3").splitlines()
    assert few[1:4] == lines[1:4] or [line.split() for line in few[1:4]] == [line.split() for line in lines[1:4]]
    whole = run("attempts", "--all").splitlines()
    assert len(whole) == 1 + NUM_ATTEMPTS + 1
    assert whole[-1].startswith(f"{NUM_ATTEMPTS} attempts. `gridloom")
    every = json.loads(run("attempts", "--json"))
    assert len(every) == NUM_ATTEMPTS
    assert [row["name"] for row in every[:3]] == [line.split()[0] for line in few[1:4]]
    failed = json.loads(run("attempts", "--failed", "--json"))
    assert 0 < len(failed) < NUM_ATTEMPTS
    assert f"3 of {len(failed)} attempts" in run("attempts", "--failed", "--limit", "3")
    one = every[0]["task_id"]
    assert {row["task_id"] for row in json.loads(run("attempts", "--task", one, "--json"))} == {one}
    assert "unknown run 'nope'" in run("attempts", "--run", "nope", code=1)
    assert "contradict" in run("attempts", "--all", "--limit", "3", code=2)


SQL = (sys.executable, "-m", "gridloom", "sql", "from trm_steps")


@pytest.mark.parametrize(
    ("shell", "status", "problem"),
    [
        ('"$@" --csv | head -n 1; exit ${PIPESTATUS[0]}', 141, ""),
        ('"$@" >&-', 1, "cannot write to standard output: Bad file descriptor"),
        ('"$@" --json > /dev/full', 1, "cannot write to standard output: No space left on device"),
    ],
)
def test_output_that_cannot_be_written_is_one_message_at_most(
    recorded: Path, shell: str, status: int, problem: str
) -> None:
    environment = {**os.environ, "GRIDLOOM_HOME": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", shell, "bash", *SQL], cwd=recorded, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert problem in done.stderr
    assert len(done.stderr.splitlines()) == (1 if problem else 0)
