"""A training step never waits for the device: nothing in it reads a value, or counts elements, to know what is next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gridloom.runtime.models.recursive import losses
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.spec import HrmModel, TrmModel, TrmSingleZModel
from gridloom.runtime.training.loop import ActTrainer
from gridloom.specs.stages import AdamAtan2, Muon, TrainStage

READS = {
    "aten._local_scalar_dense",
    "aten.nonzero",
    "aten._unique2",
    "aten.unique_dim",
    "aten.masked_select",
    "aten.is_nonzero",
    "aten.equal",
    "aten.repeat_interleave",
}
"""Operations whose result, or its size, the host must know."""
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_heads": 2,
    "layers": 1,
    "H_cycles": 2,
    "L_cycles": 2,
    "expansion": 1.0,
    "halt_max_steps": 3,
}


class Watch(TorchDispatchMode):
    """Notes what a device would have to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.step = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket)
        indices = args[1] if name in ("aten.index", "aten.index_put", "aten.index_put_") else ()
        read = name in READS or any(at is not None and at.dtype is torch.bool for at in indices)
        # the optimiser counts its steps in numbers that lie on the host
        counter = name == "aten._local_scalar_dense" and args[0].ndim == 0 and args[0].item() == self.step
        if read and not counter:
            self.reads.append(name)
        return func(*args, **(kwargs or {}))


def trainer(model: TrmModel, optimizer: AdamAtan2 | Muon) -> tuple[ActTrainer, SimpleNamespace]:
    views = np.tile(np.array([0, *range(10)], dtype=np.uint8), (6, 1))
    network = build_network(
        model, 4, 6, task_of=[0, 1, 1, 2, 2, 2], views=views, generator=torch.Generator().manual_seed(0)
    )
    stage = TrainStage(model="trm", data="toy", steps=9, batch_size=4, accumulate=2, optimizer=optimizer, clip_norm=1.0)
    rng = np.random.default_rng(0)
    batch = SimpleNamespace(
        inputs=rng.integers(1, 12, (4, 16), dtype=np.uint8),
        labels=rng.integers(0, 12, (4, 16), dtype=np.uint8),
        puzzle_ids=np.array([1, 2, 2, 5], dtype=np.int32),
        valid=None,
    )
    made = ActTrainer(network, stage, seed=0)
    made.masked = True  # as on a device for which the host does not wait
    return made, batch


@pytest.mark.parametrize("optimizer", [AdamAtan2(), Muon()], ids=["adam_atan2", "muon"])
@pytest.mark.parametrize(
    "model",
    [
        TrmModel(**SIZES, precision="bf16", puzzle_embedding_len=2),
        TrmModel(**SIZES, precision="fp32", positions="rope_2d", puzzle_embedding="task_view", puzzle_embedding_len=11),
        TrmSingleZModel(**SIZES, precision="bf16", puzzle_embedding_len=2),
        HrmModel(**SIZES, precision="bf16"),
    ],
    ids=["trm", "task_view", "trm_singlez", "hrm"],
)
def test_a_step_reads_nothing_from_the_device(
    model: TrmModel, optimizer: AdamAtan2 | Muon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "PACKED_ON", ())  # as on a GPU
    training, batch = trainer(model, optimizer)
    for _ in range(3):
        with Watch() as watch:
            watch.step = training.num_steps + 1
            training.step(batch)
        assert watch.reads == []


def test_the_watch_sees_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "PACKED_ON", ("cpu",))
    training, batch = trainer(TrmModel(**SIZES, precision="fp32", puzzle_embedding_len=2), AdamAtan2())
    with Watch() as watch:
        watch.step = 1
        training.step(batch)
    assert set(watch.reads) == {"aten.nonzero"}
