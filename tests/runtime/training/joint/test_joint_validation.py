"""Validation in joint training: first attempts of held-apart test inputs vote, the best weights are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from joint_support import LLAMA, joint_node
from tiny_language_model import save_tiny
from train_support import StopAfter, dataset_artifact, known_dataset, stage_context

from gridloom.errors import StageInterrupted
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.models.language.spec import Lora
from gridloom.runtime.training.held_apart import tasks_apart
from gridloom.runtime.training.joint import reader as joint_reader
from gridloom.runtime.training.joint.train import JointTrain
from gridloom.runtime.training.joint.validate import JointValidator, asked_dataset
from gridloom.runtime.training.state import saved_steps
from gridloom.specs.stages import AdamW
from gridloom.specs.validation import Validation
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

WANTED = Validation(every=2, share=0.6, views=2)


def run(root: Path, stop: Any = None, **changes: Any) -> dict[tuple[int, str], float]:
    if not (root / "tiny").is_dir():
        save_tiny(root / "tiny")
    context = stage_context(root, stop)
    node = joint_node(**{"validate_": WANTED, "steps": 5, "optimizer": AdamW(lr=5e-3), **changes})
    try:
        JointTrain().run(node, {"data": dataset_artifact(root, known_dataset())}, context)
    finally:
        context.ledger.close()
    rows = Ledger(Workspace(root / "home")).rows("select step, name, value from metrics")
    return {(row["step"], row["name"]): row["value"] for row in rows if row["name"] != "steps_per_s"}


def test_prompts_show_training_pairs_alone_and_ask_for_the_held_apart_input() -> None:
    whole = known_dataset()
    apart = tasks_apart(whole, Validation(split="training"), 0)
    asked = asked_dataset(apart)
    assert [task.task_id for task in asked.tasks] == [task.task_id for task in apart.tasks]
    for task in asked.tasks:
        assert task.demos == apart.dataset.task(task.task_id).train_pairs
        (held,) = task.known
        assert not any((pair.input == held.input).all() for pair in task.demos)


def test_curves_are_recorded_and_a_stopped_training_repeats_them(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    names = {f"validation_{name}" for name in ("pass1", "pass2", "shape_match", "cell_accuracy")}
    assert {(step, name) for step, name in whole if name in names} == {(s, n) for s in (2, 4, 5) for n in names}
    stopped = 0
    for readings in (1, 14, 16, 17):
        try:
            run(tmp_path / "parts", StopAfter(readings))
        except StageInterrupted:
            stopped += 1
    assert stopped
    assert run(tmp_path / "parts") == whole
    one, two = (load_bundle(tmp_path / name / "out") for name in ("whole", "parts"))
    assert one.meta["validation"] == two.meta["validation"]
    assert one.meta["steps"] == one.meta["validation"]["best_step"]
    states = one.network.state_dict(), two.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_best_state_is_kept_and_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curve = iter([0.5, 0.25, 0.25])
    monkeypatch.setattr(
        JointValidator,
        "figures",
        lambda self, results: {"pass1": 0.0, "pass2": next(curve), "shape_match": 1.0, "cell_accuracy": 0.5},
    )
    run(tmp_path)
    assert load_bundle(tmp_path / "out").meta["steps"] == 2
    assert saved_steps(tmp_path / "work") == [2, 4, 5]


def test_a_language_model_that_learns_is_asked_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caches: list[Any] = []
    make = joint_reader.HeadCache

    def counted(llama: Any) -> Any:
        caches.append(llama)
        return make(llama)

    monkeypatch.setattr(joint_reader, "HeadCache", counted)
    logged = run(tmp_path, steps=4, llama=LLAMA.model_copy(update={"lora": Lora(rank=2)}), attempts=1)
    assert {step for step, name in logged if name == "validation_pass2"} == {2, 4}
    # one for each reader, one after the first states, one for each validation
    assert len(caches) == 5
