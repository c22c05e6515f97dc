"""Devices: resolution of `auto`, names, memory."""

from __future__ import annotations

import os
import re

from gridloom.errors import StageError
from gridloom.runtime.machine.speeds import cpu_name

DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,6})?")
DEVICES = "auto, cpu, cuda or cuda:N"


def resolve_device(wanted: str) -> str:
    """Return a torch device string for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        StageError: no name of a device, or the wanted device is not on this machine.
    """
    if DEVICE.fullmatch(wanted) is None:
        raise StageError(f"{wanted!r} is no device", f"give one of: {DEVICES}")
    import torch

    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda"):
        count = torch.cuda.device_count()
        index = int(wanted.partition(":")[2] or 0)
        if index >= count:
            raise StageError(
                f"device {wanted!r} is not here: {count} CUDA device(s) found",
                "write  device: cpu  or  device: auto, or run `gridloom doctor`",
            )
        return f"cuda:{index}"
    return wanted


def make_current(device: str) -> None:
    """Make a GPU the current one of this process; does nothing for `cpu`.

    Pinned memory and the first library handles belong to the current device: without this, a process that computes on
    another GPU would also occupy some hundred MB of the first.
    """
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)


def hardware(device: str, processes: int = 1) -> str:
    """Return the name of the hardware for cards: 'NVIDIA H100 80GB HBM3', or a processor with its threads."""
    import torch

    several = f"{processes} processes of " if processes > 1 else ""
    if device.startswith("cuda"):
        return several + torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{cpu_name()}, {several}{threads} thread{'' if threads == 1 else 's'}"


def device_memory(device: str) -> int:
    """Return the total memory in bytes of a GPU, or of this machine for `cpu`."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def precision_advice(device: str, precision: str) -> str | None:
    """Return a warning for a network in bf16 on a GPU without bf16 instructions; None otherwise."""
    import torch

    if precision != "bf16" or not device.startswith("cuda") or torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    return (
        f"{device} ({hardware(device)}) has no bf16 instructions and emulates them slowly: "
        "write  precision: fp32  for it"
    )
