"""A workspace whose disk is lost in the midst of a run on workers: the run fails by name, and resumes later."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gridloom.stores.workspace import Workspace
from tests.campaign.workers import SUPPORT, check

ITEMS = 40


@pytest.mark.parametrize("leaves_mount_point", [True, False])
def test_a_run_whose_disk_is_lost_fails_and_resumes_when_it_is_back(tmp_path: Path, leaves_mount_point: bool) -> None:
    root, away = tmp_path / "w", tmp_path / "away"
    command = [sys.executable, str(SUPPORT / "toy_split.py"), str(root), "2", str(ITEMS), "0.05"]
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        deadline = time.monotonic() + 120
        while not any('"square"' in path.read_text() for path in root.glob("journal/*.jsonl")):
            assert run.poll() is None, run.stdout and run.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        root.rename(away)  # as an unmounted share: files that are open stay so, the names are gone
        if leaves_mount_point:
            root.mkdir()
        assert run.stdout is not None
        printed = run.stdout.read().decode()
    assert run.returncode == 1, printed
    assert "StoreError" in printed
    assert f"{root}" in printed
    shutil.rmtree(root, ignore_errors=True)  # what a share hides when it is mounted again
    away.rename(root)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check(Workspace(root), ITEMS, drivers_killed=1)
