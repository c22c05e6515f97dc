"""A few kills of driver and workers at random moments; `python -m tests.campaign.workers 200` makes many."""

from __future__ import annotations

import random
from pathlib import Path

from tests.campaign.workers import run_with_kills


def test_a_run_whose_driver_and_workers_are_killed_ends_as_one_that_nobody_killed(tmp_path: Path) -> None:
    killed = run_with_kills(tmp_path / "w", random.Random(3), kills=3, items=30)
    assert killed.total() <= 3
