"""The joint stage: learns, resumes bit for bit, stops when asked, publishes adapters without the language model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from joint_support import BACK, BRIDGE, LLAMA, STAGE, kept_states, run_joint
from safetensors.torch import load_file
from tiny_language_model import WIDTH, save_tiny
from train_support import MODEL, StopAfter, dataset_artifact, stage_context, toy_dataset, train_node

from gridloom.errors import GridloomError, ModelError, StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_bundle, save_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import Lora
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.spec import TrmHybridModel, TrmSingleZModel
from gridloom.runtime.training.joint import reader as joint_reader
from gridloom.runtime.training.joint.metrics import METRICS
from gridloom.runtime.training.state import saved_steps
from gridloom.runtime.training.train import Train
from gridloom.specs.stages import AdamW, Curriculum
from gridloom.stores.artifacts import Artifact


def test_joint_training_lowers_the_loss_and_logs_every_metric(tmp_path: Path) -> None:
    logged = run_joint(
        tmp_path, steps=18, batch_size=6, optimizer=AdamW(lr=5e-3, weight_decay=0.0), log_every=6, checkpoint_every=18
    )
    assert logged[18, "loss"] < 0.85 * logged[6, "loss"]
    assert {name for _, name in logged if not name.startswith("epoch")} == set(METRICS)
    assert {step for step, name in logged if name in METRICS} == {6, 12, 18}


def test_every_figure_is_logged_by_step_and_by_epoch_and_an_epoch_is_the_mean_of_its_steps(tmp_path: Path) -> None:
    logged = run_joint(
        tmp_path, steps=5, batch_size=3, llama=LLAMA.model_copy(update={"state": "mean_new"}), max_new_tokens=2
    )
    seven = {
        "loss",
        "exact_match",
        "shape_match",
        "cell_accuracy",
        "avg_attempts",
        "avg_trm_steps",
        "avg_reasoning_length",
    }
    assert seven <= {name for step, name in logged if step == 1}
    assert {step: logged[step, "epoch"] for step, name in logged if name == "epoch"} == {2: 1.0, 4: 2.0}
    for name in METRICS:
        steps = [logged[step, name] for step in (3, 4)]
        assert logged[4, f"epoch_{name}"] == pytest.approx(sum(steps) / 2), name


def test_bundle_holds_adapters_and_the_llamas_name_but_not_its_weights(tmp_path: Path) -> None:
    run_joint(tmp_path)
    bundle = load_bundle(tmp_path / "out")
    assert bundle.llm_spec == LLAMA
    assert bundle.part("text_to_latent") is not None
    assert bundle.part("latent_to_text") is not None
    assert bundle.meta["attempts"] == 2
    own = set(load_file(tmp_path / "tiny" / "model.safetensors"))
    for file in (tmp_path / "out").glob("*.safetensors"):
        assert not own & set(load_file(file))
    hidden = torch.randn(1, WIDTH)
    made = bundle.part("text_to_latent")(hidden, bundle.network)
    assert not torch.equal(made.z_H, bundle.network.H_init.float().expand_as(made.z_H))


def test_stopped_run_continues_bit_for_bit(tmp_path: Path) -> None:
    whole = run_joint(tmp_path / "whole", log_every=2)
    with pytest.raises(StageInterrupted, match=r"at step \d of 6, saved") as error:
        run_joint(tmp_path / "parts", stop=StopAfter(10), log_every=2)
    assert error.value.exit_code == 75
    assert 0 < saved_steps(tmp_path / "parts" / "work")[-1] < 6
    assert run_joint(tmp_path / "parts", log_every=2) == whole
    one, other = (load_bundle(tmp_path / name / "out") for name in ("whole", "parts"))
    for name in (NETWORK, "text_to_latent", "latent_to_text"):
        for key, tensor in one.parts[name].state_dict().items():
            assert torch.equal(tensor, other.parts[name].state_dict()[key]), f"{name}.{key}"


def test_stop_while_prompts_are_read_keeps_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageInterrupted, match="while the LLaMA read its prompts"):
        run_joint(tmp_path, stop=StopAfter(3))
    assert len(kept_states(tmp_path)) == 3
    read: list[Any] = []
    read_first = joint_reader.JointReader._read_first

    def counted(self: Any, key: Any) -> None:
        read.append(key)
        read_first(self, key)

    monkeypatch.setattr(joint_reader.JointReader, "_read_first", counted)
    run_joint(tmp_path)
    assert len(read) == 3
    assert len(kept_states(tmp_path)) == 6


def test_damaged_states_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageInterrupted):
        run_joint(tmp_path, stop=StopAfter(2))
    for file in kept_states(tmp_path):
        Path(file).write_bytes(b"half")
    with pytest.raises(StageError, match=r"state in .*safetensors is damaged") as error:
        run_joint(tmp_path)
    assert "delete the file" in error.value.remedy


def test_training_starts_from_the_checkpoint_of_a_train_stage(tmp_path: Path) -> None:
    context = stage_context(tmp_path / "pretrain")
    Train().run(train_node(), {"data": dataset_artifact(tmp_path)}, context)
    context.ledger.close()
    checkpoint = Artifact("gl1:train", "checkpoint", tmp_path / "pretrain" / "out", {})
    before = load_bundle(checkpoint.path).network
    run_joint(
        tmp_path / "joint",
        inputs={"trm": checkpoint},
        steps=1,
        warmup_steps=0,
        optimizer=AdamW(lr=1e-9, weight_decay=0.0),
        embedding_lr=0.0,
    )
    after = load_bundle(tmp_path / "joint" / "out").network
    for name, tensor in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], tensor, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        (("back",), "names 0 text_to_latent and 1 latent_to_text"),
        (("bridge", "bridge"), "names 2 text_to_latent"),
    ],
)
def test_wrong_sets_of_adapters_are_refused(tmp_path: Path, adapters: tuple[str, ...], message: str) -> None:
    with pytest.raises(StageError, match=message):
        run_joint(tmp_path, adapters=adapters)


def test_zinit_hybrid_trains_in_one_pass_on_colours(tmp_path: Path) -> None:
    spec = TrmHybridModel(hidden_size=32, num_heads=2, layers=1, puzzle_embedding_len=1, precision="fp32")
    assert (spec.H_cycles, spec.L_cycles, spec.halt_max_steps) == (2, 1, 1)
    bridge = BRIDGE.model_copy(update={"mode": "injection", "projection": "linear"})
    logged = run_joint(
        tmp_path,
        trm=spec,
        bridge=bridge,
        adapters=("bridge",),
        attempts=1,
        targets="colours",
        steps=12,
        lr_min_ratio=0.1,
        optimizer=AdamW(lr=5e-3, weight_decay=0.0),
    )
    assert logged[12, "loss"] < logged[1, "loss"]
    assert logged[12, "avg_trm_steps"] == 1.0
    bundle = load_bundle(tmp_path / "out")
    assert bundle.network.spec == spec
    assert bundle.part("text_to_latent") is not None
    assert bool(bundle.part("text_to_latent").out.weight.any())  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["injection", "cross_attention"])
def test_the_hybrids_later_options_go_together_and_resume(tmp_path: Path, mode: Any) -> None:
    """Several ACT steps with halting, the whole sequence, small grids first, views of each task."""
    spec = TrmHybridModel(
        hidden_size=32, num_heads=2, layers=1, puzzle_embedding_len=1, precision="fp32", halt_max_steps=3
    )
    bridge = BRIDGE.model_copy(update={"mode": mode, "attention_heads": 2, "sequence_tokens": 12})
    options: dict[str, Any] = {
        "trm": spec,
        "bridge": bridge,
        "steps": 4,
        "targets": "colours",
        "attempts": 1,
        "adapters": ("bridge",),
        "curriculum": Curriculum(first_side=2, steps=3),
    }
    whole = run_joint(tmp_path / "whole", **options)
    assert 1 <= whole[4, "avg_trm_steps"] <= 3
    with pytest.raises(StageInterrupted, match="at step"):
        run_joint(tmp_path / "parts", stop=StopAfter(8), **options)
    assert run_joint(tmp_path / "parts", **options) == whole


def test_checkpoint_without_two_states_is_refused(tmp_path: Path) -> None:
    data = toy_dataset()
    ids = PuzzleIds(Sampler(data, 3).views.names)
    spec = TrmSingleZModel(**MODEL.model_dump(exclude={"kind"}))
    save_bundle(
        tmp_path / "single", Bundle({NETWORK: build_network(spec, data.canvas, len(ids), task_of=ids.task_of)}, ids)
    )
    checkpoint = Artifact("gl1:train", "checkpoint", tmp_path / "single", {})
    with pytest.raises(StageError, match="holds a trm_singlez, whose carry is not z_H and z_L"):
        run_joint(tmp_path, inputs={"trm": checkpoint})


def test_without_a_way_back_retries_get_text_alone(tmp_path: Path) -> None:
    logged = run_joint(tmp_path, adapters=("bridge",))
    bundle = load_bundle(tmp_path / "out")
    assert bundle.part("latent_to_text") is None
    assert logged[6, "avg_attempts"] == 2.0


def test_divergence_says_what_to_lower_and_where_it_resumes(tmp_path: Path) -> None:
    run_joint(tmp_path, steps=2)
    state = tmp_path / "work" / "state-00000002"
    assert json.loads((state / "state.json").read_text())["step"] == 2
    with pytest.raises(StageError, match="loss became NaN") as error:
        run_joint(tmp_path, steps=8, optimizer=AdamW(lr=1e30, weight_decay=0.01), clip_norm=None)
    assert "Lower optimizer.lr (now 1e+30)" in error.value.remedy
    assert "resumes at" in error.value.remedy


def test_missing_llama_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot load LLaMA './gone'") as error:
        run_joint(tmp_path, llama=LLAMA.model_copy(update={"weights": "./gone"}))
    assert isinstance(error.value, GridloomError)
    assert "weights:" in error.value.remedy


def test_only_pairs_that_the_remaining_steps_draw_are_read(tmp_path: Path) -> None:
    run_joint(tmp_path, steps=1, batch_size=2)
    assert len(kept_states(tmp_path)) <= 2


def test_token_states_are_kept_and_a_stopped_run_continues_bit_for_bit(tmp_path: Path) -> None:
    bridge = BRIDGE.model_copy(update={"mode": "cross_attention", "attention_heads": 2, "sequence_tokens": 40})
    whole = run_joint(tmp_path / "whole", bridge=bridge)
    with pytest.raises(StageInterrupted, match="at step"):
        run_joint(tmp_path / "parts", stop=StopAfter(10), bridge=bridge)
    assert run_joint(tmp_path / "parts", bridge=bridge) == whole
    assert {tuple(state.shape) for state in kept_states(tmp_path / "whole").values()} == {(40, WIDTH)}


LEARNING = LLAMA.model_copy(update={"lora": Lora(rank=2, dropout=0.1)})


def test_a_run_with_lora_learns_and_continues_bit_for_bit(tmp_path: Path) -> None:
    whole = run_joint(tmp_path / "whole", llama=LEARNING)
    with pytest.raises(StageInterrupted, match="at step"):
        run_joint(tmp_path / "parts", stop=StopAfter(10), llama=LEARNING)
    assert run_joint(tmp_path / "parts", llama=LEARNING) == whole
    one, other = (load_bundle(tmp_path / name / "out").lora for name in ("whole", "parts"))
    assert one is not None
    assert other is not None
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert any(bool(tensor.any()) for name, tensor in one.items() if ".lora_B." in name)
    kept = {path.name: path.stat().st_size for path in (tmp_path / "whole" / "out").iterdir()}
    assert kept["lora.safetensors"] < 20_000
    llama = Llama.load(LEARNING, base=tmp_path / "whole", lora=one)
    assert llama.lora is not None
    assert all(torch.equal(tensor, one[name]) for name, tensor in llama.lora.tensors().items())


def test_a_run_around_four_bit_weights_continues_bit_for_bit_and_names_them_in_its_bundle(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="4-bit weights need the extra gridloom[quant]")
    small = LEARNING.model_copy(update={"quantize": "nf4"})
    for name in ("whole", "parts"):
        save_tiny(tmp_path / name / "tiny", width=64, inner=128)
    whole = run_joint(tmp_path / "whole", llama=small)
    with pytest.raises(StageInterrupted, match="at step"):
        run_joint(tmp_path / "parts", stop=StopAfter(10), llama=small)
    assert run_joint(tmp_path / "parts", llama=small) == whole
    bundle = load_bundle(tmp_path / "whole" / "out")
    # so whoever solves with it loads what the adapters were trained with
    assert bundle.llm_spec == small
    assert bundle.lora is not None
    assert any(bool(tensor.any()) for name, tensor in bundle.lora.items() if ".lora_B." in name)


def test_states_of_four_bit_weights_are_not_those_of_whole_ones(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="4-bit weights need the extra gridloom[quant]")
    save_tiny(tmp_path / "tiny", width=64, inner=128)
    run_joint(tmp_path, steps=2, key="gl1:whole")
    kept = kept_states(tmp_path)
    shutil.rmtree(tmp_path / "work")
    run_joint(tmp_path, steps=2, key="gl1:small", llama=LLAMA.model_copy(update={"quantize": "nf4"}))
    assert len(kept_states(tmp_path)) == 2 * len(kept)


def test_bundle_that_lost_its_additions_is_refused(tmp_path: Path) -> None:
    run_joint(tmp_path, llama=LEARNING, steps=1)
    path = tmp_path / "out" / "bundle.json"
    description = json.loads(path.read_text())
    del description["parts"]["lora"]
    path.write_text(json.dumps(description))
    with pytest.raises(ModelError, match="names a language model with lora, and lacks the part lora"):
        load_bundle(tmp_path / "out")


def test_states_are_read_once_for_all_runs_of_the_same_weights_and_prompts(tmp_path: Path) -> None:
    """A longer run, other views, a larger batch find what another run read; other weights or prompts do not."""
    first = run_joint(tmp_path, steps=2, key="gl1:first")
    kept = kept_states(tmp_path)

    def reads(**changes: Any) -> int:
        before = len(kept_states(tmp_path))
        shutil.rmtree(tmp_path / "work")
        run_joint(tmp_path, **{"steps": 2, **changes})
        return len(kept_states(tmp_path)) - before

    assert len(kept) == 6
    assert reads(key="gl1:longer", steps=3, batch_size=2) == 0
    assert reads(key="gl1:lora", llama=LEARNING) == 0
    assert reads(key="gl1:weights", digest="sha256:other") == 6
    assert reads(key="gl1:format", llama=LLAMA.model_copy(update={"prompt_format": "plain"})) == 6
    assert reads(key="gl1:budget", llama=LLAMA.model_copy(update={"max_prompt_tokens": 200})) > 0
    assert reads(key="gl1:state", llama=LLAMA.model_copy(update={"state": "mean_new"}), max_new_tokens=2) == 6
    assert reads(key="gl1:one", attempts=1) == 0
    assert reads(key="gl1:no-latent", adapters=("bridge",)) == 6
    shutil.rmtree(tmp_path / "work")
    shutil.rmtree(tmp_path / "home")
    assert run_joint(tmp_path, steps=2, key="gl1:anew") == first


def test_variational_run_continues_bit_for_bit(tmp_path: Path) -> None:
    bridge = BRIDGE.model_copy(update={"variational": True})
    whole = run_joint(tmp_path / "whole", bridge=bridge)
    with pytest.raises(StageInterrupted, match="at step"):
        run_joint(tmp_path / "parts", stop=StopAfter(10), bridge=bridge)
    assert run_joint(tmp_path / "parts", bridge=bridge) == whole


def test_stage_and_adapters_of_the_miniature_are_valid_specs() -> None:
    for spec in (STAGE, BRIDGE, BACK, LLAMA):
        assert type(spec).model_validate_json(spec.model_dump_json()) == spec
