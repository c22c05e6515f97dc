"""Training in several processes: the losses of one, the states of one, and only the first writes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import ranks_support
import torch
from train_support import STAGE, dataset_artifact, known_dataset, stage_context, train_node

from gridloom.errors import StageError
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.machine.ranks import Ranks
from gridloom.runtime.training.loop import ActTrainer
from gridloom.runtime.training.state import saved_steps
from gridloom.runtime.training.train import Train
from gridloom.specs.validation import Validation
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SUPPORT = Path(ranks_support.__file__)


def losses(root: Path) -> dict[tuple[int, str], float]:
    rows = Ledger(Workspace(root / "home")).rows("select step, name, value from metrics")
    return {(row["step"], row["name"]): row["value"] for row in rows if row["name"] != "steps_per_s"}


def alone(root: Path, ranks: Ranks | None = None) -> None:
    context = replace(stage_context(root), ranks=ranks)
    Train().run(train_node(STAGE), {"data": dataset_artifact(root)}, context)
    context.ledger.close()


def together(root: Path, stop_after: int, *more: str, number: int = 2, **environment: str) -> list[str]:
    """Run so many processes; what each printed."""
    root.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SUPPORT), str(root), str(stop_after), *more],
            stdout=subprocess.PIPE,
            text=True,
            stderr=subprocess.PIPE,
            env={**os.environ, **meeting, **environment, "RANK": str(rank)},
        )
        for rank in range(number)
    ]
    told = []
    for process in processes:
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
        told.append(out)
    return told


def test_two_processes_train_as_one_and_another_number_of_them_goes_on(tmp_path: Path) -> None:
    alone(tmp_path / "one")
    wanted = losses(tmp_path / "one")
    said = together(tmp_path / "two", stop_after=6)
    assert said == ["pretrain stopped by SIGTERM at step 7 of 12, saved\n", ""]
    assert saved_steps(tmp_path / "two" / "work") == [4, 7]
    alone(tmp_path / "two")
    found = losses(tmp_path / "two")
    assert found.keys() == wanted.keys()
    assert max(step for step, _ in found) == 12
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
    one, two = (load_bundle(tmp_path / name / "out", weights="raw").network.state_dict() for name in ("one", "two"))
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], rtol=1e-3, atol=1e-4), name
    assert one["puzzle_emb.weights"].any()
    assert one["puzzle_emb.task_weights"].any()


def test_two_processes_share_the_batches_of_a_validation(tmp_path: Path) -> None:
    wanted = Validation(every=5, share=0.8, views=2, batch_size=2)
    context = stage_context(tmp_path / "one")
    stage = STAGE.model_copy(update={"validate_": wanted})
    Train().run(train_node(stage), {"data": dataset_artifact(tmp_path / "one", known_dataset())}, context)
    context.ledger.close()
    together(tmp_path / "two", 1000, "0.8")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert {step for step, name in one if name == "validation_pass2"} == {5, 10, 12}
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert two[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
    bundles = [load_bundle(tmp_path / name / "out") for name in ("one", "two")]
    assert bundles[0].meta["validation"] == bundles[1].meta["validation"]


@pytest.mark.slow
def test_four_processes_train_and_validate_as_one_and_two_go_on(tmp_path: Path) -> None:
    """The validation has five batches: in its last round three of the four processes have none."""
    wanted = Validation(every=5, share=0.8, views=2, batch_size=2)
    context = stage_context(tmp_path / "one")
    stage = STAGE.model_copy(update={"validate_": wanted})
    Train().run(train_node(stage), {"data": dataset_artifact(tmp_path / "one", known_dataset())}, context)
    context.ledger.close()
    printed = together(tmp_path / "four", 9, "0.8", number=4, LATE="2")
    for lines in map(str.splitlines, printed):
        assert lines[:2] == ["compiled", "reduced"], "no process waits in a collective operation for a compilation"
    assert "stopped by SIGTERM at step" in printed[0]
    assert saved_steps(tmp_path / "four" / "work")[-1] < 12
    together(tmp_path / "four", 1000, "0.8", number=2)
    one, four = losses(tmp_path / "one"), losses(tmp_path / "four")
    assert {step for step, name in four if name == "validation_pass2"} == {5, 10, 12}
    assert one.keys() == four.keys()
    for key, value in one.items():
        assert four[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
    alone, shared = (
        load_bundle(tmp_path / name / "out", weights="raw").network.state_dict() for name in ("one", "four")
    )
    for name, tensor in alone.items():
        assert torch.allclose(tensor, shared[name], rtol=1e-3, atol=1e-4), name
    assert alone["puzzle_emb.weights"].any()


def test_a_batch_is_shared_without_gap_or_overlap() -> None:
    rows = [Ranks(rank, 4).rows(20) for rank in range(4)]
    assert [place for span in rows for place in range(span.start, span.stop)] == list(range(20))


def test_what_torchrun_says_is_read() -> None:
    place = Ranks.of_environment({"RANK": "1", "WORLD_SIZE": "3"})
    assert (place.rank, place.size) == (1, 3)
    assert (Ranks.of_environment({}).rank, Ranks.of_environment({}).size) == (0, 1)
    with pytest.raises(StageError, match="RANK is 3, but WORLD_SIZE is 3"):
        Ranks.of_environment({"RANK": "3", "WORLD_SIZE": "3"})


def test_after_a_failure_in_a_collective_operation_nothing_is_broadcast() -> None:
    ranks = Ranks(0, 2)
    with pytest.raises(MemoryError), ranks.collective():
        raise MemoryError("no room")
    with pytest.raises(StageError, match="wait in a stage that failed: no room"):
        ranks.broadcast("step")


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="accumulate 1 times 3 processes does not divide batch_size 8"):
        alone(tmp_path, Ranks(0, 3))


def test_all_processes_skip_the_update_that_is_not_finite_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together(tmp_path / "two", 1000, POISONED="1")
    found = losses(tmp_path / "two")
    assert {step: value for (step, name), value in found.items() if name == "skipped_updates"} == {2: 1.0, 5: 2.0}
    assert {step for step, name in found if name == "loss"} == set(range(1, 13)) - {2, 5}
    monkeypatch.setattr(ActTrainer, "_part", ActTrainer._part)  # restored after the test
    ranks_support.poison()
    alone(tmp_path / "one")
    wanted = losses(tmp_path / "one")
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
