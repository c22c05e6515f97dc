"""Fit of checkpoints, puzzles and reports: what the examples of the codes do not show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from compiler_support import FACTS, SUDOKUS

from gridloom.compiler.compile import compile_spec
from gridloom.diagnostics import Diagnostic
from gridloom.errors import SpecError

TEXT = """gridloom: 1
name: puzzles
data: {sudokus: {kind: sudoku, size: 4}, mazes: {kind: maze, size: 7}, tasks: {kind: arc, source: ./tasks}}
models: {tiny: {kind: trm, hidden_size: 64, num_heads: 4}}
stages:
  learn: {kind: train, model: tiny, data: sudokus}
  judge: {kind: evaluate, with: learn, data: %s}
"""


def said(folder: Path, data: str) -> tuple[Diagnostic, ...]:
    (folder / "spec.yaml").write_text(TEXT % data)
    sets = {"maze": replace(SUDOKUS, canvas=7)}
    facts = replace(FACTS, datasets={**FACTS.datasets, **sets})
    try:
        return compile_spec(str(folder / "spec.yaml"), facts=facts).warnings
    except SpecError as error:
        return error.diagnostics


def test_evaluate_takes_puzzles_of_the_kind_it_was_trained_on(tmp_path: Path) -> None:
    assert said(tmp_path, "sudokus") == ()
    (other,) = said(tmp_path, "mazes")
    assert other.code == "GL343"
    assert "maze rows (49 tokens" in other.message
    assert "sudoku rows (16 tokens" in other.message


def test_evaluate_refuses_arc_tasks_for_a_network_of_sudokus(tmp_path: Path) -> None:
    codes = {one.code for one in said(tmp_path, "tasks")}
    assert "GL343" in codes


@pytest.mark.parametrize("name", ["learn", "tiny"])
def test_evaluate_takes_no_stage_or_model_as_data(tmp_path: Path, name: str) -> None:
    (wrong,) = said(tmp_path, name)
    assert "'data' takes a dataset" in wrong.message


MET = """gridloom: 1
name: puzzles
data: {one: {kind: sudoku, size: %d, apart: %s}, two: {kind: sudoku, size: %d, seed: %d, max_clues: 5}}
models: {tiny: {kind: trm, hidden_size: 64, num_heads: 4}}
stages:
  learn: {kind: train, model: tiny, data: one}
  longer: {kind: train, model: learn, data: one}
  judge: {kind: evaluate, with: longer, data: %s}
"""


@pytest.mark.parametrize(
    ("size", "apart", "seed", "data", "message"),
    [
        (4, "symmetry", 0, "one", None),
        (4, "cells", 0, "one", "training on 'one' can meet its own test puzzles"),
        (6, "cells", 0, "one", "training on 'one' can meet its own test puzzles"),
        (9, "cells", 0, "one", None),
        (9, "symmetry", 0, "two", "'judge' counts test puzzles of 'two', and training on 'one' can have met them"),
        (9, "symmetry", 1, "two", None),
        (4, "symmetry", 1, "two", "'judge' counts test puzzles of 'two'"),
    ],
)
def test_generated_test_puzzles_that_training_can_meet_are_warned_of(
    tmp_path: Path, size: int, apart: str, seed: int, data: str, message: str | None
) -> None:
    (tmp_path / "spec.yaml").write_text(MET % (size, apart, size, seed, data))
    warnings = compile_spec(str(tmp_path / "spec.yaml"), facts=FACTS).warnings
    assert {w.code for w in warnings} == ({"GL404"} if message else set())
    assert message is None or message in warnings[0].message
    # one warning for each set, however many stages train on it
    assert len(warnings) == (0 if message is None else 1)
