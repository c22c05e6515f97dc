"""Runs and artifacts that are removed: all of them, nothing else, and never under a run that is going on."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from store_cases import small_run

from gridloom.errors import GridloomError, StoreError
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.files import locks
from gridloom.stores.keeping.artifacts import find_artifact, list_artifacts, over_budget, remove_artifacts
from gridloom.stores.keeping.in_use import removing_artifacts, using_artifacts
from gridloom.stores.keeping.runs import remove_runs
from gridloom.stores.keeping.sizes import size_bytes
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.leftovers import collect
from gridloom.stores.records import MetricRecord
from gridloom.stores.runs.names import find_run, short_ids
from gridloom.stores.workspace import Workspace


def record(workspace: Workspace, *run_ids: str) -> None:
    for run_id in run_ids:
        with LedgerWriter(workspace, run_id) as writer:
            writer.append(*small_run(run_id))


def counts(workspace: Workspace) -> dict[str, int]:
    tables = "attempts", "verdicts", "candidates", "scores", "places", "task_figures", "stages", "runs"
    query = " union all ".join(f"select '{name}' as name, count(*) as n from {name}" for name in tables)
    return {row["name"]: row["n"] for row in Ledger(workspace).rows(query)}


def test_a_removed_run_leaves_no_row_and_no_journal_and_others_stay(workspace: Workspace) -> None:
    record(workspace, "run-1")
    alone = counts(workspace)
    record(workspace, "run-2")
    (would,) = remove_runs(workspace, ["run-2"], dry_run=True)
    assert would.rows["attempts"] == alone["attempts"]
    assert counts(workspace)["attempts"] == 2 * alone["attempts"]
    (gone,) = remove_runs(workspace, ["run-2"])
    assert (gone.rows, len(gone.journals)) == (would.rows, 1)
    assert counts(workspace) == alone
    assert len([*workspace.journal_dir.iterdir()]) == 1
    workspace.ledger_path.unlink()  # rebuilt from the journals, it does not come back
    assert counts(workspace) == alone


def test_a_run_that_is_going_on_is_not_removed(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run("run-1"))
        with pytest.raises(StoreError, match="run run-1 is going on"):
            remove_runs(workspace, ["run-1"])
    assert counts(workspace)["runs"] == 1


KILLED = """
import sys
from pathlib import Path
from file_steps import FileSteps
from gridloom.stores.keeping.runs import remove_runs
from gridloom.stores.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
class Killed(FileSteps):
    def _step(self, what):
        self.steps += [what] if what.startswith(sys.argv[2]) and "journal/" in what else []
        if len(self.steps) == 2:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
Killed(workspace.root)
remove_runs(workspace, ["run-2"])
"""
"""Removal that is killed before the second file operation of a name among the journals."""


@pytest.mark.parametrize(("operation", "stays", "after"), [("rename", True, "rm"), ("remove", False, "gc")])
def test_a_killed_removal_is_undone_or_finished(workspace: Workspace, operation: str, stays: bool, after: str) -> None:
    record(workspace, "run-1", "run-2")
    with LedgerWriter(workspace, "run-2") as writer:
        writer.append(MetricRecord(run_id="run-2", stage="s", step=1, name="loss", value=0.5, recorded_at=1.0))
    Ledger(workspace).ingest()
    before = [path.name for path in sorted(workspace.journal_dir.iterdir())]
    support = Path(__file__).parents[2] / "support"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(workspace.root), operation],
        env=os.environ | {"PYTHONPATH": str(support)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any(path.suffix == ".removed" for path in workspace.journal_dir.iterdir())
    if after == "rm":
        remove_runs(workspace, ["run-0"])
    else:
        collect(workspace)
    for _ in range(2):
        assert counts(workspace)["runs"] == 1 + stays
        workspace.ledger_path.unlink()  # rebuilt from the journals it has the same runs
    left = [path.name for path in sorted(workspace.journal_dir.iterdir())]
    assert (left == before) if stays else (len(left) == 1)


def test_a_removal_that_fails_has_removed_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    record(workspace, "run-1")
    before = counts(workspace)

    def full(aside: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gridloom.stores.keeping.runs.move", full)
    with pytest.raises(StoreError, match="no space left"):
        remove_runs(workspace, ["run-1"])
    monkeypatch.undo()
    assert counts(workspace) == before
    assert len([*workspace.journal_dir.glob("*.jsonl")]) == 1


def test_a_run_that_begins_again_is_not_removed(workspace: Workspace) -> None:
    record(workspace, "run-1")
    (workspace.root / "locks").mkdir()
    held = locks.create_held(workspace.root / "locks" / "run-run-1.lock")  # before its journal
    with pytest.raises(StoreError, match="run run-1 is going on"):
        remove_runs(workspace, ["run-1"])
    os.close(held)
    assert [one.run_id for one in remove_runs(workspace, ["run-1"])] == ["run-1"]


def test_a_run_is_found_by_its_id_or_a_part_that_no_other_has(workspace: Workspace) -> None:
    ids = ["2026-11-30T21-29-33-1xy3nbn8", "2026-11-30T21-29-34-2xy3nbn9", "2026-12-01T00-00-00-1zzzzzzz"]
    record(workspace, *ids)
    ledger = Ledger(workspace)
    assert [find_run(word, ledger) for word in (ids[0], "1xy3nbn8", "1xy3", "2026-12")] == [ids[0]] * 3 + [ids[2]]
    assert short_ids(ids) == dict(zip(ids, ("1xy3nbn8", "2xy3nbn9", "1zzzzzzz"), strict=True))
    with pytest.raises(GridloomError, match="2 runs are called '2026-11'") as caught:
        find_run("2026-11", ledger)
    assert ids[0] in str(caught.value)
    with pytest.raises(GridloomError, match="unknown run"):
        find_run("", ledger)


@pytest.fixture
def made(workspace: Workspace) -> Workspace:
    """A workspace with three artifacts of 1, 2 and 3 kB, made in this order."""
    store = ArtifactStore(workspace)
    for number, (key, stage) in enumerate((("gl1:aa01", "data"), ("gl1:aa02", "train"), ("gl1:bb03", "train")), 1):
        with store.writing(key) as out:
            (out / "x.bin").write_bytes(bytes(1000 * number))
            store.publish(out, key=key, type="t", kind="k", producer={"run_id": "r", "stage": stage}, inputs={})
    return workspace


def test_an_artifact_is_found_by_key_digits_or_stage(made: Workspace) -> None:
    known = list_artifacts(made)
    assert [one.key for one in known] == ["gl1:bb03", "gl1:aa02", "gl1:aa01"]
    found = [find_artifact(word, made).key for word in ("gl1:aa02", "bb", "train", "data")]
    assert found == ["gl1:aa02", "gl1:bb03", "gl1:bb03", "gl1:aa01"]
    with pytest.raises(GridloomError, match="2 artifacts begin with 'aa'"):
        find_artifact("aa", made)
    with pytest.raises(GridloomError, match="did you mean 'train'"):
        find_artifact("trian", made)


def test_a_budget_takes_the_oldest_and_no_more_than_it_must(made: Workspace) -> None:
    assert [one.key for one in over_budget(made, 6000)] == []
    assert [one.key for one in over_budget(made, 5999)] == ["gl1:aa01"]
    gone = over_budget(made, 4000)
    remove_artifacts(made, gone)
    assert [one.key for one in list_artifacts(made)] == ["gl1:bb03"]
    assert [*(made.artifact_dir / ".writing").iterdir()] == []


def test_no_artifact_goes_while_a_run_may_read_it(made: Workspace, tmp_path: Path) -> None:
    folder = made.root / "locks"
    folder.mkdir()
    held = locks.create_held(folder / "run-r.lock")
    with pytest.raises(StoreError, match=r"a run is going on in .* \(run-r\)"):
        remove_artifacts(made, list_artifacts(made))
    os.close(held)
    assert len(list_artifacts(made)) == 3


def test_a_run_and_a_removal_exclude_each_other_however_they_begin(made: Workspace) -> None:
    with using_artifacts(made):
        with pytest.raises(StoreError, match="a run is going on in"):
            remove_artifacts(made, list_artifacts(made))
        with using_artifacts(made, timeout_s=0):
            pass  # two runs are no obstacle to each other
    assert len(list_artifacts(made)) == 3
    with removing_artifacts(made), pytest.raises(StoreError, match=r"artifacts of .* are being removed"):
        using_artifacts(made, timeout_s=0.05).__enter__()
    with (
        removing_artifacts(made),
        pytest.raises(StoreError, match=rf"artifacts of .* are being removed by process {os.getpid()}\n"),
    ):
        remove_artifacts(made, list_artifacts(made))  # no run is going on
    assert len(list_artifacts(made)) == 3
    remove_artifacts(made, list_artifacts(made))
    assert list_artifacts(made) == []


@pytest.mark.parametrize(
    ("text", "size"), [("20GB", 20 * 10**9), ("1.5 gib", 3 * 2**29), ("512", 512), ("10k", 10**4), ("0", 0)]
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "10 q", "1e9", "ib"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        size_bytes(text)


def test_the_workspace_is_that_of_the_project_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRIDLOOM_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    inner = tmp_path / "project" / "specs" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert Workspace.find().root == inner / ".gridloom"
    Workspace(tmp_path / ".gridloom").ensure()
    assert Workspace.find().root == inner / ".gridloom", "the home's own is no project's"
    made = Workspace(tmp_path / "project" / ".gridloom")
    made.ensure()
    assert Workspace.find().root == made.root
    (inner / ".gridloom").mkdir()
    assert Workspace.find().root == inner / ".gridloom"
