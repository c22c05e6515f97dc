"""Short runs of the campaign's programs, and proofs that each of them sees the faults that it looks for."""

from __future__ import annotations

import copy
import os
import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import big_ledger
import pytest

from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.workspace import Workspace

from . import compare, hostile, mutate
from .children import Kill, run_child
from .files import _fault
from .state import ROOT, Limits, State, case_random, group_of

SHORT: dict[str, list[str]] = {
    "kills": ["--cases", "1", "--only", "parity"],
    "specs": ["--cases", "200"],
    "files": ["--cases", "9"],
    "ledger": ["--cases", "1"],
}


@pytest.mark.parametrize("program", SHORT)
def test_a_short_run_finds_nothing(program: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.campaign", program, "--state", str(tmp_path / "state"), *SHORT[program]]
    environment = os.environ | {"GRIDLOOM_SCRATCH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no finding" in done.stdout


def test_a_state_is_resumed_and_a_finding_has_its_input_and_its_command(tmp_path: Path) -> None:
    state = State.open("specs", 7, tmp_path)
    state.next_case = 12
    state.count(specs=12)
    place = state.find("a traceback: KeyError in x.py f", 3, {"spec.yaml": b"\xff"}, "detail")
    state.save()
    again = State.open("specs", 7, tmp_path)
    assert (again.next_case, again.counts) == (12, {"specs": 12})
    assert again.findings == {"a traceback: KeyError in x.py f": 1}
    assert (place / "spec.yaml").read_bytes() == b"\xff"
    assert "tests.campaign specs --seed 7 --case 3" in (place / "repeat.txt").read_text()
    assert "KeyError in x.py f (1)" in again.summary()


def test_limits_end_by_cases_and_by_time() -> None:
    assert Limits(cases=3).reached(3)
    assert not Limits(cases=3, seconds=1e9).reached(2)
    assert Limits(seconds=0.0).reached(0)


def rows(*values: str) -> dict[str, Any]:
    tables = {"runs": ['{"status": "done"}'], "stages": ['{"stage": "a", "status": "done"}'], "metrics": [*values]}
    return {"live": tables, "rebuilt": copy.deepcopy(tables), "artifacts": {"gl1-a": ["w 1"]}, "left": []}


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (rows("a"), "live metrics lost: b"),
        (rows("a", "b", "b"), "live metrics beside: b"),
        (rows("a", "c"), "live metrics beside: c"),
        ({**rows("a", "b"), "rebuilt": rows("a")["live"]}, "rebuilt metrics lost: b"),
        ({**rows("a", "b"), "artifacts": {"gl1-a": ["w 2"]}}, "artifact gl1-a: ['w 1'] is now ['w 2']"),
        ({**rows("a", "b"), "artifacts": {}}, "artifact gl1-a: ['w 1'] is now None"),
        ({**rows("a", "b"), "left": ["work/x"]}, "left behind: work/x"),
    ],
)
def test_lost_doubled_and_changed_records_are_seen(found: dict[str, Any], line: str) -> None:
    assert line in compare.differences(rows("a", "b"), found)
    assert compare.differences(rows("a", "b"), rows("b", "a")) == []


def test_values_are_compared_bit_for_bit_and_times_are_not() -> None:
    first = {"loss": 0.1, "ended_at": 1.0, "notes": {"seconds": 3, "pass2": 0.5}, "latent": b"x"}
    assert compare.stable(first) == compare.stable({**first, "ended_at": 2.0, "notes": {"seconds": 4, "pass2": 0.5}})
    assert compare.stable(first) == compare.stable({**first, "states_read": 3, "head_cache_hits": 0})
    assert compare.stable(first) != compare.stable({**first, "loss": 0.1 + 2**-56})
    assert compare.stable(first) != compare.stable({**first, "latent": b"y"})


def test_a_run_of_another_id_has_recorded_the_same(tmp_path: Path) -> None:
    snapshots = []
    for run_id in ("2026-12-01T08-00-00-aaaaaaaa", "2026-12-01T09-00-00-bbbbbbbb"):
        workspace = Workspace(tmp_path / run_id / ".gridloom")
        with LedgerWriter(workspace, run_id) as writer:
            for records in big_ledger.run_records(run_id, 3, big_ledger.EPOCH, random.Random(1)):
                writer.append(*records)
        Ledger(workspace).ingest()
        snapshots.append(compare.snapshot(workspace.root))
    assert len(snapshots[0]["live"]["attempts"]) == 3
    assert compare.differences(*snapshots) == []


def test_a_child_is_killed_at_its_operation_and_a_write_may_be_torn(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    folder.mkdir()

    def work() -> int:
        for number in range(4):
            descriptor = os.open(f"{number}.txt", os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, b"0123456789")
        return 5

    whole = run_child(work, folder)
    assert (whole.code, whole.operations["open"], whole.operations["write"]) == (5, 4, 4)
    for path in folder.iterdir():
        path.unlink()
    killed = run_child(work, folder, kill=Kill(3, "write", torn=0.5))
    assert killed.code == -signal.SIGKILL
    assert [path.stat().st_size for path in sorted(folder.iterdir())] == [10, 10, 5]


def test_what_a_child_does_outside_is_seen(tmp_path: Path) -> None:
    folder, other = tmp_path / "case", tmp_path / "other.txt"
    folder.mkdir()

    def work() -> int:
        other.write_text("x")
        os.system("true")
        Path("inside.txt").write_text("x")
        raise ValueError("seen")

    ended = run_child(work, folder)
    assert [line.split()[0].strip("'\"") for line in ended.forbidden] == ["open", "os.system"]
    assert "ValueError: seen" in ended.traceback
    assert _fault(("sql",), ended, ()).startswith("a write outside")
    assert _fault(("sql",), ended, ("marker",)) == "a file outside, or code that was executed"


def test_a_child_that_hangs_is_ended(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    folder.mkdir()

    def work() -> int:
        while True:
            pass

    assert run_child(work, folder, timeout_s=0.3).timed_out


def test_cases_are_the_same_again_and_of_every_sort() -> None:
    drawn = [mutate.draw(random.Random(f"x/{number}")) for number in range(200)]
    assert drawn == [mutate.draw(random.Random(f"x/{number}")) for number in range(200)]
    assert len({case.text for case in drawn}) > 150
    assert any(case.overrides for case in drawn)
    assert any(case.local for case in drawn)


def test_numbers_larger_than_floats_are_changed_too() -> None:
    """In this case an integer of 301 digits is made larger."""
    assert b"0" * 290 in mutate.draw(case_random("specs", 23, 16_227)).text


def test_payloads_would_execute_if_they_were_unpickled(tmp_path: Path) -> None:
    """Without this the campaign's checkpoints could be harmless."""
    markers = [tmp_path / f"marker-{number}" for number in range(12)]
    made = [pickle.dumps(hostile.payload(random.Random(number), marker)).hex() for number, marker in enumerate(markers)]
    code = "import pickle, sys\nfor text in sys.argv[1:]: pickle.loads(bytes.fromhex(text))"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, *made], check=True)
    assert [marker.name for marker in markers if not marker.exists()] == []


def test_faults_are_grouped_by_their_place() -> None:
    text = 'Traceback (most recent call last):\n  File "/x/gridloom/a/b.py", line 3, in f\n    g()\nKeyError: 1\n'
    assert group_of(text) == "KeyError in gridloom/a/b.py f"
