"""Devices: what `auto` means here, and what a device is called."""

from __future__ import annotations

import os

from gridloom.errors import StageError
from gridloom.runtime.machine.speeds import cpu_name


def resolve_device(wanted: str) -> str:
    """Return a torch device string for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        StageError: the wanted device is not on this machine.
    """
    import torch

    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda"):
        count = torch.cuda.device_count()
        index = int(wanted.partition(":")[2] or 0)
        if index >= count:
            raise StageError(
                f"device {wanted!r} is not here: {count} CUDA device(s) found",
                "say  device: cpu  or  device: auto, or run `gridloom doctor`",
            )
        return f"cuda:{index}"
    return wanted


def hardware(device: str, processes: int = 1) -> str:
    """Return what work ran on, as a card tells it: 'NVIDIA H100 80GB HBM3', or a processor with its threads."""
    import torch

    several = f"{processes} processes of " if processes > 1 else ""
    if device.startswith("cuda"):
        return several + torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{cpu_name()}, {several}{threads} thread{'' if threads == 1 else 's'}"


def device_memory(device: str) -> int:
    """Return the bytes of memory that a GPU, or this machine, has in all."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def precision_advice(device: str, precision: str) -> str | None:
    """Say what a GPU without bf16 instructions means for a network that runs in bf16; None where all is well."""
    import torch

    if precision != "bf16" or not device.startswith("cuda") or torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    return (
        f"{device} ({hardware(device)}) has no bf16 instructions and emulates them slowly: say  precision: fp32  for it"
    )
