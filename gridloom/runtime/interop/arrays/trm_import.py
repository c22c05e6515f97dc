"""Reader of TinyRecursiveModels' ARC folders as plans; every row is compared with the plan's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.arc import kernels as arc_kernels
from gridloom.runtime.data.arc.read import RawTask
from gridloom.runtime.data.arc.views import parse_name
from gridloom.runtime.data.files.arrays import (
    CANVAS,
    SplitArrays,
    box,
    check_identifiers,
    read_identifiers,
    read_split,
    read_test_puzzles,
)
from gridloom.runtime.data.files.grids import read_grid
from gridloom.runtime.data.tasks import SEPARATOR, Grid, Pair
from gridloom.runtime.interop.arrays.trm_folder import TrmGroup, TrmPlan, render_group


def import_trm(folder: Path) -> TrmPlan:
    """Read a folder as a plan and compare every row with the plan's rendering. Raises DataError that names the row.

    Exporting the plan again gives the same bytes.
    """
    names = read_identifiers(folder)
    test_puzzles = read_test_puzzles(folder)
    splits = {}
    for split in ("train", "test"):
        if split == "train" or (folder / split).is_dir():
            arrays = read_split(folder, split)
            check_identifiers(folder, arrays, names)
            splits[split] = tuple(_read_group(arrays, group, names) for group in range(len(arrays.group_indices) - 1))
    plan = TrmPlan(splits, test_puzzles)
    if plan.identifiers() != names:
        seen = plan.identifiers()
        differ = (i for i, (a, b) in enumerate(zip(seen, names, strict=False)) if a != b)
        wrong = next(differ, min(len(seen), len(names)))
        raise DataError(
            f"{folder}/identifiers.json: id {wrong} does not match the rows ({len(seen)} names in them)",
            "identifiers do not match the arrays; rebuild the folder",
        )
    _compare_tests(folder, splits.get("test", ()), test_puzzles)
    return plan


def _compare_tests(folder: Path, groups: Sequence[TrmGroup], test_puzzles: Mapping[str, Any]) -> None:
    """Raise DataError unless test_puzzles.json has the tasks of the test rows, with the same pairs."""
    file = folder / "test_puzzles.json"
    shown = {group.task_id: group.pairs for group in groups}
    for task_id in shown:
        if task_id not in test_puzzles:
            raise DataError(f"{file}: no task {task_id!r}, which has rows in test", "rebuild the folder")
    for task_id, task in test_puzzles.items():
        raw = RawTask(str(file), task_id, task)
        expected = [
            tuple(read_grid(pair.get(side, [[0]]), raw.place(section, i, side)) for side in ("input", "output"))
            for section in ("train", "test")
            for i, pair in enumerate(raw.pairs(section))
        ][len(raw.pairs("train")) :]
        pairs = shown.get(task_id)
        if pairs is None and expected:
            raise DataError(f"{file}: task {task_id!r} has no rows in test", "rebuild the folder")
        listed = [(pair.input.tolist(), pair.output.tolist()) for pair in pairs or ()]
        if listed != [(a.tolist(), b.tolist()) for a, b in expected]:
            raise DataError(f"{file}: task {task_id!r} has other test pairs than its rows", "rebuild the folder")


def _read_group(arrays: SplitArrays, group: int, names: Sequence[str]) -> TrmGroup:
    first, last = int(arrays.group_indices[group]), int(arrays.group_indices[group + 1])
    labels = [names[identifier] for identifier in arrays.puzzle_identifiers[first:last]]
    try:
        views = [parse_name(label) for label in labels]
    except DataError as problem:
        raise DataError(f"{arrays.folder.parent / 'identifiers.json'}: {problem.message}", problem.remedy) from None
    task_id = views[0][0]
    rows = slice(int(arrays.puzzle_indices[first]), int(arrays.puzzle_indices[last]))
    num = arrays.rows(first).stop - rows.start
    if any(name != task_id for name, _ in views) or SEPARATOR in labels[0]:
        raise DataError(f"{arrays.folder}: group {group} mixes {labels[0]!r} with others", "identifiers do not match")
    if rows.stop - rows.start != num * len(views):
        raise DataError(
            f"{arrays.folder}: variants of {task_id!r} have different numbers of pairs", "rebuild the folder"
        )
    inputs, outputs = np.asarray(arrays.inputs[rows]), np.asarray(arrays.labels[rows])
    offsets = arc_kernels.corners(inputs, CANVAS)
    pairs = tuple(
        Pair(_cut(table_in, corner, arrays, row), _cut(table_out, corner, arrays, row))
        for row, (table_in, table_out, corner) in enumerate(
            zip(inputs[:num], outputs[:num], offsets[:num].tolist(), strict=True), start=rows.start
        )
    )
    read = TrmGroup(
        task_id,
        pairs,
        np.array([view.dihedral for _, view in views], dtype=np.uint8),
        np.array([view.colours for _, view in views], dtype=np.uint8),
        offsets,
    )
    for field, found, expected in zip(("inputs", "labels"), (inputs, outputs), render_group(read), strict=True):
        if not np.array_equal(found, expected):
            row, position = (int(i) for i in np.argwhere(found != expected)[0])
            raise DataError(
                f"{arrays.folder}: {field} row {rows.start + row}, position {position}: token {found[row, position]}, "
                f"but {labels[row // num]!r} has {expected[row, position]} there",
                "identifiers do not match the arrays; rebuild the folder",
            )
    return read


def _cut(tokens: NDArray[np.uint8], corner: list[int], arrays: SplitArrays, row: int) -> Grid:
    """Return the grid of a row whose pair is at offset `corner`. Raises DataError when there is none."""
    table = tokens.reshape(CANVAS, CANVAS)
    grid = box(table)
    if grid is None or table[corner[0], corner[1]] < 2:
        raise DataError(f"{arrays.folder}: row {row} holds no rectangle of colours", "rebuild the folder")
    return grid
