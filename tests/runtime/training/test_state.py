"""Training states on disk: whole or absent, the newest two, damage named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gridloom.errors import StageError
from gridloom.runtime.training.state import SavedState, load_latest, save_state, saved_steps


def write(work: Path, step: int) -> Path:
    return save_state(work, SavedState(step, {"x": torch.full((4,), float(step))}, {"note": step}), key="gl1:k")


def test_newest_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        write(tmp_path, step)
    assert saved_steps(tmp_path) == [2, 10]
    state = load_latest(tmp_path, key="gl1:k", say=print)
    assert state is not None
    assert (state.step, state.values, state.tensors["x"].tolist()) == (10, {"note": 10}, [10.0] * 4)


def test_nothing_saved_reads_as_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "absent", key="gl1:k", say=print) is None


def test_an_unfinished_write_is_ignored_and_removed_by_the_next(tmp_path: Path) -> None:
    write(tmp_path, 1)
    torn = tmp_path / "state-00000002.tmp"
    torn.mkdir()
    (torn / "state.safetensors").write_bytes(b"half")
    assert saved_steps(tmp_path) == [1]
    write(tmp_path, 2)
    assert not torn.exists()
    assert saved_steps(tmp_path) == [1, 2]


def test_a_damaged_state_gives_way_to_the_one_before_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, 1)
    newest = write(tmp_path, 2) / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    said: list[str] = []
    state = load_latest(tmp_path, key="gl1:k", say=said.append)
    assert state is not None
    assert state.step == 1
    assert "step 2 is damaged" in said[0]
    (tmp_path / "state-00000001" / "state.json").write_text("{}")
    with pytest.raises(StageError, match=r"every training state .* is damaged"):
        load_latest(tmp_path, key="gl1:k", say=said.append)


def test_state_of_another_stage_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with pytest.raises(StageError, match="holds the state of stage gl1:k, not of gl1:other"):
        load_latest(tmp_path, key="gl1:other", say=print)


def test_unwritable_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file, not a folder")
    with pytest.raises(StageError, match="cannot save the training state of step 3"):
        write(tmp_path / "work", 3)


@pytest.mark.parametrize("change", [{"step": 3}, {"values": {"note": 4}}])
def test_an_edited_step_or_scalar_is_found(tmp_path: Path, change: dict[str, object]) -> None:
    write(tmp_path, 1)
    file = write(tmp_path, 2) / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    said: list[str] = []
    state = load_latest(tmp_path, key="gl1:k", say=said.append)
    assert state is not None
    assert state.step == 1
    assert "its step or its scalars are not those that were saved" in said[0]


def test_a_state_under_the_name_of_another_step_is_found(tmp_path: Path) -> None:
    write(tmp_path, 2).rename(tmp_path / "state-00000009")
    with pytest.raises(StageError, match="it is the state of step 2"):
        load_latest(tmp_path, key="gl1:k", say=print)


def test_a_state_of_an_earlier_version_has_no_digest_and_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path, 2)
    tensors = folder / "state.safetensors"
    save_file(load_file(tensors), tensors)  # as written before: without metadata
    description = json.loads((folder / "state.json").read_text())
    digest = hashlib.sha256(tensors.read_bytes()).hexdigest()
    (folder / "state.json").write_text(json.dumps(description | {"bytes": tensors.stat().st_size, "sha256": digest}))
    state = load_latest(tmp_path, key="gl1:k", say=print)
    assert state is not None
    assert (state.step, state.values) == (2, {"note": 2})
