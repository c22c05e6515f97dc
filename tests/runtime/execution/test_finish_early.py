"""Trainings that are finished early: a key of their own, marked, used on request, never the whole training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from progress_support import Reporter
from train_support import StopAfter

from gridloom.compiler.graph import RunGraph
from gridloom.errors import GridloomError, StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.execution.executor import run_local
from gridloom.runtime.execution.finish_early import FinishedEarly, finish_early
from gridloom.runtime.execution.run_locks import stage_lock
from gridloom.runtime.planning.local import Planned, compile_local, plan_local
from gridloom.runtime.reports.publish import publish
from gridloom.runtime.training.state import load_step, saved_steps
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SPEC = """\
gridloom: 1
name: early
data:
  sudokus: {kind: sudoku, size: 4, train: 40, test: 8, max_clues: 7, shuffle: false}
models:
  small: {kind: trm, hidden_size: 32, num_heads: 2, layers: 1, H_cycles: 1, L_cycles: 1, mixing: mlp, positions: none,
          puzzle_embedding_len: 1, precision: fp32, halt_max_steps: 2}
stages:
  learn: {kind: train, model: small, data: sudokus, steps: 12, batch_size: 4, ema: 0.9, checkpoint_every: 3,
          keep_last: 9}
  judge: {kind: evaluate, with: learn, data: sudokus}
"""


class Place:
    """A workspace and a spec whose training was stopped after the sixth step."""

    def __init__(self, root: Path, spec: str = SPEC, readings: int | None = 7) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.spec, self.workspace = root / "spec.yaml", Workspace(root / "home")
        self.spec.write_text(spec)
        if readings is not None:
            with pytest.raises(StageInterrupted):
                self.run(stop=StopAfter(readings))

    def run(self, *finished: str, stop: Any = None) -> Planned:
        planned = plan_local(str(self.spec), (), self.workspace, finished_early=finished)
        run_local(planned, str(self.spec), (), self.workspace, Reporter(), StopAfter() if stop is None else stop, "cpu")
        return planned

    @property
    def graph(self) -> RunGraph:
        return compile_local(str(self.spec)).graph

    def finish(self, weights: Any = None, stage: str = "learn") -> FinishedEarly:
        return finish_early(str(self.spec), self.graph, self.workspace, stage, weights, Reporter(), device="cpu")

    @property
    def work(self) -> Path:
        return ArtifactStore(self.workspace).work_path(self.graph.node("learn").key)


def test_the_newest_state_is_published_marked_and_the_key_of_the_whole_training_stays_free(tmp_path: Path) -> None:
    place = Place(tmp_path)
    newest = saved_steps(place.work)[-1]
    made = place.finish()
    assert (made.step, made.of_steps, made.weights, made.is_new) == (newest, 12, "newest", True)
    store, whole = ArtifactStore(place.workspace), place.graph.node("learn")
    assert made.key != whole.key
    assert store.find(whole.key) is None
    artifact = store.find(made.key)
    assert artifact is not None
    bundle = load_bundle(artifact.path, weights="raw")
    assert bundle.meta["finished_early"] == {"step": newest, "of_steps": 12, "weights": "newest"}
    assert bundle.meta["steps"] == newest
    state = load_step(place.work, newest, key=whole.key)
    assert torch.equal(bundle.network.lm_head.weight, state.tensors["model.lm_head.weight"])
    (row,) = Ledger(place.workspace).rows("select status, notes from stages where key = ?", [made.key])
    assert row["status"] == "done"
    assert "finished_early" in str(row["notes"])


def test_stages_behind_use_it_on_request_alone_and_under_other_keys(tmp_path: Path) -> None:
    place = Place(tmp_path)
    made = place.finish()
    planned = plan_local(str(place.spec), (), place.workspace, finished_early=("learn",))
    states = {stage.node.name: (stage.state, stage.why) for stage in planned.plan.stages}
    assert states["learn"] == ("cached", f"finished early at step {made.step} of 12")
    assert states["judge"] == ("run", "never run")
    place.run("learn")
    early = planned.plan.graph.node("judge")
    whole = place.graph.node("judge")
    assert early.key != whole.key
    store = ArtifactStore(place.workspace)
    assert store.find(early.key) is not None
    honest = plan_local(str(place.spec), (), place.workspace).plan
    assert {stage.node.name for stage in honest.stages if stage.state == "run"} == {"learn", "judge"}


def test_the_training_goes_on_as_if_nothing_had_been_published(tmp_path: Path) -> None:
    whole, parts = Place(tmp_path / "whole", readings=None), Place(tmp_path / "parts")
    whole.run()
    parts.finish()
    parts.run()
    networks = []
    for place in (whole, parts):
        artifact = ArtifactStore(place.workspace).find(place.graph.node("learn").key)
        assert artifact is not None
        networks.append(load_bundle(artifact.path).network.state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])
    with pytest.raises(GridloomError, match="is done here"):
        parts.finish()


def test_a_state_is_published_once_and_a_later_one_replaces_it_in_runs(tmp_path: Path) -> None:
    place = Place(tmp_path)
    first = place.finish()
    again = place.finish()
    assert (again.key, again.is_new) == (first.key, False)
    with pytest.raises(StageInterrupted):
        place.run(stop=StopAfter(3))
    later = place.finish()
    assert later.step > first.step
    node = plan_local(str(place.spec), (), place.workspace, finished_early=("learn",)).plan.graph.node("learn")
    assert node.key == later.key


def test_the_best_state_so_far_is_the_default_where_states_are_compared(tmp_path: Path) -> None:
    text = SPEC.replace("keep_last: 9", "keep_last: 9, keep_best: {metric: loss, every: 2}")
    place = Place(tmp_path, text)
    best = int(load_step(place.work, saved_steps(place.work)[-1], key=place.graph.node("learn").key).values["best"][0])
    made = place.finish()
    assert (made.weights, made.step) == ("best", best)
    assert place.finish("newest").step == saved_steps(place.work)[-1]


def test_what_cannot_be_finished_is_refused_with_the_reason(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with pytest.raises(GridloomError, match="has not compared states so far"):
        place.finish("best")
    with pytest.raises(GridloomError, match="the spec has no stage 'lern'"):
        place.finish(stage="lern")
    with pytest.raises(GridloomError, match="'judge' of kind evaluate trains nothing"):
        place.finish(stage="judge")
    with pytest.raises(GridloomError, match="was not finished early in") as error:
        plan_local(str(place.spec), (), place.workspace, finished_early=("learn",))
    assert "gridloom stage finish" in str(error.value)
    with (
        stage_lock(place.workspace, place.graph.node("learn")),
        pytest.raises(StageError, match="is being run by another process"),
    ):
        place.finish()
    newest = place.work / f"state-{saved_steps(place.work)[-1]:08d}" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    with pytest.raises(GridloomError, match="the best training state"):
        place.finish()
    assert not [one for one in ArtifactStore(place.workspace).all() if one.type == "checkpoint"]
    empty = Place(tmp_path / "empty", readings=None)
    with pytest.raises(GridloomError, match="has no training state in this workspace"):
        empty.finish()


def test_the_card_names_the_steps_that_were_made_and_planned(tmp_path: Path) -> None:
    place = Place(tmp_path)
    made = place.finish()
    publish("learn", tmp_path / "card", place.workspace)
    card = (tmp_path / "card" / "card.md").read_text()
    assert f"{made.step} steps of 4 rows, finished early, 12 steps were planned, newest weights so far" in card
