"""`models check` as a user types it: passing, failing, switched parts, unknown names, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gridloom.compiler.text.library import recipe_names
from gridloom.runtime.model_check.recipes import ENGINE_RECIPES

Run = Callable[..., str]
SPEC = """\
gridloom: 1
name: small
device: cpu
data:
  puzzles: {kind: sudoku, size: 4, train: 10, test: 10}
models:
  net:
    kind: engine
    hidden_size: 32
    num_heads: 4
    layers: 1
    H_cycles: 2
    L_cycles: 1
    expansion: 1.0
    puzzle_embedding_len: 0
    halt_max_steps: 2
    precision: fp32
    vision: {image: 32, patch: 8, layers: 1, L_cycles: 1}
    decoder: {}
stages:
  learn: {kind: train, model: net, data: puzzles, steps: 2, batch_size: 4}
"""


@pytest.fixture
def run(tmp_path: Path, typist: Callable[[Path], Run]) -> Run:
    (tmp_path / "small.yaml").write_text(SPEC)
    return typist(tmp_path)


def test_a_network_passes_every_phase(run: Run) -> None:
    shown = run("models", "check", "small.yaml")
    assert "ok    small.yaml: engine, " in shown
    assert "schema, build, parameters, forward, backward, overfit, save and load, generate in " in shown
    assert "vision" in shown
    assert "1 check, all passed" in shown


def test_switched_parts_change_the_table(run: Run) -> None:
    plain = json.loads(run("models", "check", "small.yaml", "--json"))[0]
    on = json.loads(run("models", "check", "small.yaml", "--json", "--enable", "memory", "--disable", "decoder"))[0]
    assert plain["ok"]
    assert on["ok"]
    assert plain["parts"] == ["decoder", "vision"]
    assert on["parts"] == ["vision", "memory"]
    assert on["parameters"]["memory"] == 3 * 32 * 32 + 2 * 32 + 2
    assert sum(on["parameters"].values()) == on["total"]


def test_a_fault_is_named_and_the_status_is_1(run: Run, tmp_path: Path) -> None:
    shown = run("models", "check", "small.yaml", "--disable", "decoder", "--enable", "multi_token", "--quiet", code=1)
    assert "FAIL  small.yaml: schema: GL303 'net' has multi_token without decoder" in shown
    (tmp_path / "small.yaml").write_text(SPEC.replace("image: 32", "image: 32, imgae: 3"))
    shown = run("models", "check", "small.yaml", "--quiet", code=1)
    assert "unknown key" in shown
    assert "1 check, 1 failed: small.yaml" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("multimodel_hesc",), "did you mean 'multimodal_hesc'?"),
        (("hrm", "--enable", "memry"), "did you mean 'memory'?"),
        (("maze7", "--tiny"), "recipe 'maze7' has no tiny twin"),
        ((), "name recipes, or give --all"),
        (("hrm", "--all"), "name recipes, or give --all"),
    ],
)
def test_unknown_names_are_wrong_usage(run: Run, arguments: tuple[str, ...], message: str) -> None:
    assert message in run("models", "check", *arguments, code=2)


def test_a_sweep_is_checked_once_for_each_network(run: Run, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SPEC + "sweep: {models.net.decoder: [null, {}], seed: [0, 1]}\n")
    shown = run("models", "check", "small.yaml", "--quiet")
    assert shown.count("ok    small.yaml") == 2
    assert "2 checks, all passed" in shown


def test_a_training_that_continues_another_is_no_further_network(run: Run, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SPEC + "  on: {kind: train, model: learn, data: puzzles, steps: 3}\n")
    assert "1 check, all passed" in run("models", "check", "small.yaml", "--quiet")


def test_a_recipe_without_an_engine_has_no_parts_to_switch(run: Run) -> None:
    shown = run("models", "check", "sudoku4", "--enable", "memory", "--quiet", code=1)
    assert "has no engine whose parts could be switched; its models: trm" in shown


def test_every_recipe_has_a_tiny_twin() -> None:
    assert {name + suffix for name in ENGINE_RECIPES for suffix in ("", "-tiny")} <= set(recipe_names())


@pytest.mark.slow
def test_every_tiny_twin_passes(run: Run) -> None:
    shown = run("models", "check", "--all", "--tiny", "--quiet")
    assert "9 checks, all passed" in shown
