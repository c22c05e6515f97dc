"""v_costs: what stages were expected to cost beside what they did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import EstimateRecord, StageRecord
from gridloom.stores.workspace import Workspace


def row(tmp_path: Path, status: str) -> dict[str, Any]:
    workspace = Workspace(tmp_path)
    with LedgerWriter(workspace, "r") as writer:
        writer.append(
            EstimateRecord(
                run_id="r",
                stage="pretrain",
                parameters=5,
                frozen_parameters=0,
                flops={"fp32": 1e9},
                step="optimizer step",
                num_steps=100,
                peak_bytes=300,
                seconds=30.0,
                calibrated_on="cpu",
                assumes=["x"],
            ),
            StageRecord(
                run_id="r",
                stage="pretrain",
                status=status,
                started_at=100.0,
                ended_at=120.0,
                notes={"steps_per_s": 5.5, "peak_memory_bytes": 900, "stage_memory_bytes": 400},
            ),
        )
    return Ledger(workspace).rows("from v_costs")[0]


def test_an_estimate_stands_beside_what_was_measured(tmp_path: Path) -> None:
    found = row(tmp_path, "done")
    assert (found["expected_s"], found["measured_s"], found["seconds_error_percent"]) == (30.0, 20.0, 50.0)
    assert (found["measured_peak_bytes"], found["peak_error_percent"]) == (400, -25.0)
    assert found["expected_steps_per_s"] == pytest.approx(100 / 30)
    assert found["measured_steps_per_s"] == 5.5


def test_a_stage_that_did_not_end_has_no_measured_time(tmp_path: Path) -> None:
    assert row(tmp_path, "interrupted")["measured_s"] is None
