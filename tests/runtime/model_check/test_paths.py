"""Records of latent planning: what they hold, their drawing, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_support import engine, rows_for

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, save_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.model_check.paths import draw_paths, record_paths
from gridloom.runtime.models.kind import RowShape


def test_a_record_has_the_weights_of_every_row_and_step() -> None:
    network = engine(planning={"paths": 3, "depth": 2})
    rows = rows_for(network, 4)
    records = record_paths(network, rows)
    assert [(record.step, record.row) for record in records] == [(s, r) for s in (1, 2, 3) for r in range(4)]
    for record in records:
        assert abs(sum(record.weights) - 1) < 1e-5
        assert record.chosen == max(range(3), key=record.weights.__getitem__)
        assert [len(norms) for norms in record.thoughts] == [2, 2, 2]
        assert all(norm > 0 for norms in record.thoughts for norm in norms)


def test_rows_with_a_closed_gate_are_skipped() -> None:
    network = engine(planning={})
    assert network.planner is not None
    assert network.planner.gate is not None
    with torch.no_grad():
        network.planner.gate[-1].bias.fill_(-9)  # type: ignore[union-attr, operator]
    (record, *_) = record_paths(network, rows_for(network, 1))
    assert (record.planned, record.chosen, sum(record.weights)) == (False, None, 0)
    assert record.gate < 0.5


def test_an_engine_without_planning_is_refused() -> None:
    network = engine()
    with pytest.raises(ModelError, match="no planning"):
        record_paths(network, rows_for(network, 1))


def test_a_drawing_opens(tmp_path: Path) -> None:
    from PIL import Image

    network = engine(planning={})
    draw_paths(record_paths(network, rows_for(network, 5)), tmp_path / "paths.png")
    with Image.open(tmp_path / "paths.png") as image:
        assert image.width > 300
        assert image.height > 200


def test_paths_as_a_user_types_it(tmp_path: Path, typist: Callable[[Path], Callable[..., str]]) -> None:
    network = engine(RowShape(0, 10, 8), planning={"paths": 2}, decoder={})
    save_bundle(tmp_path / "net", Bundle({NETWORK: network}, PuzzleIds.of(()), meta={"data": {"kind": "copy"}}))
    run = typist(tmp_path)
    data = "{kind: copy, length: 9, symbols: 5}"
    records = json.loads(run("paths", "net", data, "--rows", 3, "--json"))
    assert len(records) == 9
    shown = run("paths", "net", data, "--rows", 3, "--png", "paths.png")
    assert "wrote paths.png" in shown
    assert shown.count("0.8") >= 3  # the gate starts near 0.88
    assert "reads rows of 10 tokens" in run("paths", "net", "{kind: copy, length: 5}", code=1)
