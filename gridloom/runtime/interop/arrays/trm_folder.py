"""TinyRecursiveModels' ARC folders: a plan of its builder's draws, and the writer of the folder.

A plan lists the variants of each task with their canvas offsets and puzzle ids. Equal plans give equal bytes.
`reference_plan` follows the random stream of the builder, so puzzle ids equal those of published checkpoints.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.arc import kernels as arc_kernels
from gridloom.runtime.data.arc.packed import PackedGrids
from gridloom.runtime.data.arc.read import RawTask
from gridloom.runtime.data.arc.sources import open_source
from gridloom.runtime.data.files.arrays import CANVAS, SET
from gridloom.runtime.data.files.grids import read_grid
from gridloom.runtime.data.tasks import SEPARATOR, Pair
from gridloom.runtime.interop.arrays import reference_rng
from gridloom.stores.files.vacant import filling

BLANK = "<blank>"


@dataclass(frozen=True, slots=True, eq=False)
class TrmGroup:
    """Task with all its variants in one split."""

    task_id: str
    pairs: tuple[Pair, ...]
    dihedral: NDArray[np.uint8]
    """uint8 [variants]; the first variant is the task itself."""
    colours: NDArray[np.uint8]
    """uint8 [variants, 10]"""
    offsets: NDArray[np.int32]
    """int32 [variants * pairs, 2], row and column offset on the canvas, variant by variant."""

    def names(self) -> list[str]:
        """Return the puzzle names of the variants; the first is the bare task id."""
        digits = (self.colours + np.uint8(48)).tobytes().decode("ascii")
        variants = [
            f"{self.task_id}{SEPARATOR}t{turn}{SEPARATOR}{digits[10 * i : 10 * i + 10]}"
            for i, turn in enumerate(self.dihedral.tolist())
        ]
        return [self.task_id, *variants[1:]]


@dataclass(frozen=True, slots=True, eq=False)
class TrmPlan:
    """Content of a folder."""

    splits: Mapping[str, tuple[TrmGroup, ...]]
    """Groups of `train` and `test`, in the order of the puzzle ids."""
    test_puzzles: Mapping[str, Any]
    """Evaluation tasks as JSON with answers, input of the reference evaluator."""

    def identifiers(self) -> list[str]:
        """Return puzzle names by id, in order of first occurrence."""
        names = (name for groups in self.splits.values() for group in groups for name in group.names())
        return [BLANK, *dict.fromkeys(names)]

    def num_rows(self) -> int:
        """Rows of both splits."""
        return sum(len(group.offsets) for groups in self.splits.values() for group in groups)


@dataclass(frozen=True, slots=True, eq=False)
class TrmTask:
    """Task as the builder reads it: pairs by section, sections in file order."""

    task_id: str
    sections: tuple[tuple[str, tuple[Pair, ...]], ...]
    json: Any
    unanswered: tuple[bool, ...] = ()
    """Flag of each test input: whether [[0]] replaces a missing answer."""


def read_trm_tasks_of(source: str, subset: str, base: Path) -> list[TrmTask]:
    """Return the tasks of a subset in file order, with answers; a missing answer becomes [[0]]. Raises DataError."""
    found = open_source(source, base).subset(subset)
    tasks = []
    for task_id in found.files:
        raw = RawTask.of(found, task_id)
        order = [section for section in raw.data if section in ("train", "test")] if isinstance(raw.data, dict) else []
        sections, content = [], {}
        for section in order or ["train", "test"]:
            pairs, listed = [], []
            for index, pair in enumerate(raw.pairs(section)):
                sides = {
                    side: read_grid(pair.get(side, [[0]]), raw.place(section, index, side))
                    for side in dict.fromkeys((*pair, "output"))
                }
                pairs.append(Pair(sides["input"], sides["output"]))
                listed.append({side: grid.tolist() for side, grid in sides.items()})
            sections.append((section, tuple(pairs)))
            content[section] = listed
        unanswered = tuple("output" not in pair for pair in raw.pairs("test"))
        tasks.append(TrmTask(task_id, tuple(sections), content, unanswered))
    return tasks


def reference_plan(
    subsets: Iterable[tuple[str, Sequence[TrmTask]]], test_subset: str, copies: int, seed: int = 42
) -> TrmPlan:
    """Return the plan of the reference builder for these subsets: the same variants, ids and offsets.

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
    sums = arc_kernels.colour_sums(packed.cells, packed.start, packed.rows, packed.columns, np.arange(2 * len(pairs)))
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
    """Write the folder that TinyRecursiveModels trains on; `advance` gets the number of rows written. Raises DataError.

    The folder must not exist, or be empty; it is created atomically by renaming.
    """
    with filling(folder) as aside:
        _check_room(aside, plan)
        identifiers = plan.identifiers()
        ids = {name: i for i, name in enumerate(identifiers)}
        for split, groups in plan.splits.items():
            (aside / split).mkdir()
            _write_split(aside / split, groups, ids, advance)
        (aside / "identifiers.json").write_text(json.dumps(identifiers))
        (aside / "test_puzzles.json").write_text(json.dumps(plan.test_puzzles))


def _check_room(folder: Path, plan: TrmPlan) -> None:
    """Raise DataError when the rows do not fit on the disk, before minutes of writing."""
    need = 2 * CANVAS * CANVAS * plan.num_rows()
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DataError(
            f"{folder.parent}: {need / 1e9:.1f} GB to write and {free / 1e9:.1f} GB free",
            "free space or ask for fewer copies",
        )


def _write_split(
    folder: Path, groups: Sequence[TrmGroup], ids: Mapping[str, int], advance: Callable[[int], None] | None
) -> None:
    num_puzzles = [len(group.dihedral) for group in groups]
    num_rows = sum(len(group.offsets) for group in groups)
    # written, not memory-mapped: a full disk then raises an error instead of SIGBUS
    with (
        (folder / f"{SET}__inputs.npy").open("wb") as inputs,
        (folder / f"{SET}__labels.npy").open("wb") as labels,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (num_rows, CANVAS * CANVAS)}
        for file in (inputs, labels):
            write_array_header_1_0(file, header)
        for group in groups:
            group_inputs, group_labels = render_group(group)
            inputs.write(group_inputs.data)
            labels.write(group_labels.data)
            if advance:
                advance(len(group.offsets))
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
    """Return the tokens of all rows of a group: (inputs, labels), uint8 [variants * pairs, 900] each."""
    num = len(group.pairs)
    variants = np.repeat(np.arange(len(group.dihedral)), num)
    sides = []
    for grids in ([pair.input for pair in group.pairs], [pair.output for pair in group.pairs]):
        packed = PackedGrids.of(grids)
        out = np.zeros((len(variants), CANVAS * CANVAS), dtype=np.uint8)
        arc_kernels.render(
            packed.cells,
            packed.start,
            packed.rows,
            packed.columns,
            np.tile(np.arange(num), len(group.dihedral)),
            group.dihedral[variants],
            group.colours[variants],
            group.offsets.astype(np.int64),
            CANVAS,
            out,
        )
        sides.append(out)
    return sides[0], sides[1]
