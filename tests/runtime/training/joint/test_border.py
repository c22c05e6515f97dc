"""The border around a grid: learnt where the loss scores it, and not where it looks at colours alone."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from joint_support import BRIDGE, grid, trainer_for
from tiny_language_model import tiny_llama

from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.tokens import EOS, PAD, crop
from gridloom.runtime.data.tasks import Pair, Task
from gridloom.runtime.models.recursive.inference import trace
from gridloom.runtime.models.recursive.spec import TrmHybridModel
from gridloom.specs.data import Augment
from gridloom.specs.stages import AdamW

HYBRID = TrmHybridModel(hidden_size=32, num_heads=2, layers=1, puzzle_embedding_len=1, precision="fp32")
INJECTION = BRIDGE.model_copy(update={"mode": "injection", "projection": "linear"})


def two_shapes() -> Dataset:
    """Two tasks whose grids end at other places of the canvas."""
    tall = (Pair(grid("12", "34", "56"), grid("21", "43", "65")), Pair(grid("77", "10", "92"), grid("77", "01", "29")))
    wide = (Pair(grid("123", "456"), grid("456", "123")), Pair(grid("789", "012"), grid("012", "789")))
    tasks = (Task("tall", "tasks", tall, (grid("1"),)), Task("wide", "tasks", wide, (grid("2"),)))
    return Dataset(tasks, 5, "d", Augment(copies=0), "v")


def trained(targets: Literal["scored", "colours"]) -> tuple[np.ndarray, np.ndarray]:
    """Train the z_init hybrid until it knows the pairs; tokens it answers and labels of a batch, uint8 [B, 25]."""
    trainer = trainer_for(
        tiny_llama(),
        INJECTION,
        with_back=False,
        network=HYBRID,
        dataset=two_shapes(),
        steps=90,
        adapters=("bridge",),
        batch_size=8,
        attempts=1,
        targets=targets,
        warmup_steps=5,
        optimizer=AdamW(lr=5e-3, weight_decay=0.0),
        embedding_lr=0.02,
    )
    for step in range(90):
        trainer.step(trainer.sampler.batch(step, 8))
    batch = trainer.sampler.batch(0, 16)
    keys = list(zip(batch.task_index.tolist(), batch.pair_index.tolist(), strict=True))
    assert len(set(keys)) == 4
    hidden = trainer.reader.first(keys, 0).hidden
    with torch.no_grad():
        injection = trainer.bridge.inject(hidden, trainer.network, None, None).injection
        traced = trace(trainer.network, torch.from_numpy(batch.inputs), torch.from_numpy(batch.puzzle_ids), injection)
    return traced.tokens.numpy(), batch.labels


@pytest.mark.parametrize("targets", ["scored", "colours"])
def test_border_is_emitted_where_the_loss_scores_it(targets: Literal["scored", "colours"]) -> None:
    tokens, labels = trained(targets)
    assert (labels == EOS).any(axis=1).all()
    colours = labels > EOS
    assert (tokens[colours] == labels[colours]).all()
    exact = [np.array_equal(crop(row, 5), crop(label, 5)) for row, label in zip(tokens, labels, strict=True)]
    if targets == "scored":
        assert (tokens[labels == EOS] == EOS).all()
        assert (tokens[labels != PAD] == labels[labels != PAD]).all()
        assert all(exact)
    else:
        # as in the z_init hybrid: every colour is right, and no grid is, since nothing says where it ends
        assert not any(exact)
