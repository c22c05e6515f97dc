"""Facts about this machine's files for the compiler: datasets and language models, read without torch or numba."""

from __future__ import annotations

from dataclasses import asdict, astuple
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridloom.compiler.facts import CheckpointFacts, DataFacts, PairKey, TaskKey
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.planning.facts_cache import cached
from gridloom.specs.base import DataSpec
from gridloom.specs.built import BuiltData
from gridloom.specs.data import ArcData
from gridloom.specs.puzzles import MazeData, SequenceData, SudokuData

if TYPE_CHECKING:
    from gridloom.runtime.data.arc.read import ArcSource

# the readers import numpy, so they are imported only when a file is read


class LocalFacts:
    """`gridloom.compiler.facts.Facts` from disk. Each fact is read once; a new instance sees changed files."""

    def __init__(self) -> None:
        self._data: dict[tuple[str, str], DataFacts] = {}
        self._sources: dict[tuple[str, str], ArcSource] = {}
        self._task_keys: dict[tuple[str, str], tuple[TaskKey, ...]] = {}
        self._llama: dict[tuple[str, str], LlamaFacts] = {}
        self._checkpoints: dict[tuple[str, str], CheckpointFacts] = {}

    def data(self, spec: DataSpec, base: str) -> DataFacts:
        """Return facts of a dataset whose relative paths start from `base`. Raises DataError."""
        question = (repr(spec), base)
        if question not in self._data:
            answer = cached("data", spec, base, lambda: self._read(spec, base))
            # JSON returns tuples as lists
            fields: dict[str, Any] = {name: _tuples(value) for name, value in answer.items()}
            self._data[question] = DataFacts(**fields)
        return self._data[question]

    def subsets(self, source: str, base: str) -> tuple[str, ...]:
        """Return the subsets of a source of ARC tasks, without reading its tasks. Raises DataError."""
        from gridloom.runtime.data.arc.sources import open_source

        return open_source(source, Path(base)).subsets

    def task_keys(self, spec: DataSpec, base: str) -> tuple[TaskKey, ...]:
        """Return every ARC task of a dataset with the keys of its demonstrations and pairs. Raises DataError."""
        if not isinstance(spec, ArcData):
            return ()
        question = (repr(spec), base)
        if question not in self._task_keys:
            answer = cached("task_keys 2", spec, base, lambda: self._read_keys(spec, base))
            self._task_keys[question] = tuple(
                TaskKey(task_id, subset, held_out, key, tuple(PairKey(*pair) for pair in pairs))
                for task_id, subset, held_out, key, pairs in answer
            )
        return self._task_keys[question]

    def llama(self, spec: LlamaModel, base: str) -> LlamaFacts:
        """Return facts of a language model from its configuration. Raises ModelError."""
        from gridloom.runtime.models.language.weights.managed import llama_facts

        question = (repr(spec), base)
        if question not in self._llama:
            self._llama[question] = llama_facts(spec, base)
        return self._llama[question]

    def checkpoint(self, path: str, base: str) -> CheckpointFacts:
        """Return facts of a checkpoint's folder from bundle.json and its weight files' headers. Raises ModelError."""
        from gridloom.runtime.checkpoints.description import checkpoint_facts

        if (path, base) not in self._checkpoints:
            self._checkpoints[path, base] = checkpoint_facts(path, base)
        return self._checkpoints[path, base]

    def has_package(self, name: str) -> bool:
        """Return whether a package can be imported, without importing it."""
        return find_spec(name) is not None

    def _read(self, spec: DataSpec, base: str) -> dict[str, Any]:
        if isinstance(spec, ArcData):
            return asdict(_arc_facts(self._arc(spec, base), spec))
        if isinstance(spec, MazeData | SudokuData):
            return asdict(_puzzle_facts(spec, Path(base)))
        if isinstance(spec, BuiltData):
            from gridloom.runtime.data.built.order import built_digest

            content = built_digest(spec, Path(base))
            facts = asdict(DataFacts(content, "", 0, 0, 0, 0, ("train", "validation", "test")))
            grid = spec.form == "grid"
            canvas = spec.canvas if grid else 0
            return {**facts, "vocabulary": spec.vocabulary, "canvas": canvas, "length": None if grid else spec.length}
        from gridloom.runtime.data.sequences.artifact import sequences_digest
        from gridloom.runtime.data.sequences.tokens import token_layout
        from gridloom.runtime.data.sequences.vectors import vector_layout

        assert isinstance(spec, SequenceData), spec.kind
        layout, vectors = token_layout(spec), vector_layout(spec)
        return asdict(
            DataFacts(
                sequences_digest(spec),
                "",
                0,
                0,
                0,
                0,
                ("train", "validation", "test"),
                vocabulary=layout.vocabulary if layout else 0,
                length=layout.num_cells if layout else 0,
                vectors=(*vectors[:4], int(vectors.whole)) if vectors else (),
            )
        )

    def _read_keys(self, spec: ArcData, base: str) -> list[list[Any]]:
        from gridloom.runtime.data.arc.content_keys import content_key

        found = self._arc(spec, base)
        keys = (content_key(t, t.subset in spec.holdout, found.answers.get(t.task_id, ())) for t in found.tasks)
        return [[key.task_id, key.subset, key.held_out, key.key, [list(astuple(p)) for p in key.pairs]] for key in keys]

    def _arc(self, spec: ArcData, base: str) -> ArcSource:
        question = (repr(spec), base)
        if question not in self._sources:
            from gridloom.runtime.data.arc.read import read_arc

            self._sources[question] = read_arc(spec, Path(base))
        return self._sources[question]


def _tuples(value: Any) -> Any:
    """Convert lists of JSON to the tuples of facts, recursively."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _arc_facts(found: ArcSource, spec: ArcData) -> DataFacts:
    return DataFacts(
        digest=found.digest,
        answers_digest=found.answers_digest,
        num_tasks=len(found.tasks),
        num_held_out=sum(bool(task.tests) for task in found.tasks),
        num_unanswered=sum(bool(task.tests) and task.task_id not in found.answers for task in found.tasks),
        max_side=found.max_side,
        canvas=found.canvas,
        subsets=found.subsets,
        num_check_demos=sum(len(task.check) for task in found.tasks),
        num_demos=sum(len(task.demos) for task in found.tasks),
        task_ids=tuple(task.task_id for task in found.tasks),
        side_shares=_side_shares(found, spec.canvases),
        row_cells=_row_cells(found) if spec.rows == "packed" else (),
        **_prompt_facts(found),
    )


def _side_shares(found: ArcSource, canvases: tuple[int, ...]) -> tuple[tuple[int, float], ...]:
    """Return (side, share of the training pairs) of each canvas."""
    if not canvases:
        return ()
    from gridloom.runtime.data.tasks import fitting_canvas

    sides = (*(side for side in canvases if side < found.canvas), found.canvas)
    pairs: dict[int, int] = {}
    for task in found.tasks:
        side = fitting_canvas(task, sides)
        pairs[side] = pairs.get(side, 0) + len(task.train_pairs)
    total = max(sum(pairs.values()), 1)
    return tuple((side, pairs[side] / total) for side in sorted(pairs))


def _row_cells(found: ArcSource) -> tuple[tuple[int, float], ...]:
    """Return (cells, share of the training pairs) of each size of a packed row."""
    import numpy as np

    from gridloom.runtime.data.arc.packing.row_shapes import task_shapes

    cells, counts = np.unique(task_shapes(found.tasks, found.canvas).prod(axis=1), return_counts=True)
    total = max(int(counts.sum()), 1)
    return tuple((size, count / total) for size, count in zip(cells.tolist(), counts.tolist(), strict=True))


def _prompt_facts(found: ArcSource) -> dict[str, Any]:
    """Return mean sizes of prompts: a joint prompt shows the other pairs and an input, a solve prompt all pairs and a
    test input."""
    pairs, joint, solve = 0, [0, 0], [0, 0]
    answers, tests = 0, 0
    for task in found.tasks:
        inputs = [pair.input.size for pair in task.train_pairs]
        outputs = [pair.output.size for pair in task.train_pairs]
        cells, count = sum(inputs) + sum(outputs), len(inputs)
        pairs, answers, tests = pairs + count, answers + sum(outputs), tests + len(task.tests)
        joint[0] += count * (count - 1)
        joint[1] += count * cells - sum(outputs)
        solve[0] += len(task.tests) * count
        solve[1] += sum(cells + test.size for test in task.tests)
    shown, asked = max(pairs, 1), max(tests, 1)
    return {
        "num_train_pairs": pairs,
        "answer_cells": answers / shown,
        "joint_prompt": (joint[0] / shown, joint[1] / shown),
        "solve_prompt": (solve[0] / asked, solve[1] / asked),
    }


def _puzzle_facts(spec: MazeData | SudokuData, base: Path) -> DataFacts:
    from gridloom.runtime.data.puzzles.puzzle_set import puzzles_digest, puzzles_size
    from gridloom.runtime.data.puzzles.tables import vocab_of

    size, counts = puzzles_size(spec, base)
    return DataFacts(
        digest=puzzles_digest(spec, base),
        answers_digest="",
        num_tasks=counts["train"],
        num_held_out=counts.get("test", 0),
        max_side=size,
        canvas=size,
        subsets=tuple(counts),
        vocabulary=vocab_of(spec.kind, size),
    )
