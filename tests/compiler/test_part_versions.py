"""Versions of a network's parts in the keys of the stages that make it."""

from __future__ import annotations

import pytest
from compiler_support import FACTS

from gridloom.compiler.compile import compile_text
from gridloom.compiler.graph import StageNode

SPEC = """
gridloom: 1
name: parts
data: {recall: {kind: recall}}
models:
  net: {kind: engine, hidden_size: 32, num_heads: 2, layers: 1, puzzle_embedding_len: 0%s}
stages:
  learn: {kind: train, model: net, data: recall, steps: 2, batch_size: 4}
  judge: {kind: evaluate, with: learn, data: recall}
"""


def node(part: str, stage: str) -> StageNode:
    compiled = compile_text(SPEC % part, facts=FACTS)
    assert compiled.graph is not None, compiled.diagnostics
    return compiled.graph.node(stage)


@pytest.mark.parametrize(
    ("part", "facts"),
    [("", {}), (", memory: null", {}), (", memory: {}", {"parts": {"memory": 2}}), (", planning: {}", {})],
)
def test_the_key_of_a_training_covers_the_versions_of_the_parts_that_are_on(
    part: str, facts: dict[str, object]
) -> None:
    """Weights that start otherwise are another result; networks without such a part keep their keys."""
    assert node(part, "learn").facts == facts
    assert node(part, "judge").facts == {}
