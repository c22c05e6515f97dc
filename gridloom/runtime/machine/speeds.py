"""Measured speeds of this machine's devices, one JSON file per device in the cache folder. Imports no torch."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from gridloom.compiler.device_speeds import DeviceSpeeds, MachineSpeeds
from gridloom.errors import StoreError
from gridloom.stores.files.write_aside import write_durably
from gridloom.stores.workspace import cache_dir

FORMAT_VERSION = 1
REMEASURE = "run gridloom doctor --calibrate"


def folder() -> Path:
    """Return the folder of measured speeds."""
    return cache_dir() / "calibration"


def cpu_name() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    if names:
        return names[0]
    import platform  # slow to import and rarely needed

    return platform.processor() or platform.machine()


def gpu_name() -> str | None:
    """Return the first GPU's name without loading torch."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Model"):
                return line.partition(":")[2].strip()
    return None


def num_threads() -> int:
    """Return the number of threads that torch will use: OMP_NUM_THREADS, else the cores available to this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    # macOS and Windows cannot bind a process to cores
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_speeds() -> MachineSpeeds:
    """Read the speeds of this machine's devices, without torch. Stale files are reported in the result and not used."""
    gpu = gpu_name()
    known: dict[str, DeviceSpeeds] = {}
    unused: dict[str, str] = {}
    for name in ("cpu",) if gpu is None else ("cpu", "cuda"):
        path = folder() / f"{name}.json"
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError):
            text = ""
        from importlib.metadata import version

        device = cpu_name() if name == "cpu" else gpu
        try:
            values = json.loads(text)
            found_version = values.pop("format_version")
            found = _checked(DeviceSpeeds(**values)) if found_version == FORMAT_VERSION else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            found = None
        if found is None:
            unused[name] = f"{path} is not readable by this gridloom: {REMEASURE}"
        elif found.torch != version("torch"):
            unused[name] = f"calibrated with torch {found.torch}, this is {version('torch')}: {REMEASURE}"
        elif found.device != device:
            unused[name] = f"calibrated on {found.device}, this is {device}: {REMEASURE}"
        elif name == "cpu" and found.cores != num_threads():
            unused[name] = f"calibrated with {found.cores} threads, this has {num_threads()}: {REMEASURE}"
        else:
            known[name] = found
    return MachineSpeeds(known, unused, "cpu" if gpu is None else "cuda")


def _checked(found: DeviceSpeeds) -> DeviceSpeeds:
    """Return the speeds. Raises TypeError if a field has another type than its own."""
    numbers = [found.memory_bytes, found.step_overhead_s, found.measured_at, found.cores]
    for table in (found.flops_per_s, found.figures):
        if not isinstance(table, dict):
            raise TypeError("flops_per_s, figures")
        numbers += table.values()
    if not all(isinstance(number, int | float) and abs(number) < 1e30 for number in numbers):
        raise TypeError("a field is no number")
    if not isinstance(found.device, str) or not isinstance(found.torch, str):
        raise TypeError("device, torch")
    return found


def save_speeds(kind: str, found: DeviceSpeeds) -> Path:
    """Write a device's speeds atomically. Raises StoreError."""
    path = folder() / f"{kind}.json"
    text = json.dumps({"format_version": FORMAT_VERSION, **asdict(found)}, indent=1, sort_keys=True) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, text.encode())
    except OSError as error:
        raise StoreError(
            f"cannot keep the calibration in {path}: {error}", "choose another cache folder with GRIDLOOM_CACHE"
        ) from error
    return path
