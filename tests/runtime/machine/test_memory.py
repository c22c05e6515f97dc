"""The memory meter: what a stage takes at its peak, not what the process had before."""

from __future__ import annotations

import numpy as np
import pytest

from gridloom.runtime.machine.memory import MemoryMeter

MB = 1 << 20


def test_peak_is_that_of_the_stage_and_not_of_what_came_before() -> None:
    earlier = np.ones(200 * MB, dtype=np.uint8)
    del earlier
    meter = MemoryMeter("cpu")
    held = np.ones(64 * MB, dtype=np.uint8)
    del held
    grown = meter.grown()
    assert grown is not None
    assert 60 * MB < grown < 120 * MB
    assert meter.peak() >= grown


def test_where_the_peak_cannot_be_forgotten_growth_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_args: object, **_options: object) -> None:
        raise PermissionError

    monkeypatch.setattr("gridloom.runtime.machine.memory.Path.write_text", refused)
    meter = MemoryMeter("cpu")
    assert meter.grown() is None
    assert meter.peak() > 10 * MB
