"""Checkpoints that come with gridloom: whole, small, told by a card, and as good as it says on `quickstart`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gridloom.compiler.text.library import recipe_names
from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.checkpoints.description import (
    WEIGHTS,
    checkpoint_facts,
    checkpoint_folder,
    shipped_checkpoints,
    shipped_names,
)
from gridloom.runtime.data.arc.known_views import known_views
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.arc.tokens import crop_back, encode_batch
from gridloom.runtime.data.arc.views import IDENTITY
from gridloom.runtime.data.tasks import fitting_canvas
from gridloom.runtime.evaluation.ballots import Ballots
from gridloom.runtime.models.recursive.inference import trace
from gridloom.runtime.planning.local import compile_local
from gridloom.specs.data import ArcData

MOST_BYTES = 16 << 20


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_checkpoint_is_whole_small_and_made_by_a_recipe(name: str) -> None:
    folder = WEIGHTS / name
    assert all(file.stat().st_size <= MOST_BYTES for file in folder.iterdir())
    assert name in recipe_names()
    bundle = load_bundle(folder)
    card = (folder / "card.md").read_text()
    assert f"{bundle.meta['steps']:,} steps" in card
    assert "pass@2" in card
    (spec,) = (model for key, model in compile_local(name, ()).spec.models.items() if key == "trm")
    assert bundle.network.spec == spec
    (listed,) = (one for one in shipped_checkpoints() if one.path == folder)
    assert listed.parameters == sum(p.numel() for p in bundle.network.parameters())


def test_quickstart_joins_adapters_to_the_network_that_is_shipped() -> None:
    spec = compile_local("quickstart", ()).spec
    assert spec.models["trm"] == load_bundle(WEIGHTS / "trm-arc1-small").network.spec


def test_shipped_name_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(ModelError, match=r"(?s)ships no weights named 'trm-arc9'.*trm-arc1-small"):
        checkpoint_folder("shipped:trm-arc9", ".")
    assert checkpoint_facts("shipped:trm-arc1-small", "anywhere").positions == "rope_2d"
    assert Path(checkpoint_folder("weights", "here")) == Path("here/weights")


@pytest.mark.parametrize(
    ("recipe", "shipped", "num_tests", "least"),
    [
        ("quickstart", "trm-arc1-small", 16, 6),
        ("solve-evaluation", "trm-arc1-sides10", 20, 2),
    ],
)
def test_shipped_trm_solves_tasks_of_a_recipe_by_votes(recipe: str, shipped: str, num_tests: int, least: int) -> None:
    data = compile_local(recipe, ()).spec.data["arc1"]
    assert isinstance(data, ArcData)
    source, bundle = read_arc(data, Path()), load_bundle(WEIGHTS / shipped)
    index, right, asked = bundle.puzzle_ids.index, 0, 0
    for task in source.tasks:
        views = (IDENTITY, *known_views(bundle.puzzle_ids, task))[:8]
        ids = torch.tensor([index[view.name(task.task_id)] for view in views])
        canvas = fitting_canvas(task, bundle.network.sides)
        for grid, answer in zip(task.tests, source.answers[task.task_id], strict=True):
            if asked == num_tests:
                break
            tokens = torch.from_numpy(encode_batch([grid] * len(views), canvas, views))
            ballots = Ballots(len(views))
            for guess in crop_back(trace(bundle.network, tokens, ids).tokens.numpy(), canvas, views):
                ballots.add(guess, 0.5)
            right += any(np.array_equal(standing.grid, answer) for standing in ballots.ranked()[:2])
            asked += 1
    assert asked == num_tests
    assert right >= least, right
