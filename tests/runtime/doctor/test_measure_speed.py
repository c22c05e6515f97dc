"""The calibration: measured on the device, kept, and not used once torch, device or threads are others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gridloom.compiler.graph import Cost
from gridloom.errors import StoreError
from gridloom.runtime.doctor import measure_speed
from gridloom.runtime.machine import speeds
from gridloom.runtime.machine.speeds import load_speeds


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and measurements of sizes that take no time."""
    monkeypatch.setenv("GRIDLOOM_CACHE", str(tmp_path))
    monkeypatch.setattr(measure_speed, "SIZES", (16,))
    monkeypatch.setattr(measure_speed, "SMALL", {"hidden_size": 16, "num_heads": 2, "H_cycles": 1, "L_cycles": 1})
    monkeypatch.setattr(measure_speed, "CANVAS", 3)
    return tmp_path


def test_without_a_measurement_the_reason_names_the_command(cache: Path) -> None:
    found = load_speeds()
    assert found.of("cpu") is None
    assert found.why_not("cpu") == "device speed not measured: run gridloom doctor --calibrate"


def test_a_measured_device_gives_times(cache: Path) -> None:
    said: list[str] = []
    path = measure_speed.measure_speeds("cpu", said.append)
    found = load_speeds().of("cpu")
    assert found is not None
    assert set(found.flops_per_s) == {"fp32", "bf16", "fp32 ACT", "bf16 ACT"}
    assert any("no language model is cached" in line for line in said)
    assert any(line.startswith("TRM train step bf16") for line in said)
    assert path.parent == cache / "calibration"
    cost = Cost(parameters=1, flops={"fp32": 10**6}, num_steps=10, step="attempt", peak_bytes=1)
    assert found.seconds(cost) == pytest.approx(10 * 1e6 / found.flops_per_s["fp32"])


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("torch", "1.0", "calibrated with torch 1.0"),
        ("device", "Other CPU", "calibrated on Other CPU"),
        ("cores", 999, "calibrated with 999 threads"),
        ("format_version", 99, "is not readable"),
    ],
)
def test_a_stale_one_is_named_and_not_used(cache: Path, field: str, value: object, told: str) -> None:
    path = measure_speed.measure_speeds("cpu", lambda _: None)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    found = load_speeds()
    assert found.of("cpu") is None
    assert told in found.why_not("cpu")
    assert "gridloom doctor --calibrate" in found.why_not("cpu")


def test_a_cache_that_cannot_be_written_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").write_text("")
    monkeypatch.setenv("GRIDLOOM_CACHE", str(cache / "file"))
    with pytest.raises(StoreError, match="cannot keep the calibration"):
        measure_speed.measure_speeds("cpu", lambda _: None)


def test_threads_are_counted_where_processes_cannot_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert speeds.num_threads() == 6
