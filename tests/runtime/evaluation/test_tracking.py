"""Figures to Weights & Biases: off unless asked for, offline without a login, and no other run for being watched."""

from __future__ import annotations

import builtins
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joint_support import joint_node, run_joint
from puzzle_support import MAZES, puzzle_artifact
from train_support import STAGE, dataset_artifact, stage_context, train_node

from gridloom.compiler.fingerprint import digest, node_inputs
from gridloom.compiler.graph import StageNode
from gridloom.errors import GridloomError, StageError
from gridloom.runtime.evaluation.puzzles import Evaluate
from gridloom.runtime.evaluation.tracking import tracked
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.training.train import Train
from gridloom.specs.stages import EvaluateStage, Wandb
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_offline_run_holds_every_figure_of_the_ledger_without_a_login(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    context = stage_context(tmp_path)
    Train().run(
        train_node(STAGE.model_copy(update={"steps": 3, "wandb": Wandb()})),
        {"data": dataset_artifact(tmp_path)},
        context,
    )
    context.ledger.close()
    project, seen = _watched(tmp_path / "home" / "wandb")
    rows = Ledger(Workspace(tmp_path / "home")).rows("select step, name, value from metrics")
    assert project == "arc-trm-pretrain"
    assert rows
    assert seen == pytest.approx({(row["step"], row["name"]): row["value"] for row in rows})


def test_offline_run_of_an_evaluation_has_the_earlier_names_too(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    data, context = puzzle_artifact(tmp_path, MAZES), stage_context(tmp_path)
    stage = STAGE.model_copy(update={"steps": 1, "data": "puzzles"})
    model: Any = ActRnnModel(hidden_size=8, halt_max_steps=2)
    Train().run(train_node(stage, model), {"data": data}, context)
    judge = EvaluateStage.model_validate({"with": "pretrain", "data": "puzzles", "wandb": {}})
    node = StageNode(
        name="judge", kind="evaluate", version=1, produces="report", spec=judge.model_dump(mode="json", by_alias=True)
    )
    shutil.move(context.out, tmp_path / "trained")
    context.out.mkdir()
    Evaluate().run(
        node, {"with": Artifact("gl1:rnn", "checkpoint", tmp_path / "trained", {"files": {}}), "data": data}, context
    )
    context.ledger.close()
    _, seen = _watched(tmp_path / "home" / "wandb")
    rows = Ledger(Workspace(tmp_path / "home")).rows("select name, value from metrics where stage = 'judge'")
    figures = {row["name"]: row["value"] for row in rows}
    assert {name for _, name in seen} >= {"exact", "focus_f1", "test/puz_acc", "test/focus_f1", "test/steps_p90"}
    sent = {name: value for (step, name), value in seen.items() if name.removeprefix("test/") in figures}
    assert {step for step, _ in seen} == {1}
    assert sent == pytest.approx({name: figures[name.removeprefix("test/")] for name in sent})


def test_nothing_is_written_or_imported_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hide_wandb(monkeypatch)
    run_joint(tmp_path, steps=1)
    assert not (tmp_path / "home" / "wandb").exists()


def test_without_the_package_the_extra_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hide_wandb(monkeypatch)
    with pytest.raises(GridloomError, match="wandb: in stage 'joint' needs the package wandb") as error:
        run_joint(tmp_path, steps=1, wandb=Wandb())
    assert error.value.remedy == "pip install 'gridloom[wandb]'"


def test_online_without_a_login_says_how_to_log_in_or_stay_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    context = stage_context(tmp_path)
    with (
        pytest.raises(StageError, match="cannot begin a run at Weights & Biases") as error,
        tracked(Wandb(mode="online"), "project", joint_node(), context),
    ):
        pytest.fail("there is no login")
    assert "mode: offline" in error.value.remedy
    assert "wandb login" in error.value.remedy


def test_watching_a_stage_changes_no_key() -> None:
    plain, watched = (joint_node(wandb=wandb) for wandb in (None, Wandb(project="other", mode="online")))
    assert plain.spec != watched.spec
    keys = {"data": "gl1:data", "toy": "gl1:data"}
    assert digest(node_inputs(plain, keys)) == digest(node_inputs(watched, keys))


def _watched(folder: Path) -> tuple[str, dict[tuple[int, str], float]]:
    """Project of the only offline run in a folder, and its figures by step and name."""
    from wandb.proto import wandb_internal_pb2

    [file] = folder.rglob("*.wandb")
    assert file.parent.name.startswith("offline-run-")
    seen: dict[tuple[int, str], float] = {}
    project = ""
    for data in _log_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        project = record.run.project or project
        items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        step = record.history.step.num
        seen |= {(step, name): value for name, value in items.items() if not name.startswith("_")}
    return project, seen


def _log_records(data: bytes) -> Iterator[bytes]:
    """Read a W&B file: a head of 7 bytes, then blocks of 32 KiB of (crc, length, part) records, as LevelDB's log."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        _, length, part = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (1, 4):
            yield whole
            whole = b""


def _hide_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "wandb":
            raise ModuleNotFoundError("No module named 'wandb'", name="wandb")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
