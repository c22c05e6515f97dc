"""Specs whose solve stage names a language model in place of a checkpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compiler_support import FACTS, LLAMA, TASKS

from gridloom.compiler import compile_text
from gridloom.compiler.graph import RunGraph
from gridloom.errors import SpecError

TEXT = """gridloom: 1
name: alone
data: {arc1: {kind: arc, source: ./tasks, subsets: [training], holdout: [training], canvas: auto}}
models:
  llama: {kind: llama, weights: %s, max_prompt_tokens: 1024}
  trm: {kind: trm, hidden_size: 64, num_heads: 4}
stages:
  solve: {kind: solve, with: %s, data: arc1, solver: {reason: {max_new_tokens: 96}}}
  score: {kind: score, attempts: solve}
"""


def compiled(weights: str = "smollm2-135m", model: str = "llama", **changed: object) -> RunGraph:
    facts = replace(FACTS, **changed)  # type: ignore[arg-type]
    result = compile_text(TEXT % (weights, model), facts=facts)
    assert result.warnings == ()
    return result.graph


def test_language_model_stands_in_the_node_and_in_its_key() -> None:
    node = compiled().node("solve")
    assert node.inputs == {"data": "arc1"}
    assert list(node.models) == ["llama"]
    assert node.cost is not None
    assert (node.cost.parameters, set(node.cost.flops)) == (0, {"fp32 prompt", "fp32 token"})
    other = compiled("./llama", llamas={**FACTS.llamas, "./llama": replace(LLAMA, digest="other")}).node("solve")
    assert other.key != node.key
    assert compiled().node("solve").key == node.key


def test_key_of_a_solve_without_checkpoint_does_not_depend_on_answers() -> None:
    changed = {**FACTS.datasets, "./tasks": replace(TASKS, answers_digest="noise")}
    assert compiled(datasets=changed).node("solve").key == compiled().node("solve").key
    assert compiled(datasets=changed).node("score").key != compiled().node("score").key


def test_text_longer_than_the_context_is_refused_without_a_joint_stage() -> None:
    with pytest.raises(SpecError, match="'solve' needs 1120 positions of 'llama', which has 1000"):
        compiled(llamas={"smollm2-135m": replace(LLAMA, max_positions=1000)})


def test_network_cannot_stand_in_for_its_checkpoint() -> None:
    with pytest.raises(SpecError, match="'trm' is a trm model, but 'with' takes a llama model or a stage that makes"):
        compiled(model="trm")
