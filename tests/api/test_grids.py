"""Grids and tasks: checked when they are made, equal by content, drawn without running what they hold."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import gridloom

MIRROR = {
    "train": [{"input": [[1, 0], [2, 0]], "output": [[0, 1], [0, 2]]}, {"input": [[3, 4]], "output": [[4, 3]]}],
    "test": [{"input": [[5, 0, 1]], "output": [[1, 0, 5]]}, {"input": [[7]], "output": [[7]]}],
}


def test_a_grid_is_its_content() -> None:
    grid = gridloom.Grid([[1, 0, 2], [3, 4, 5]])
    assert grid.shape == (2, 3)
    assert grid[1, 2] == 5
    assert grid == gridloom.Grid(np.array([[1, 0, 2], [3, 4, 5]])) == gridloom.Grid(grid)
    assert len({grid, gridloom.Grid(grid.tolist()), gridloom.Grid([[1]])}) == 2
    assert grid != [[1, 0, 2], [3, 4, 5]]
    assert repr(grid) == "Grid([[1, 0, 2], [3, 4, 5]])"
    assert list(grid) == [[1, 0, 2], [3, 4, 5]]
    assert len(grid) == 2


def test_a_grid_is_an_array_that_cannot_be_changed() -> None:
    grid = gridloom.Grid([[1, 0]])
    array = np.asarray(grid)
    assert (array.dtype, array.tolist()) == (np.uint8, [[1, 0]])
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 3
    copy = np.array(grid)
    copy[0, 0] = 3
    assert grid == gridloom.Grid([[1, 0]])
    assert np.asarray(grid, dtype=float).dtype == float


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "grid: 0 rows"),
        ([[1], [1, 2]], "grid, row 2: 2 cells, but row 1 has 1"),
        ([[1, 10]], "grid, row 1, column 2: 10 is not a colour"),
        ([[0.5]], "0.5 is not a colour"),
        (np.zeros((31, 1), dtype=np.uint8), "grid: 31 rows"),
        (np.zeros(3, dtype=np.uint8), "row 1: not a list"),
    ],
)
def test_what_is_no_grid_is_refused_with_its_place(rows: object, message: str) -> None:
    with pytest.raises(gridloom.DataError, match=message):
        gridloom.Grid(rows)  # type: ignore[arg-type]


def test_a_task_is_read_and_written_in_the_form_of_its_files(tmp_path: Path) -> None:
    path = tmp_path / "mirror.json"
    path.write_text(json.dumps(MIRROR))
    task = gridloom.Task.from_file(path)
    assert task == gridloom.Task.from_dict(MIRROR, "mirror")
    assert task.task_id == "mirror"
    assert task.demos[1] == gridloom.Pair(gridloom.Grid([[3, 4]]), gridloom.Grid([[4, 3]]))
    assert task.answers == (gridloom.Grid([[1, 0, 5]]), gridloom.Grid([[7]]))
    assert task.to_dict() == MIRROR
    open_ = {**MIRROR, "test": [{"input": [[7]]}]}
    assert gridloom.Task.from_dict(open_).to_dict() == open_


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "has no 'train'"),
        ({**MIRROR, "train": []}, "has no demonstrations"),
        ({**MIRROR, "test": []}, "no test input"),
        ({**MIRROR, "test": [{"input": [[12]]}]}, "test pair 1, input, row 1, column 1: 12 is not a colour"),
        ([1], "has no 'train'"),
    ],
)
def test_what_is_no_task_is_refused_with_its_place(data: object, message: str) -> None:
    with pytest.raises(gridloom.DataError, match=message):
        gridloom.Task.from_dict(data)  # type: ignore[arg-type]


def test_grids_and_tasks_draw_themselves() -> None:
    drawn = ET.fromstring(gridloom.Grid([[1, 0, 2], [3, 4, 5]])._repr_svg_())
    assert len(drawn.findall("{*}rect")) == 1 + 6
    task = ET.fromstring(gridloom.Task.from_dict(MIRROR, "mirror")._repr_svg_())
    texts = ["".join(node.itertext()) for node in task.findall(".//{*}text")]
    assert texts[0] == "task mirror"
    assert "answer 1x3" in texts


@pytest.mark.parametrize("task_id", ["<script>alert(1)</script>", 'a"b&c', "bell \x07 and \ud800", "]]>"])
def test_markup_in_a_task_id_is_shown_and_never_read(task_id: str) -> None:
    drawn = ET.fromstring(gridloom.Task.from_dict(MIRROR, task_id)._repr_svg_())
    assert {node.tag.split("}")[1] for node in drawn.iter()} == {"svg", "rect", "text", "g"}
