"""How much memory a stage needs at its peak, beyond what was there when it began."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

_PEAK = 5
"""What /proc/PID/clear_refs takes to forget the highest resident size so far (proc_pid_clear_refs(5))."""


class MemoryMeter:
    """Measures from its making on: of the device where that is a GPU, else resident memory of this process."""

    def __init__(self, device: str) -> None:
        """Forget earlier peaks. torch is loaded first, since no stage should be charged for it."""
        import torch

        self._cuda = device if torch.device(device).type == "cuda" else None
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)
            self.before = torch.cuda.memory_allocated(self._cuda)
            return
        self._is_reset = False
        _give_back()
        # not on macOS, nor where the kernel forbids it: then the peak is that of the whole life of the process
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text(str(_PEAK))
            self._is_reset = True
        self.before = _status("VmRSS") or 0

    def peak(self) -> int:
        """Return the most bytes in use at once, whatever for."""
        if self._cuda is not None:
            import torch

            return torch.cuda.max_memory_allocated(self._cuda)
        # ru_maxrss is in KiB on Linux, in bytes on macOS, and never goes back
        return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )

    def grown(self) -> int | None:
        """Return by how much the peak exceeds what was in use at the start; None where that cannot be told."""
        if self._cuda is None and not (self._is_reset and self.before):
            return None
        return max(self.peak() - self.before, 0)


def _give_back() -> None:
    """Hand freed memory back to the system: glibc keeps it, and a stage that takes it again would seem to need none."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status(field: str) -> int | None:
    """Return a figure of /proc/self/status in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None
