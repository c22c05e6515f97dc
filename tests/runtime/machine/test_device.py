"""Devices: the GPU that a process computes on is its current one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from gridloom.errors import StageError
from gridloom.runtime.machine.device import make_current, resolve_device
from gridloom.runtime.machine.ranks import PATIENCE, Ranks


def test_a_gpu_becomes_the_current_one_and_a_cpu_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    make_current("cpu")
    assert made == []
    make_current("cuda:1")
    assert made == ["cuda:1"]


def test_a_gpu_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(StageError, match=r"'cuda:2' is not here: 2 CUDA device\(s\) found"):
        resolve_device("cuda:2")


def test_ranks_wait_for_the_stages_between_two_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: made.append(options))
    Ranks(1, 2).connect()
    assert made == [{"timeout": PATIENCE}]
    assert PATIENCE.days >= 7
