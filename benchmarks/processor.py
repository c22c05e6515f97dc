"""Instruction sets of the processor that decide ratios to a peer: print them beside every ratio.

    python benchmarks/processor.py

On a CPU without bf16 instructions gridloom takes bf16 products in fp32 and the original emulates them; on one with them
both use them, so the same command gives another ratio.
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import torch

SETS = {"AVX2": "avx2", "AVX512": "avx512f", "AVX512-BF16": "avx512_bf16", "AMX": "amx_bf16"}
"""Name in reports and flag in /proc/cpuinfo of each."""


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name with the sets that it has and lacks; `unknown` where the file is not there."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.processor() or platform.machine()}, instruction sets unknown"
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(named.get("flags", "").split())
    has = [name for name, flag in SETS.items() if flag in flags]
    lacks = [name for name, flag in SETS.items() if flag not in flags]
    return (
        f"{named.get('model name', platform.machine())}; has {', '.join(has) or 'none'}; "
        f"lacks {', '.join(lacks) or 'none'} of {', '.join(SETS)}"
    )


def conditions() -> str:
    """Return what ratios depend on: processor and instructions, threads, and versions of the libraries."""
    with_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    built = f"{'with' if with_onednn else 'without'} oneDNN, {torch.backends.cpu.get_cpu_capability()}"
    return (
        f"{instructions()}; {torch.get_num_threads()} threads; Python {platform.python_version()}, "
        f"torch {torch.__version__} ({built}), numpy {np.__version__}"
    )


if __name__ == "__main__":
    print(conditions())
