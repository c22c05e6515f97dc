"""Solve stages of a language model alone, and of a checkpoint whose verifier is calibrated."""

from __future__ import annotations

from dataclasses import replace

import pytest
from compiler_support import FACTS, LLAMA, TASKS

from gridloom.compiler.compile import compile_text
from gridloom.compiler.facts import PairKey, TaskKey
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
    with pytest.raises(SpecError, match="'trm' is a trm model, but 'with' takes a llama or endpoint model or a stage"):
        compiled(model="trm")


def test_endpoint_needs_no_facts_and_its_patience_is_in_no_key() -> None:
    model = "{kind: endpoint, url: 'http://127.0.0.1:8000/v1', model: small, timeout_s: %s}"
    text = TEXT.replace("{kind: llama, weights: %s, max_prompt_tokens: 1024}", model)
    first, second = (compile_text(text % (wait, "llama"), facts=FACTS).graph.node("solve") for wait in ("5", "60"))
    assert first.key == second.key
    assert first.models["llama"]["model"] == "small"
    with pytest.raises(SpecError, match="api_key_env"):
        compile_text(text.replace("timeout_s: %s", "api_key_env: sk-123") % "llama", facts=FACTS)


CALIBRATED = """gridloom: 1
name: calibrated
data:
  arc1: {kind: arc, source: ./all, subsets: [training, evaluation], holdout: [training, evaluation], canvas: auto,
         check_demos: 1}
models: {trm: {kind: trm, hidden_size: 64, num_heads: 4}}
stages:
  pretrain: {kind: train, model: trm, data: arc1}
  known: {kind: solve, with: pretrain, data: arc1, split: training}
  measure: {kind: calibrate, attempts: known}
  solve: {kind: solve, with: pretrain, data: arc1, split: evaluation, calibration: measure}
  score: {kind: score, attempts: solve}
"""
TASK_KEYS = (
    TaskKey("t1", "training", True, "one"),
    TaskKey("t2", "training", True, "two"),
    TaskKey("e1", "evaluation", True, "three"),
    TaskKey("e2", "evaluation", True, "four"),
)


def test_calibration_over_other_tasks_is_an_input_with_its_answers() -> None:
    facts = replace(FACTS, datasets={**FACTS.datasets, "./all": TASKS}, tasks={"./all": TASK_KEYS})
    graph = compile_text(CALIBRATED, facts=facts).graph
    assert graph.node("measure").inputs == {"attempts": "known", "data": "arc1", "answers": "arc1.answers"}
    assert graph.node("solve").inputs == {"with": "pretrain", "data": "arc1", "calibration": "measure"}
    assert "measure" not in graph.node("known").inputs.values()


def test_calibration_on_a_task_that_is_solved_is_refused_also_turned_or_recoloured() -> None:
    twin = (*TASK_KEYS[:3], TaskKey("e2", "evaluation", True, "one"))
    facts = replace(FACTS, datasets={**FACTS.datasets, "./all": TASKS}, tasks={"./all": twin})
    with pytest.raises(SpecError, match=r"GL405.*'solve' answers 1 task whose answers 'measure' reads"):
        compile_text(CALIBRATED, facts=facts)
    pair = PairKey("held", *(digit * 12 for digit in "12345"))
    shared = (replace(TASK_KEYS[0], pairs=(pair,)), replace(TASK_KEYS[2], pairs=(pair,)))
    with pytest.raises(SpecError, match=r"GL405.*'solve' answers 1 task whose answers 'measure' reads"):
        compile_text(CALIBRATED, facts=replace(facts, tasks={"./all": shared}))
    same = CALIBRATED.replace("split: evaluation, ", "")
    facts = replace(facts, tasks={"./all": TASK_KEYS})
    with pytest.raises(SpecError, match=r"'solve' answers 2 tasks whose answers 'measure' reads"):
        compile_text(same, facts=facts)


def test_lora_of_a_model_that_solves_alone_is_warned_about_with_the_stage_that_trains_it() -> None:
    text = TEXT.replace("max_prompt_tokens: 1024}", "max_prompt_tokens: 1024, lora: {rank: 4}}") % (
        "smollm2-135m",
        "llama",
    )
    (alone,) = compile_text(text, facts=FACTS).warnings
    assert (alone.code, alone.severity) == ("GL315", "warning")
    assert "the model's own weights answer" in alone.message
    assert alone.hint is not None
    assert alone.hint.startswith("leave lora out of the model")
    joint = text.replace(
        "stages:\n",
        """  bridge: {kind: text_to_latent, llm: llama, trm: trm}
stages:
  pretrain: {kind: train, model: trm, data: arc1, steps: 5}
  joint: {kind: joint_train, trm: pretrain, llm: llama, adapters: [bridge], data: arc1, steps: 5}
""",
    )
    (beside,) = compile_text(joint, facts=FACTS).warnings
    assert beside.hint is not None
    assert beside.hint.startswith("with: joint  solves with what that stage trained")
