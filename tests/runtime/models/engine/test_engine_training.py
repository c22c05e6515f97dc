"""Engine under the trainer: states resume bit for bit, micro-batches, averages, a run from a spec with every part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_support import EVERYTHING, engine

from gridloom.errors import ModelError
from gridloom.runtime.data.sequences.tokens import TokenRows
from gridloom.runtime.models.engine.network import Engine
from gridloom.runtime.training.loop import ActTrainer
from gridloom.specs.stages import AdamW, TrainStage

Run = Callable[..., str]


def stage(**fields: object) -> TrainStage:
    values = {"model": "net", "data": "toy", "steps": 20, "batch_size": 6, "warmup_steps": 0, "ema": 0.9, **fields}
    return TrainStage(optimizer=AdamW(lr=1e-3), **values)  # type: ignore[arg-type]


def batch(step: int) -> TokenRows:
    rng = np.random.default_rng(step)
    inputs = rng.integers(2, 8, (6, 16), dtype=np.uint8)
    zeros = np.zeros(6, dtype=np.int32)
    return TokenRows(inputs, np.ascontiguousarray(inputs[:, ::-1]), zeros, zeros)


def everything(seed: int = 0) -> Engine:
    return engine(seed=seed, **EVERYTHING)


def test_training_resumes_bit_for_bit_with_every_part() -> None:
    whole = ActTrainer(everything(), stage(), seed=3)
    for step in range(8):
        whole.step(batch(step))
    first = ActTrainer(everything(), stage(), seed=3)
    for step in range(5):
        first.step(batch(step))
    state = first.state()
    second = ActTrainer(everything(seed=7), stage(), seed=99)
    second.restore(state)
    for step in range(5, 8):
        second.step(batch(step))
    one, other = whole.state().tensors, second.state().tensors
    assert one.keys() == other.keys()
    assert [name for name, tensor in one.items() if not torch.equal(tensor, other[name])] == []
    assert whole.means() == second.means()


def test_figures_of_parts_that_are_off_are_absent() -> None:
    plain = ActTrainer(engine(), stage(), seed=0)
    for step in range(3):
        plain.step(batch(step))
    assert set(plain.means()) == {
        "loss", "lm_loss", "q_halt_loss", "exact_match", "cell_accuracy", "q_halt_accuracy", "act_steps", "grad_norm"
    }  # fmt: skip
    full = ActTrainer(everything(), stage(), seed=0)
    for step in range(3):
        full.step(batch(step))
    means = full.means()
    for name in ("planning_gate", "memory_fill", "draft_accuracy", "code_perplexity", "replay_size", "checksum_loss"):
        assert name in means, name


@pytest.mark.parametrize("parts", [{}, {"planning": {"path_dropout": 0.0}}, {"decoder": {}, "multi_token": {}}])
def test_micro_batches_give_the_gradients_of_the_whole_batch(parts: dict[str, object]) -> None:
    whole, split = (ActTrainer(engine(**parts), stage(accumulate=n, ema=0.0), seed=0) for n in (1, 3))
    for trainer in (whole, split):
        trainer.step(batch(0))
    for (name, one), other in zip(whole.model.named_parameters(), split.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-4), name
    means = whole.means(), split.means()
    assert means[0]["loss"] == pytest.approx(means[1]["loss"], rel=1e-3)


def test_several_processes_are_refused_where_a_part_keeps_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    ActTrainer(engine(planning={}), stage(), seed=0).step(batch(0))
    with pytest.raises(ModelError, match="an engine with memory is trained by one process"):
        ActTrainer(engine(memory={"heads": 4}), stage(), seed=0).step(batch(0))


def test_bf16_runs_with_every_part() -> None:
    network = engine(**{**EVERYTHING, "precision": "bf16"})
    trainer = ActTrainer(network, stage(), seed=0)
    for step in range(3):
        trainer.step(batch(step))
    assert trainer.is_finite()
    network.eval().freeze_rounded()
    from gridloom.runtime.models.steps import Rows

    rows = torch.from_numpy(batch(9).inputs)
    assert network.decode(Rows(rows, torch.zeros(6, dtype=torch.int64)), most=2).shape == (6, 16)


SPEC = """\
gridloom: 1
name: small
device: cpu
data:
  puzzles: {kind: sudoku, size: 4, train: 50, test: 8, shuffle: false}
models:
  net:
    kind: engine
    hidden_size: 32
    num_heads: 4
    num_key_value_heads: 2
    layers: 1
    H_cycles: 2
    L_cycles: 1
    expansion: 1.0
    puzzle_embedding_len: 0
    halt_max_steps: 2
    precision: fp32
    gradient_checkpointing: true
    unified: true
    deep_supervision: {}
    vision: {image: 32, patch: 8, layers: 1, L_cycles: 1}
    capsules: {capsules: 4, open: learned, checksum_threshold: -1.0}
    decoder: {}
    planning: {paths: 2}
    multi_token: {}
    memory: {capacity: 32, heads: 4}
    concepts: {concepts: 8}
    dqn: {capacity: 64, min_size: 8, batch: 16, hidden: 16, prioritized: true}
stages:
  learn: {kind: train, model: net, data: puzzles, steps: 6, batch_size: 8, log_every: 2, checkpoint_every: 2}
  judge: {kind: evaluate, with: learn, data: puzzles, halt: score}
"""


def test_a_spec_with_every_part_trains_evaluates_and_is_described(
    tmp_path: Path, typist: Callable[[Path], Run]
) -> None:
    (tmp_path / "small.yaml").write_text(SPEC)
    run = typist(tmp_path)
    shown = run("run", "small.yaml")
    assert "2 stages ran" in shown or "3 stages ran" in shown
    (bundle,) = (tmp_path / ".gridloom").rglob("bundle.json")
    described = run("models", "verify", bundle.parent)
    assert "unified" in described
    rows = json.loads(run("sql", "--json", "select distinct name from metrics"))
    names = {row["name"] for row in rows}
    assert {"lm_loss", "planning_gate", "multi_token_loss", "replay_size"} <= names
