"""Ensembles and seeds of their own in the compiler: keys, edges, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from compiler_support import FACTS, SUDOKUS, TASKS

from gridloom.compiler.compile import Compiled, compile_spec
from gridloom.compiler.facts import TaskKey
from gridloom.errors import SpecError

TEXT = """gridloom: 1
name: several
seed: 7
data:
  tasks: {kind: arc, source: ./tasks, subsets: [training], holdout: [training], canvas: 11}
  wide: {kind: arc, source: ./tasks, subsets: [training], holdout: [training], canvas: 12}
  fewer: {kind: arc, source: ./fewer, subsets: [training], holdout: [training], canvas: 11}
  sudokus: {kind: sudoku, size: 4}
models:
  tiny: {kind: trm, hidden_size: 64, num_heads: 4}
  hybrid: {kind: trm_hybrid, hidden_size: 64, num_heads: 4}
stages:
  one: {kind: train, model: tiny, data: tasks}
  two: {kind: train, model: tiny, data: tasks, seed: 1}
  three: {kind: train, model: hybrid, data: tasks}
%s
"""
JUDGE = "  judge: {kind: evaluate, with: one, data: tasks%s}"
MEMBER = "  %s\n  judge: {kind: evaluate, with: one, data: tasks, ensemble: [two, more]}"
SETS = replace(
    FACTS, datasets={**FACTS.datasets, "sudoku": SUDOKUS, "./fewer": replace(TASKS, digest="fewer", task_ids=("t1",))}
)


def compiled(folder: Path, stages: str) -> Compiled:
    (folder / "spec.yaml").write_text(TEXT % stages)
    return compile_spec(str(folder / "spec.yaml"), facts=SETS)


def test_absent_ensemble_and_seed_are_in_no_key(tmp_path: Path) -> None:
    plain = compiled(tmp_path, JUDGE % "").graph
    written = compiled(tmp_path, JUDGE % ", ensemble: []").graph
    assert plain.node("judge").key == written.node("judge").key
    # as it was before there were ensembles and seeds of stages
    assert plain.node("one").key == "gl1:e5e6d38e71266a5ba57646ac981063ab"
    assert plain.node("judge.votes").key == "gl1:a1446221d12993fb21e1861c1ac2608b"


def test_own_seed_is_the_nodes_and_in_its_key_once(tmp_path: Path) -> None:
    graph = compiled(tmp_path, "  same: {kind: train, model: tiny, data: tasks, seed: 7}").graph
    assert [graph.node(name).seed for name in ("one", "two", "same")] == [7, 1, 7]
    assert graph.node("same").key == graph.node("one").key
    assert graph.node("two").key != graph.node("one").key


def test_every_member_is_an_input_of_the_votes_and_their_order_counts(tmp_path: Path) -> None:
    graph = compiled(tmp_path, JUDGE % ", ensemble: [two, three]").graph
    votes = graph.node("judge.votes")
    assert votes.inputs == {"with": "one", "data": "tasks", "ensemble.0": "two", "ensemble.1": "three"}
    assert graph.node("judge").inputs == {"votes": "judge.votes", "answers": "tasks.answers"}
    assert votes.cost is not None
    alone = compiled(tmp_path, JUDGE % "").graph.node("judge.votes")
    assert alone.cost is not None
    assert votes.cost.num_steps == 3 * alone.cost.num_steps
    other = compiled(tmp_path, JUDGE % ", ensemble: [three, two]").graph.node("judge.votes")
    assert len({votes.key, other.key, alone.key}) == 3


@pytest.mark.parametrize(
    ("stages", "code", "says", "hint"),
    [
        (
            "  more: {kind: train, model: tiny, data: tasks}",
            "GL348",
            "'more' makes the same as 'one'",
            "give 'more' a seed of its own",
        ),
        ("  more: {kind: train, model: tiny, data: wide}", "GL341", "'more' was trained on 12", ""),
        ("  more: {kind: train, model: tiny, data: fewer}", "GL342", "2 of 3 tasks", ""),
        ("  more: {kind: train, model: tiny, data: sudokus}", "GL343", "gives 'more' arc rows", ""),
        ("  more: {kind: solve, with: one, data: tasks}", "GL206", "'more' is a solve stage", "one, two"),
    ],
)
def test_member_that_does_not_fit_is_refused_where_it_is_named(
    tmp_path: Path, stages: str, code: str, says: str, hint: str
) -> None:
    with pytest.raises(SpecError) as told:
        compiled(tmp_path, MEMBER % stages.strip())
    (problem,) = (one for one in told.value.diagnostics if one.severity == "error")
    assert problem.code == code
    assert says in problem.message
    assert hint in problem.hint
    assert problem.span is not None
    assert problem.span.line == 17


def test_member_that_saw_the_answers_is_refused(tmp_path: Path) -> None:
    text = (
        "  more: {kind: train, model: tiny, data: open}\n"
        "  judge: {kind: evaluate, with: one, data: tasks, ensemble: [more]}"
    )
    opened = "  open: {kind: arc, source: ./tasks, subsets: [training], canvas: 11}\n  sudokus:"
    (tmp_path / "spec.yaml").write_text(TEXT.replace("  sudokus:", opened) % text)
    keys = (TaskKey("t1", "training", False, "one"),)
    with pytest.raises(SpecError) as told:
        compile_spec(str(tmp_path / "spec.yaml"), facts=replace(SETS, tasks={"./tasks": keys}))
    assert [one.code for one in told.value.diagnostics] == ["GL401"]
