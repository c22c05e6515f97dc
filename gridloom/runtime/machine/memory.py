"""Peak memory of a stage, above the memory in use at its start."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

_PEAK = 5
"""Value that resets the peak resident size when written to /proc/PID/clear_refs (proc_pid_clear_refs(5))."""


class MemoryMeter:
    """Meter of peak memory since its construction: GPU memory, or resident memory of this process for `cpu`."""

    def __init__(self, device: str) -> None:
        """Reset earlier peaks. torch is imported first, so that its memory is not attributed to a stage."""
        import torch

        self._cuda = device if torch.device(device).type == "cuda" else None
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)
            self.before = torch.cuda.memory_allocated(self._cuda)
            return
        self._is_reset = False
        _give_back()
        # fails on macOS and where the kernel forbids it: the peak then covers the whole life of the process
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text(str(_PEAK))
            self._is_reset = True
        self.before = _status("VmRSS") or 0

    def peak(self) -> int:
        """Return the peak of bytes in use, by stage and other code together."""
        if self._cuda is not None:
            import torch

            return torch.cuda.max_memory_allocated(self._cuda)
        # ru_maxrss is in KiB on Linux, in bytes on macOS, and never decreases
        return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )

    def grown(self) -> int | None:
        """Return the bytes by which the peak exceeds the use at the start; None if they cannot be measured."""
        if self._cuda is None and not (self._is_reset and self.before):
            return None
        return max(self.peak() - self.before, 0)


def _give_back() -> None:
    """Return freed memory from glibc to the system; a stage that reuses it would seem to need none."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status(field: str) -> int | None:
    """Return a field of /proc/self/status in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None
