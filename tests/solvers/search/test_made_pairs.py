"""Pairs that programs make: mutated inputs, the accepted program of a task, and what it makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirror_task import mirror_task
from train_support import stage_context

from gridloom.compiler.graph import StageNode
from gridloom.errors import DataError
from gridloom.runtime.data.arc.canonical import trained_answers
from gridloom.runtime.data.arc.dataset import load_dataset
from gridloom.runtime.data.tasks import grid_bytes
from gridloom.solvers.search.mutations import MUTATIONS, mutate
from gridloom.solvers.stages.program_pairs import BuildPairs, accepted_programs, make_pairs
from gridloom.specs.data import ProgramsData
from gridloom.stores.artifacts import Artifact

MIRROR = "rows 1 * [input]\ncolumns 1 * [input]\nlayer all: input > turn 4\n"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), side=st.sampled_from((1, 2, 7, 30)), colours=st.sampled_from((1, 3, 10)))
def test_a_mutated_grid_is_a_legal_one(seed: int, side: int, colours: int) -> None:
    """Sides stay within 1 to 30, colours within those that are given."""
    source = np.random.default_rng(seed)
    first, other = (source.integers(0, colours, source.integers(1, side + 1, 2)).astype(np.uint8) for _ in range(2))
    known = set(np.unique(first)) | set(np.unique(other))
    for change in MUTATIONS:
        one = change(first, np.array(sorted(known), dtype=np.uint8), source)
        assert one.dtype == np.uint8
        assert 1 <= min(one.shape) <= max(one.shape) <= 30
    found = mutate(first, [other], source)
    assert 1 <= min(found.shape) <= max(found.shape) <= 30
    assert set(np.unique(found)) <= known
    assert found.flags.c_contiguous


def test_pairs_are_new_inputs_with_what_the_program_makes_of_them() -> None:
    """Every pair is a mirror, no input is one of the task or occurs twice, and the seed decides all."""
    task = mirror_task()
    pairs = make_pairs(MIRROR, task, 12, 5, 10)
    assert len(pairs) == 12
    inputs = [grid_bytes(pair.input) for pair in pairs]
    shown = {grid_bytes(grid) for grid in (*(pair.input for pair in task.demos), *task.tests)}
    assert len({*inputs, *shown}) == 12 + len(shown)
    for pair in pairs:
        assert np.array_equal(pair.output, pair.input[:, ::-1])
        assert not np.array_equal(pair.output, pair.input)
    again = make_pairs(MIRROR, task, 12, 5, 10)
    assert inputs == [grid_bytes(pair.input) for pair in again]
    assert inputs != [grid_bytes(pair.input) for pair in make_pairs(MIRROR, task, 12, 6, 10)]


def test_a_program_that_misses_a_demonstration_makes_no_pair() -> None:
    """What it answers is not the task's rule."""
    assert make_pairs(MIRROR.replace("turn 4", "turn 5"), mirror_task(), 4, 0, 10) == ()


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"verdict": "rejected"}, False),
        ({"fits": 1}, False),
        ({"rank": 1}, False),
        ({"program": None}, False),
    ],
)
def test_only_first_programs_of_accepted_attempts_make_pairs(change: dict[str, object], kept: bool) -> None:
    """Attempts are read as solve stages write them."""
    one = {"rank": 0, "program": MIRROR, "fits": 2, "shown": 2}
    candidate = {key: change.get(key, value) for key, value in one.items()}
    line = {"task_id": "t", "verdict": change.get("verdict", "accepted"), "candidates": [candidate]}
    assert accepted_programs([line]) == ({"t": MIRROR} if kept else {})


def written(root: Path, verdict: str) -> tuple[StageNode, Artifact]:
    """Return the node of a dataset of programs over one task file, and attempts with the mirror's program."""
    task = mirror_task("flip")
    pairs = [{"input": pair.input.tolist(), "output": pair.output.tolist()} for pair in task.demos]
    tests = [{"input": task.tests[0].tolist(), "output": task.tests[0][:, ::-1].tolist()}]
    (root / "flip.json").write_text(json.dumps({"train": pairs, "test": tests}))
    one = {"rank": 0, "program": MIRROR, "fits": 3, "shown": 3}
    (root / "attempts.jsonl").write_text(
        json.dumps({"task_id": "flip", "verdict": verdict, "candidates": [one]}) + "\n"
    )
    spec = ProgramsData(
        attempts="search", pairs=5, source="flip.json", subsets=("tasks",), holdout=("tasks",), canvas="auto"
    )
    node = StageNode(
        name="made",
        kind="programs",
        version=1,
        produces="dataset",
        spec=spec.model_dump(mode="json"),
        inputs={"attempts": "search"},
    )
    return node, Artifact("gl1:attempts", "attempts", root, {})


def test_a_dataset_of_programs_has_their_pairs_behind_the_demonstrations(tmp_path: Path) -> None:
    """Training reads them; the checkpoint is not marked as one that learnt answers of test inputs."""
    node, attempts = written(tmp_path, "accepted")
    context = stage_context(tmp_path)
    BuildPairs().run(node, {"attempts": attempts}, context)
    (task,) = load_dataset(context.out).tasks
    assert len(task.demos) == 3 + 5
    assert all(np.array_equal(pair.output, pair.input[:, ::-1]) for pair in task.demos)
    assert task.known == ()
    assert len(task.train_pairs) == 8
    assert trained_answers([task]) == {}
    assert context.notes["made_pairs"] == 5
    context.ledger.close()


def test_a_dataset_of_programs_may_have_packed_rows(tmp_path: Path) -> None:
    """Training lays its rows out as the spec says."""
    node, attempts = written(tmp_path, "accepted")
    context = stage_context(tmp_path)
    packed = node.model_copy(update={"spec": {**node.spec, "rows": "packed"}})
    BuildPairs().run(packed, {"attempts": attempts}, context)
    assert load_dataset(context.out).packed
    context.ledger.close()


def test_a_dataset_without_an_accepted_program_is_refused(tmp_path: Path) -> None:
    """It would be the plain dataset, in silence."""
    node, attempts = written(tmp_path, "rejected")
    context = stage_context(tmp_path)
    with pytest.raises(DataError, match="0 of 1 tasks have an accepted one"):
        BuildPairs().run(node, {"attempts": attempts}, context)
    context.ledger.close()
