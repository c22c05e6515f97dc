"""Training on a GPU: what the CPU computes but for rounding, without waits, compiled, resumed, and out of memory."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gpu_device import DEVICE, IS_GPU
from joint_support import joint_node, run_joint, save_tiny
from torch import Tensor
from train_support import MODEL, STAGE, StopAfter, dataset_artifact, stage_context, toy_dataset, train_node

from gridloom.errors import StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.execution.out_of_memory import memory_advice
from gridloom.runtime.machine.memory import MemoryMeter
from gridloom.runtime.models.recursive.build import build_network, views_for
from gridloom.runtime.models.recursive.inference import trace
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.spec import (
    HrmModel,
    TransformerModel,
    TrmHier6Model,
    TrmModel,
    TrmSingleZModel,
)
from gridloom.runtime.training.joint.train import JointTrain
from gridloom.runtime.training.loop import ActTrainer
from gridloom.runtime.training.train import Train
from gridloom.specs.stages import AdamAtan2, DepthPhase, Muon, TrainStage
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

pytestmark = pytest.mark.gpu

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_heads": 4,
    "layers": 2,
    "H_cycles": 2,
    "L_cycles": 2,
    "expansion": 2.0,
    "halt_max_steps": 3,
}
NETWORKS = {
    "trm": TrmModel(**SIZES, puzzle_embedding_len=2),
    "mlp": TrmModel(**SIZES, puzzle_embedding_len=2, mixing="mlp"),
    "task_view": TrmModel(**SIZES, positions="rope_2d", puzzle_embedding="task_view", puzzle_embedding_len=11),
    "trm_singlez": TrmSingleZModel(**SIZES, puzzle_embedding_len=2),
    "trm_hier6": TrmHier6Model(**SIZES, puzzle_embedding_len=2),
    "hrm": HrmModel(**SIZES),
    "transformer": TransformerModel(**{**SIZES, "H_cycles": 1, "L_cycles": 0}),
}


def network(name: str, precision: str, device: str) -> RecursiveNetwork:
    spec = NETWORKS[name].model_copy(update={"precision": precision})
    ids = PuzzleIds(Sampler(toy_dataset(), 0).views.names)
    made = build_network(
        spec, 4, len(ids), task_of=ids.task_of, views=views_for(spec, ids), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        made.q_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    return made.to(device)


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_answer_what_they_do_on_a_cpu(name: str, precision: str) -> None:
    tokens = torch.randint(1, 12, (5, 16), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    ids = torch.tensor([1, 2, 2, 3, 0])
    found: dict[str, list[Tensor]] = {"cpu": [], "device": []}
    for place, device in (("cpu", "cpu"), ("device", DEVICE)):
        made = network(name, precision, device).eval()
        carry = made.initial_carry(5)
        for _ in range(3):
            carry, output = made.act_step(carry, tokens.to(device), ids.to(device))
            found[place] += [output.logits.float().cpu(), output.q_halt.float().cpu()]
    for ours, theirs in zip(found["device"], found["cpu"], strict=True):
        assert float(theirs.abs().max()) > 0.1, "something was computed"
        torch.testing.assert_close(ours, theirs, atol=1e-3 if precision == "fp32" else 0.15, rtol=0)


def losses(name: str, device: str, steps: int = 8, **changes: Any) -> tuple[list[float], ActTrainer]:
    stage: TrainStage = STAGE.model_copy(update={"steps": steps, "accumulate": 2, "clip_norm": 1.0, **changes})
    sampler = Sampler(toy_dataset(), 0)
    trainer, found = ActTrainer(network(name, "fp32", device), stage, seed=3), []
    for step in range(steps):
        trainer.step(sampler.batch(step, stage.batch_size))
        found.append(trainer.means()["loss"])
    return found, trainer


@pytest.mark.parametrize("optimizer", [AdamAtan2(lr=1e-3), Muon(lr=1e-3)], ids=["adam_atan2", "muon"])
@pytest.mark.parametrize("name", ["trm", "task_view", "hrm"])
def test_training_loses_what_it_does_on_a_cpu(name: str, optimizer: AdamAtan2 | Muon) -> None:
    here, _ = losses(name, "cpu", optimizer=optimizer)
    there, _ = losses(name, DEVICE, optimizer=optimizer)
    assert here[-1] != here[0]
    assert there == pytest.approx(here, rel=5e-3)


@pytest.mark.parametrize("optimizer", [AdamAtan2(), Muon()], ids=["adam_atan2", "muon"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_host_never_waits_within_a_step(name: str, optimizer: AdamAtan2 | Muon) -> None:
    _, trainer = losses(name, DEVICE, steps=2, optimizer=optimizer)
    batches = [Sampler(toy_dataset(), 0).batch(step, STAGE.batch_size) for step in range(2, 5)]
    if IS_GPU:
        torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            trainer.step(batch)
    finally:
        if IS_GPU:
            torch.cuda.set_sync_debug_mode("default")
    assert trainer.num_steps == 5


def test_a_restored_training_goes_on_as_the_unbroken_one() -> None:
    whole, trainer = losses("trm", DEVICE)
    sampler = Sampler(toy_dataset(), 0)
    _, first = losses("trm", DEVICE, steps=4)
    state = first.state()
    again = ActTrainer(network("trm", "fp32", DEVICE), trainer.spec, seed=99)
    again.restore(state)
    found = []
    for step in range(4, 8):
        again.step(sampler.batch(step, STAGE.batch_size))
        found.append(again.means()["loss"])
    assert found == pytest.approx(whole[4:], rel=1e-4)


def run(root: Path, stop: Any = None, model: TrmModel = MODEL, **changes: Any) -> tuple[list[float], list[str]]:
    context = replace(stage_context(root, stop), device=DEVICE)
    stage = STAGE.model_copy(update={"steps": 6, **changes})
    try:
        Train().run(train_node(stage, model), {"data": dataset_artifact(root)}, context)
    finally:
        context.ledger.close()
    rows = Ledger(Workspace(root / "home")).rows("select value from metrics where name = 'loss' order by step")
    return [row["value"] for row in rows], context.progress.lines  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("how", ["on", "graphs"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_compiled_loop_trains_alike_in_every_depth(tmp_path: Path, precision: str, how: str) -> None:
    torch._dynamo.reset()
    model = MODEL.model_copy(update={"precision": precision, "hidden_size": 64, "L_cycles": 2})
    phases = (DepthPhase(share=0.5, act_steps=1, L_cycles=1),)
    plain, _ = run(tmp_path / "plain", model=model, compile="off", depth=phases, accumulate=2)
    found, said = run(tmp_path / "compiled", model=model, compile=how, depth=phases, accumulate=2)
    assert not [line for line in said if "compile" in line]
    assert found == pytest.approx(plain, rel=1e-3 if precision == "fp32" else 5e-2)


def test_a_stage_stops_resumes_and_publishes_what_a_cpu_reads(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", checkpoint_every=2)
    with pytest.raises(StageInterrupted):
        run(tmp_path / "cut", stop=StopAfter(2), checkpoint_every=2)
    found, said = run(tmp_path / "cut", checkpoint_every=2)
    assert any("resuming at step 3" in line for line in said)
    assert found == pytest.approx(whole, rel=1e-4)
    published = load_bundle(tmp_path / "cut" / "out")
    answer = trace(published.network, torch.ones(1, 16, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    assert answer.tokens.shape == (1, 16)


def test_a_joint_stage_trains_through_the_language_model(tmp_path: Path) -> None:
    save_tiny(tmp_path / "cpu" / "tiny")
    here = run_joint(tmp_path / "cpu")
    save_tiny(tmp_path / "device" / "tiny")
    context = replace(stage_context(tmp_path / "device"), device=DEVICE)
    try:
        JointTrain().run(joint_node(), {"data": dataset_artifact(tmp_path / "device")}, context)
    finally:
        context.ledger.close()
    rows = Ledger(Workspace(tmp_path / "device" / "home")).rows("select step, name, value from metrics")
    there = {(row["step"], row["name"]): row["value"] for row in rows}
    steps = [key for key in here if key[1] == "loss"]
    assert steps
    assert [there[key] for key in steps] == pytest.approx([here[key] for key in steps], rel=2e-2)


@pytest.mark.skipif(not IS_GPU, reason="limits the memory of a GPU")
def test_a_batch_that_does_not_fit_is_told_what_does(tmp_path: Path) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01, DEVICE)
    node = train_node(STAGE.model_copy(update={"batch_size": 65536}))
    try:
        with (
            pytest.raises(StageError, match=r"out of memory with batch_size 65536.*\n.*set accumulate: "),
            memory_advice(node, DEVICE),
        ):
            run(tmp_path, batch_size=65536, model=MODEL.model_copy(update={"hidden_size": 512}), compile="off")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, DEVICE)
        gc.collect()
        torch.cuda.empty_cache()


def test_the_meter_sees_what_a_stage_takes() -> None:
    meter = MemoryMeter(DEVICE)
    taken = torch.ones(64 << 20, dtype=torch.uint8, device=DEVICE)
    grown = meter.grown()
    assert grown is not None
    assert 64 << 20 <= grown < 80 << 20
    assert int(taken[0]) == 1
    assert np.isfinite(float(taken.float().mean()))
