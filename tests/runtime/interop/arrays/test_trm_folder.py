"""Folders of TinyRecursiveModels: the same bytes as its builder, both ways, and damaged ones named.

trm_folder.zip holds four small tasks as Kaggle files (src/) and what the reference builder at e7b6871 made of them with
five augmentations (built/). With GRIDLOOM_TRM_PEER set to a checkout, the builder itself is run on ARC-1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_cases import tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.errors import DataError
from gridloom.runtime.data.arc.canonical import find_leaks
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.files.arrays import read_trm_tasks
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.interop.arrays import reference_rng
from gridloom.runtime.interop.arrays.trm_export import export_source
from gridloom.runtime.interop.arrays.trm_folder import TrmPlan, export_trm, read_trm_tasks_of, reference_plan
from gridloom.runtime.interop.arrays.trm_import import import_trm
from gridloom.specs.data import ArcData

PEER = os.environ.get("GRIDLOOM_TRM_PEER", "")


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    with zipfile.ZipFile(Path(__file__).parents[3] / "support" / "trm_folder.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path


def plan_of(source: Path, copies: int) -> TrmPlan:
    subsets = ("training", "evaluation")
    tasks = [(subset, read_trm_tasks_of(str(source), subset, Path())) for subset in subsets]
    return reference_plan(tasks, "evaluation", copies)


def same_bytes(left: Path, right: Path) -> bool:
    files = [sorted(path.relative_to(top) for path in top.rglob("*") if path.is_file()) for top in (left, right)]
    return files[0] == files[1] and all((left / f).read_bytes() == (right / f).read_bytes() for f in files[0])


def test_export_is_what_the_reference_builder_writes(golden: Path) -> None:
    export_trm(golden / "ours", plan_of(golden / "src", 5))
    assert same_bytes(golden / "ours", golden / "built")


def test_import_and_export_give_the_same_bytes(golden: Path) -> None:
    export_trm(golden / "again", import_trm(golden / "built"))
    assert same_bytes(golden / "again", golden / "built")


@settings(max_examples=12)
@given(
    st.lists(tasks(max_side=7), min_size=1, max_size=2),
    st.integers(0, 4),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_any_tasks_come_back_from_a_folder(drawn: list[Task], copies: int, seed: int, held_out: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        for number, task in enumerate(drawn):
            content = {
                "train": [{"input": p.input.tolist(), "output": p.output.tolist()} for p in task.demos],
                "test": [{"input": grid.tolist(), "output": grid.tolist()} for grid in task.tests],
            }
            (here / "mine").mkdir(exist_ok=True)
            (here / "mine" / f"t{number}.json").write_text(json.dumps(content))
        if held_out and not all(task.tests for task in drawn):
            with pytest.raises(DataError, match="has no test input"):
                export_source("mine", here, here / "a", copies, test="tasks")
            return
        export_source("mine", here, here / "a", copies, test="tasks" if held_out else None, seed=seed)
        export_trm(here / "b", import_trm(here / "a"))
        assert same_bytes(here / "a", here / "b")
        found = read_trm_tasks(here / "a")[held_out]
        for number, task in enumerate(drawn):
            pairs = [pair["input"] for pair in found[f"t{number}"]["train"]]
            expected = [p.input.tolist() for p in task.demos]
            assert pairs == (expected if held_out else expected + [g.tolist() for g in task.tests])


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1])
def test_random_stream_is_numpys(seed: int) -> None:
    theirs = np.random.RandomState(seed)
    ours = reference_rng.seeded(seed)
    for most in (7, 1, 0, 29, 8, 1000) * 200:
        assert theirs.randint(0, most + 1) == reference_rng.up_to(ours, most)
    order = np.arange(50)
    reference_rng.legacy_shuffle(ours, order)
    assert theirs.permutation(50).tolist() == order.tolist()


def test_folder_is_a_source_of_tasks(golden: Path) -> None:
    found = read_arc(ArcData(source="built"), golden)
    assert [task.task_id for task in found.tasks] == ["aaaa0001", "aaaa0002", "aaaa0003", "bbbb0001"]
    original = read_arc(ArcData(source="src"), golden)
    evaluation, theirs = found.tasks[3], original.tasks[3]
    assert [leak.exact for leak in find_leaks([evaluation], [theirs])] == [True]
    assert [grid.tolist() for grid in found.answers["bbbb0001"]] == [g.tolist() for g in original.answers["bbbb0001"]]
    assert [len(task.demos) for task in found.tasks] == [3, 3, 2, 2]


def test_export_never_overwrites_and_leaves_nothing_half_written(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(golden / "src", 1)
    with pytest.raises(DataError, match="exists already"):
        export_trm(golden / "built", plan)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError, match="No space left"):
        export_trm(golden / "new", plan)
    assert sorted(path.name for path in golden.iterdir()) == ["built", "src"]


def edit_array(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        np.save(folder / name, change(np.load(folder / name)))

    return edit


def cut(folder: Path) -> None:
    path = folder / "train/all__inputs.npy"
    path.write_bytes(path.read_bytes()[:-100])


def swap_names(folder: Path) -> None:
    path = folder / "identifiers.json"
    names = json.loads(path.read_text())
    names[2], names[3] = names[3], names[2]
    path.write_text(json.dumps(names))


def repeat_name(folder: Path) -> None:
    path = folder / "identifiers.json"
    names = json.loads(path.read_text())
    path.write_text(json.dumps([*names[:-1], names[1]]))


def change_token(table: Any) -> Any:
    table[3, 0] = 9 if table[3, 0] != 9 else 8
    return table


def drop_row(table: Any) -> Any:
    return table[:-1]


def edit_json(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(value)))

    return edit


def without_first(value: dict[str, Any]) -> dict[str, Any]:
    return dict(list(value.items())[1:])


def other_answer(value: dict[str, Any]) -> dict[str, Any]:
    grid = next(iter(value.values()))["test"][0]["output"]
    grid[0][0] = (grid[0][0] + 1) % 10
    return value


def wrong_answer(value: dict[str, Any]) -> dict[str, Any]:
    next(iter(value.values()))["test"][0]["output"][0][0] = 12
    return value


META = "train/dataset.json"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (edit_json("identifiers.json", lambda names: names[:-3]), r"22 names, but train/dataset.json counts 25"),
        (edit_json(META, lambda meta: {**meta, "num_puzzle_identifiers": 99}), "25 names, but train/dataset.json"),
        (edit_json(META, lambda meta: {**meta, "total_groups": 99}), "dataset.json: total_groups 99, but the arrays"),
        (edit_json(META, lambda meta: {**meta, "mean_puzzle_examples": 9.0}), "mean_puzzle_examples 9.0, but the"),
        (edit_json(META, lambda meta: {**meta, "sets": ["some"]}), r"dataset.json: sets are \['some'\], not \['all'\]"),
        (edit_json(META, lambda meta: {**meta, "pad_id": 5}), "dataset.json: pad_id 5, not 0"),
        (edit_json("test_puzzles.json", without_first), "no task 'bbbb0001', which has rows in test"),
        (edit_json("test_puzzles.json", lambda v: {**v, "zz": v["bbbb0001"]}), "'zz' has no rows in test"),
        (edit_json("test_puzzles.json", other_answer), "task 'bbbb0001' has other test pairs than its rows"),
        (edit_json("test_puzzles.json", wrong_answer), "test pair 1, output, row 1, column 1: 12 is not a colour"),
        (lambda folder: shutil.rmtree(folder / "test"), "'bbbb0001' has no rows in test"),
        (edit_json("identifiers.json", lambda n: [*n[:2], "x|||", *n[3:]]), "identifiers.json: not a puzzle name: 'x"),
        (cut, "all__inputs.npy: cannot be read"),
        (lambda folder: (folder / "train/all__labels.npy").unlink(), "all__labels.npy: cannot be read"),
        (edit_array("train/all__labels.npy", drop_row), r"labels are \(\d+, 900\), not \(\d+, 900\)"),
        (edit_array("train/all__puzzle_indices.npy", drop_row), "puzzle_indices do not divide"),
        (edit_array("train/all__group_indices.npy", lambda a: a[::-1].copy()), "group_indices do not divide"),
        (edit_array("train/all__puzzle_identifiers.npy", lambda a: a + 100), "puzzle id 1.. of 25 ids"),
        (edit_array("train/all__inputs.npy", lambda a: a.astype(np.float32)), "2 dimensions of float32"),
        (edit_array("train/all__inputs.npy", change_token), "inputs row 3, position 0: token"),
        (swap_names, "identifiers do not match"),
        (repeat_name, "occurs twice"),
        (lambda folder: (folder / "identifiers.json").write_text("{}"), "not a list of puzzle names"),
        (lambda folder: (folder / "train/dataset.json").write_text("{}"), "no seq_len and vocab_size"),
    ],
)
def test_damaged_folders_are_named(golden: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(golden / "built")
    with pytest.raises(DataError, match=said) as caught:
        import_trm(golden / "built")
    assert str(golden / "built") in caught.value.message
    assert caught.value.remedy


@pytest.mark.skipif(not PEER, reason="set GRIDLOOM_TRM_PEER to a checkout of TinyRecursiveModels")
def test_arc1_is_built_byte_for_byte_like_the_reference(tmp_path: Path) -> None:
    script = Path(__file__).parents[4] / "benchmarks" / "data_peer.py"
    kaggle = Path(PEER) / "kaggle" / "combined"
    command = [sys.executable, str(script), "--one", "build_peer", PEER, str(tmp_path / "theirs"), "2"]
    subprocess.run(command, check=True, capture_output=True)
    export_trm(tmp_path / "ours", plan_of(kaggle, 2))
    assert same_bytes(tmp_path / "ours", tmp_path / "theirs")


def test_short_identifiers_are_named_also_where_tasks_are_read(golden: Path) -> None:
    edit_json("identifiers.json", lambda names: names[:3])(golden / "built")
    with pytest.raises(DataError, match=r"3 names, but train/dataset\.json counts 25"):
        read_arc(ArcData(source="built"), golden)


@pytest.mark.parametrize("change", [without_first, other_answer])
def test_a_test_task_never_passes_for_a_training_task(golden: Path, change: Callable[[Any], Any]) -> None:
    edit_json("test_puzzles.json", change)(golden / "built")
    with pytest.raises(DataError, match="test pairs of task 'bbbb0001' differ"):
        read_arc(ArcData(source="built"), golden)
