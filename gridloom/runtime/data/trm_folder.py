"""TinyRecursiveModels' ARC folders: plan what its builder would draw, write the folder, check one that exists.

A plan is the augmentation list: which variants of which task, where on the canvas, under which puzzle id. The same plan
gives the same bytes. `reference_plan` follows the random stream of the builder itself, so that puzzle ids are those of
published checkpoints.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data import kernels, reference_rng
from gridloom.runtime.data.arc import RawTask
from gridloom.runtime.data.grids import Place, read_grid
from gridloom.runtime.data.jsonfiles import load_json
from gridloom.runtime.data.npy_layout import CANVAS, SEPARATOR, SET, SplitArrays, box, read_identifiers, read_split
from gridloom.runtime.data.packed import PackedGrids
from gridloom.runtime.data.sources import open_source
from gridloom.runtime.data.tasks import Grid, Pair
from gridloom.runtime.data.views import parse_name

BLANK = "<blank>"


@dataclass(frozen=True, slots=True, eq=False)
class TrmGroup:
    """One task with all its variants in one split."""

    task_id: str
    pairs: tuple[Pair, ...]
    dihedral: NDArray[np.uint8]
    """uint8 [variants]; the first variant is the task itself."""
    colours: NDArray[np.uint8]
    """uint8 [variants, 10]"""
    offsets: NDArray[np.int32]
    """int32 [variants * pairs, 2], place on the canvas, variant by variant."""

    def names(self) -> list[str]:
        """Puzzle names of the variants; the first is the bare task id."""
        digits = (self.colours + np.uint8(48)).tobytes().decode("ascii")
        variants = [
            f"{self.task_id}{SEPARATOR}t{turn}{SEPARATOR}{digits[10 * i : 10 * i + 10]}"
            for i, turn in enumerate(self.dihedral.tolist())
        ]
        return [self.task_id, *variants[1:]]


@dataclass(frozen=True, slots=True, eq=False)
class TrmPlan:
    """All that a folder is made of."""

    splits: Mapping[str, tuple[TrmGroup, ...]]
    """`train` and `test`, in the order that numbers the puzzle ids."""
    test_puzzles: Mapping[str, Any]
    """Evaluation tasks as JSON, answers included: what the reference evaluator compares with."""

    def identifiers(self) -> list[str]:
        """Puzzle names by id, in order of first sight."""
        names = (name for groups in self.splits.values() for group in groups for name in group.names())
        return [BLANK, *dict.fromkeys(names)]


@dataclass(frozen=True, slots=True, eq=False)
class TrmTask:
    """A task as the builder reads it: pairs by section, in the order in which its file has the sections."""

    task_id: str
    sections: tuple[tuple[str, tuple[Pair, ...]], ...]
    json: Any


def read_trm_tasks_of(source: str, subset: str, base: Path) -> list[TrmTask]:
    """The tasks of one subset in file order, answers included; a missing answer becomes [[0]]. Raises DataError."""
    found = open_source(source, base).subset(subset)
    tasks = []
    for task_id, file in found.files.items():
        raw = RawTask(file, task_id, found.load(task_id))
        order = [section for section in raw.data if section in ("train", "test")] if isinstance(raw.data, dict) else []
        sections, content = [], {}
        for section in order or ["train", "test"]:
            pairs, told = [], []
            for index, pair in enumerate(raw.pairs(section)):
                sides = {
                    side: read_grid(pair.get(side, [[0]]), Place(file, task_id, section, index, side))
                    for side in dict.fromkeys((*pair, "output"))
                }
                pairs.append(Pair(sides["input"], sides["output"]))
                told.append({side: grid.tolist() for side, grid in sides.items()})
            sections.append((section, tuple(pairs)))
            content[section] = told
        tasks.append(TrmTask(task_id, tuple(sections), content))
    return tasks


def reference_plan(
    subsets: Iterable[tuple[str, Sequence[TrmTask]]], test_subset: str, copies: int, seed: int = 42
) -> TrmPlan:
    """What the reference builder draws for these subsets: the same variants, ids and places.

    The builder's order of splits depends on Python's hash seed when the test subset comes first; here train is first.
    """
    state = reference_rng.seeded(seed)
    drawn: dict[str, list[TrmGroup]] = {"train": [], "test": []}
    test_puzzles: dict[str, Any] = {}
    for subset, tasks in subsets:
        order = np.arange(len(tasks))
        reference_rng.legacy_shuffle(state, order)
        for index in order.tolist():
            task = tasks[index]
            if subset == test_subset:
                test_puzzles[task.task_id] = task.json
            dihedral, colours = _variants(state, task, copies)
            by_split: dict[str, tuple[Pair, ...]] = {}
            for section, pairs in task.sections:
                split = "test" if section == "test" and subset == test_subset else "train"
                by_split[split] = by_split.get(split, ()) + pairs
            for split, pairs in by_split.items():
                nowhere = np.zeros((len(dihedral) * len(pairs), 2), dtype=np.int32)
                drawn[split].append(TrmGroup(task.task_id, pairs, dihedral, colours, nowhere))
    for split, groups in drawn.items():
        for group in groups:
            heights, widths = _sides(group.pairs)
            reference_rng.reference_offsets(
                state, group.dihedral, heights, widths, CANVAS, split == "train", group.offsets
            )
    return TrmPlan({split: tuple(groups) for split, groups in drawn.items() if groups}, test_puzzles)


def _variants(state: NDArray[np.uint32], task: TrmTask, copies: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    pairs = [pair for _, section in task.sections for pair in section]
    packed = PackedGrids.of([grid for pair in pairs for grid in (pair.input, pair.output)])
    sums = kernels.colour_sums(packed.cells, packed.start, packed.rows, packed.columns, np.arange(2 * len(pairs)))
    inputs = np.arange(0, 2 * len(pairs), 2)
    found: tuple[NDArray[np.uint8], NDArray[np.uint8]] = reference_rng.reference_views(
        state, sums, packed.rows, packed.columns, inputs, inputs + 1, copies
    )
    return found


def _sides(pairs: Sequence[Pair]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    shapes = np.array([[pair.input.shape, pair.output.shape] for pair in pairs], dtype=np.int64).max(axis=1)
    return np.ascontiguousarray(shapes[:, 0]), np.ascontiguousarray(shapes[:, 1])


# --- writing ------------------------------------------------------------------------------------------------------


def export_trm(folder: Path, plan: TrmPlan, advance: Callable[[int], None] | None = None) -> None:
    """Write the folder that TinyRecursiveModels trains on; `advance` is told the rows written. Raises DataError.

    The folder must not exist: it appears whole, by renaming, or not at all.
    """
    if folder.exists():
        raise DataError(f"{folder} exists already", "remove it or name another folder")
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        identifiers = plan.identifiers()
        ids = {name: i for i, name in enumerate(identifiers)}
        for split, groups in plan.splits.items():
            (aside / split).mkdir()
            _write_split(aside / split, groups, ids, advance)
        (aside / "identifiers.json").write_text(json.dumps(identifiers))
        (aside / "test_puzzles.json").write_text(json.dumps(plan.test_puzzles))
        aside.rename(folder)
    except OSError as problem:
        raise DataError(f"{folder}: cannot be written: {problem.strerror}", "free space or check the rights") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_split(
    folder: Path, groups: Sequence[TrmGroup], ids: Mapping[str, int], advance: Callable[[int], None] | None
) -> None:
    num_puzzles = [len(group.dihedral) for group in groups]
    num_rows = sum(len(group.offsets) for group in groups)
    shape = (num_rows, CANVAS * CANVAS)
    files = {
        field: open_memmap(folder / f"{SET}__{field}.npy", mode="w+", dtype=np.uint8, shape=shape)
        for field in ("inputs", "labels")
    }
    first = 0
    for group in groups:
        rows = slice(first, first + len(group.offsets))
        files["inputs"][rows], files["labels"][rows] = render_group(group)
        first = rows.stop
        if advance:
            advance(len(group.offsets))
    for file in files.values():
        file.flush()
    ends = np.repeat([len(group.pairs) for group in groups], num_puzzles)
    index = {
        "puzzle_identifiers": [ids[name] for group in groups for name in group.names()],
        "puzzle_indices": np.concatenate([[0], np.cumsum(ends)]),
        "group_indices": np.concatenate([[0], np.cumsum(num_puzzles)]),
    }
    for field, values in index.items():
        np.save(folder / f"{SET}__{field}.npy", np.asarray(values, dtype=np.int32))
    meta = {
        "pad_id": 0,
        "ignore_label_id": 0,
        "blank_identifier_id": 0,
        "vocab_size": 12,
        "seq_len": CANVAS * CANVAS,
        "num_puzzle_identifiers": len(ids),
        "total_groups": len(groups),
        "mean_puzzle_examples": num_rows / sum(num_puzzles),
        "total_puzzles": sum(num_puzzles),
        "sets": [SET],
    }
    (folder / "dataset.json").write_text(json.dumps(meta))


def render_group(group: TrmGroup) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Tokens of all rows of a group: (inputs, labels), uint8 [variants * pairs, 900] each."""
    num = len(group.pairs)
    variants = np.repeat(np.arange(len(group.dihedral)), num)
    sides = []
    for grids in ([pair.input for pair in group.pairs], [pair.output for pair in group.pairs]):
        packed = PackedGrids.of(grids)
        out = np.zeros((len(variants), CANVAS * CANVAS), dtype=np.uint8)
        kernels.render(
            packed.cells, packed.start, packed.rows, packed.columns, np.tile(np.arange(num), len(group.dihedral)),
            group.dihedral[variants], group.colours[variants], group.offsets.astype(np.int64), CANVAS, out,
        )  # fmt: skip
        sides.append(out)
    return sides[0], sides[1]


# --- reading ------------------------------------------------------------------------------------------------------


def import_trm(folder: Path) -> TrmPlan:
    """Read a folder back as a plan, every row compared with what the plan renders. Raises DataError naming the row.

    Exporting the plan again gives the same bytes.
    """
    names = read_identifiers(folder)
    test_puzzles = load_json(folder / "test_puzzles.json") if (folder / "test").is_dir() else {}
    splits = {}
    for split in ("train", "test"):
        if (folder / split).is_dir():
            arrays = read_split(folder, split)
            splits[split] = tuple(_read_group(arrays, group, names) for group in range(len(arrays.group_indices) - 1))
    plan = TrmPlan(splits, test_puzzles)
    if plan.identifiers() != names:
        seen = plan.identifiers()
        differ = (i for i, (a, b) in enumerate(zip(seen, names, strict=False)) if a != b)
        wrong = next(differ, min(len(seen), len(names)))
        raise DataError(
            f"{folder}/identifiers.json: id {wrong} is not what the rows say ({len(seen)} names in them)",
            "identifiers do not match the arrays; rebuild the folder",
        )
    return plan


def _read_group(arrays: SplitArrays, group: int, names: Sequence[str]) -> TrmGroup:
    first, last = int(arrays.group_indices[group]), int(arrays.group_indices[group + 1])
    labels = [names[identifier] for identifier in arrays.puzzle_identifiers[first:last]]
    views = [parse_name(label) for label in labels]
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
    offsets = kernels.corners(inputs, CANVAS)
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
    for field, told, expected in zip(("inputs", "labels"), (inputs, outputs), render_group(read), strict=True):
        if not np.array_equal(told, expected):
            row, position = (int(i) for i in np.argwhere(told != expected)[0])
            raise DataError(
                f"{arrays.folder}: {field} row {rows.start + row}, position {position}: token {told[row, position]}, "
                f"but {labels[row // num]!r} has {expected[row, position]} there",
                "identifiers do not match the arrays; rebuild the folder",
            )
    return read


def _cut(tokens: NDArray[np.uint8], corner: list[int], arrays: SplitArrays, row: int) -> Grid:
    """The grid of a row whose pair lies at `corner`."""
    table = tokens.reshape(CANVAS, CANVAS)
    grid = box(table)
    if grid is None or table[corner[0], corner[1]] < 2:
        raise DataError(f"{arrays.folder}: row {row} holds no rectangle of colours", "rebuild the folder")
    return grid
