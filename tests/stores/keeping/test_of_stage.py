"""The artifact that a stage's name means: that of the run begun last which has it, whoever made it."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_cases import EPOCH

from gridloom.errors import GridloomError
from gridloom.runtime.checkpoints.find import find_checkpoint
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.keeping.artifacts import find_artifact, list_artifacts, remove_artifacts
from gridloom.stores.keeping.of_stage import artifact_of_stage
from gridloom.stores.keeping.runs import remove_runs
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import RunRecord, StageRecord
from gridloom.stores.workspace import Workspace


def publish(workspace: Workspace, key: str, stage: str = "learn", kind: str = "train") -> None:
    store = ArtifactStore(workspace)
    with store.writing(key) as out:
        (out / "bundle.json").write_text("{}")
        store.publish(out, key=key, type="t", kind=kind, producer={"run_id": "r", "stage": stage}, inputs={})


def record(workspace: Workspace, run: str, began: float, *stages: tuple[str, str, str]) -> None:
    """Record a run; stages are (name, key, status)."""
    with LedgerWriter(workspace, run) as writer:
        writer.append(
            RunRecord(run_id=run, name="s", status="done", started_at=EPOCH + began),
            *(StageRecord(run_id=run, stage=n, kind="train", key=k, status=s) for n, k, s in stages),
        )


@pytest.fixture
def two(workspace: Workspace) -> Workspace:
    """A workspace where the older checkpoint was found cached by the newer run, beside one made later by name alone."""
    publish(workspace, "gl1:aa")
    publish(workspace, "gl1:bb")  # made last, by the run in between
    record(workspace, "run-1", 1, ("learn", "gl1:aa", "done"))
    record(workspace, "run-2", 2, ("learn", "gl1:bb", "done"))
    record(workspace, "run-3", 3, ("learn", "gl1:aa", "cached"), ("other", "gl1:cc", "failed"))
    return workspace


def test_the_run_begun_last_counts_not_the_artifact_made_last(two: Workspace) -> None:
    found = artifact_of_stage("learn", two)
    assert (found.artifact.key, found.run_id) == ("gl1:aa", "run-3")
    assert artifact_of_stage("learn", two, "run-2").artifact.key == "gl1:bb"
    assert find_checkpoint("learn", two).name == find_artifact("learn", two).path.name == found.artifact.path.name
    assert find_checkpoint("learn", two, "run-2") == artifact_of_stage("learn", two, "run-2").artifact.path


def test_a_run_that_was_interrupted_in_the_stage_does_not_count(two: Workspace) -> None:
    record(two, "run-4", 4, ("learn", "gl1:dd", "interrupted"))
    assert artifact_of_stage("learn", two).run_id == "run-3"
    with pytest.raises(GridloomError, match="stage 'learn' is not done in run run-4"):
        artifact_of_stage("learn", two, "run-4")


def test_a_later_run_that_failed_in_the_stage_is_named(two: Workspace, tmp_path: Path) -> None:
    assert artifact_of_stage("learn", two).later == ""
    record(two, "run-4", 4, ("learn", "gl1:dd", "failed"))
    assert artifact_of_stage("learn", two).later == "run-4 (failed)"
    assert artifact_of_stage("learn", two, "run-2").later == ""  # that run was asked for
    notes: list[str] = []
    assert find_checkpoint("learn", two, notes=notes) == artifact_of_stage("learn", two).artifact.path
    assert notes == ["stage 'learn' is that of run run-3: it is not done in the later run run-4 (failed)"]


def test_a_removed_artifact_gives_place_to_the_run_before(two: Workspace) -> None:
    remove_artifacts(two, [one for one in list_artifacts(two) if one.key == "gl1:aa"])
    assert artifact_of_stage("learn", two).run_id == "run-2"
    remove_artifacts(two, list_artifacts(two))
    with pytest.raises(GridloomError, match="what stage 'learn' made was removed"):
        artifact_of_stage("learn", two)


def test_artifacts_whose_runs_were_removed_are_still_found(two: Workspace) -> None:
    remove_runs(two, ["run-1", "run-2", "run-3"])
    found = artifact_of_stage("learn", two)
    assert (found.artifact.key, found.run_id) == ("gl1:bb", None)


def test_a_stage_under_another_name_is_found_by_the_run_that_reused_its_artifact(two: Workspace) -> None:
    record(two, "run-5", 5, ("renamed", "gl1:bb", "cached"))
    assert find_checkpoint("renamed", two) == artifact_of_stage("learn", two, "run-2").artifact.path


def test_what_is_no_training_is_refused_with_the_nearest_one(two: Workspace, tmp_path: Path) -> None:
    publish(two, "gl1:ee", "solve", "solve")
    assert artifact_of_stage("solve", two).artifact.key == "gl1:ee"
    with pytest.raises(GridloomError, match="'solve' is no folder of a checkpoint") as caught:
        find_checkpoint("solve", two)
    assert "learn" in caught.value.remedy
    with pytest.raises(GridloomError, match="did you mean 'learn'"):
        find_checkpoint("lern", two)
    with pytest.raises(GridloomError, match="run run-3 has no stage 'lern'"):
        find_checkpoint("lern", two, "run-3")
    with pytest.raises(GridloomError, match="did you mean 'shipped:trm-arc1-small'"):
        find_checkpoint("trm-arc1-small", two)
    with pytest.raises(GridloomError, match="train something first"):
        find_checkpoint("learn", Workspace(tmp_path / "empty"))
    with pytest.raises(GridloomError, match="--run chooses among the runs of a stage"):
        find_checkpoint("shipped:trm-arc1-small", two, "run-1")
