"""torch.compile: the same training but for rounding, and going on without it where it fails."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from graph_counter import count_graphs
from torch import Tensor
from train_support import MODEL, STAGE, dataset_artifact, stage_context, toy_dataset, train_node

from gridloom.errors import StageError
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.machine.device import hardware, precision_advice
from gridloom.runtime.models.recursive import torch_compile as compiled
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.training.loop import ActTrainer
from gridloom.runtime.training.train import Train
from gridloom.specs.stages import DepthPhase, TrainStage
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

RUNS = {"fp32": MODEL, "bf16": MODEL.model_copy(update={"precision": "bf16"})}


def run(root: Path, model: TrmModel = MODEL, **changes: Any) -> tuple[list[float], list[str]]:
    """Losses of the steps, and what was said."""
    context = stage_context(root)
    stage: TrainStage = STAGE.model_copy(update={"steps": 6, **changes})
    Train().run(train_node(stage, model), {"data": dataset_artifact(root)}, context)
    context.ledger.close()
    rows = Ledger(Workspace(root / "home")).rows("select value from metrics where name = 'loss' order by step")
    return [row["value"] for row in rows], context.progress.lines  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", RUNS)
def test_compiled_training_has_the_same_losses_but_for_rounding(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = count_graphs(monkeypatch)
    plain, _ = run(tmp_path / "plain", RUNS[name], compile="off")
    assert not graphs
    found, said = run(tmp_path / "compiled", RUNS[name], compile="on")
    assert not [line for line in said if "compile" in line]
    assert len(graphs) == 1, "the whole loop is one graph"
    assert found == pytest.approx(plain, rel=1e-4 if name == "fp32" else 2e-2)
    assert list(load_bundle(tmp_path / "compiled" / "out").network.state_dict()) == list(
        load_bundle(tmp_path / "plain" / "out").network.state_dict()
    )


class Recorded:
    """A loop that hands out the same memory at every call, results and gradients alike, as a CUDA graph does."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.kept: dict[Any, Tensor] = {}
        for parameter in loop.__self__.parameters():
            parameter.register_hook(partial(self.in_place, parameter))

    def in_place(self, name: Any, value: Tensor) -> Tensor:
        place = self.kept.setdefault((name, value.shape), torch.empty_like(value))
        return place.copy_(value.detach()).detach()

    def __call__(self, *given: Any) -> tuple[Tensor, ...]:
        return tuple(Replayed.apply(one, partial(self.in_place, i)) for i, one in enumerate(self.loop(*given)))


class Replayed(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, result: Tensor, keep: Callable[[Tensor], Tensor]) -> Tensor:
        return keep(result)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def test_what_outlives_a_replay_of_a_cuda_graph_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def recorded(loop: Any, *, mode: str | None, **_: Any) -> Recorded:
        asked.append(mode)
        return Recorded(loop)

    plain, _ = run(tmp_path / "plain", compile="off", accumulate=2)
    monkeypatch.setattr(torch, "compile", recorded)
    found, said = run(tmp_path / "graphs", compile="graphs", accumulate=2)
    assert (asked, found) == (["reduce-overhead"], plain)
    assert not [line for line in said if "compile" in line]


def test_nothing_is_compiled_in_the_middle_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = count_graphs(monkeypatch)
    phases = (DepthPhase(share=0.5, act_steps=1, L_cycles=1),)
    stage = STAGE.model_copy(update={"compile": "on", "depth": phases, "embeddings_first": 0.25})
    sampler = Sampler(toy_dataset(), 0)
    network = build_network(MODEL.model_copy(update={"L_cycles": 2}), 4, len(sampler.views.names))
    trainer = ActTrainer(network, stage, seed=0)
    trainer.compile([16], pytest.fail)
    assert len(graphs) == 4, "two depths, with frozen weights and without"
    for step in range(STAGE.steps):
        trainer.step(sampler.batch(step, STAGE.batch_size))
    assert len(graphs) == 4


def broken(graph: Any, _inputs: Any) -> Any:
    raise RuntimeError("no compiler on this machine\nmore lines")


def test_a_compiler_that_fails_is_named_and_training_goes_on_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", broken)
    plain, _ = run(tmp_path / "plain", compile="off")
    found, said = run(tmp_path / "compiled", compile="on")
    assert found == plain
    (told,) = [line for line in said if line.startswith("torch.compile failed, going on without it")]
    assert "no compiler on this machine" in told
    assert "\n" not in told


def test_nothing_is_compiled_on_a_cpu_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_args, **_options: pytest.fail("compiled"))
    run(tmp_path)


def test_a_budget_that_compiling_spends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecursiveNetwork, "compile_step", lambda *_, **__: 40.0)
    with pytest.raises(StageError, match=r"compiling took 40 s, and of the budget of 30 s only 30 s were left"):
        run(tmp_path, budget="30s")


def test_a_gpu_that_emulates_bf16_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla T4")
    advice = precision_advice("cuda:0", "bf16")
    assert advice is not None
    assert advice.startswith("cuda:0 (Tesla T4) has no bf16 instructions")
    assert "precision: fp32" in advice
    assert precision_advice("cuda:0", "fp32") is None
    assert precision_advice("cpu", "bf16") is None
    assert hardware("cuda:0", 2) == "2 processes of Tesla T4"
    assert hardware("cpu", 2).endswith(
        f", 2 processes of {torch.get_num_threads()} threads".removesuffix("s" if torch.get_num_threads() == 1 else "")
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it loads the compiler
def test_inductor_compiles_the_loop_of_this_machine(tmp_path: Path) -> None:
    torch._dynamo.reset()
    plain, _ = run(tmp_path / "plain", compile="off")
    found, said = run(tmp_path / "compiled", compile="on")
    assert not [line for line in said if "compile" in line]
    assert found == pytest.approx(plain, rel=1e-4)
