"""Every script in benchmarks/ can be imported. mypy checks them too, but skips packages without types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
IMPORT_EACH = """
import importlib, pathlib, sys, traceback
for path in sorted(pathlib.Path.cwd().glob("*.py")):
    try:
        importlib.import_module(path.stem)
    except Exception:
        traceback.print_exc()
        print(path.name, "cannot be imported")
    else:
        print(path.name)
"""


def test_every_benchmark_can_be_imported() -> None:
    scripts = sorted(path.name for path in BENCHMARKS.glob("*.py"))
    found = subprocess.run([sys.executable, "-c", IMPORT_EACH], cwd=BENCHMARKS, capture_output=True, text=True)
    assert "four_bit.py" in scripts
    assert found.stdout.splitlines() == scripts, found.stderr


def test_the_processor_is_named_with_the_instruction_sets_that_it_has_and_lacks(tmp_path: Path) -> None:
    told = {}
    for name, flags in (("with", "fpu avx2 avx512f avx512_bf16 amx_bf16"), ("without", "fpu avx2"), ("absent", None)):
        file = tmp_path / name
        if flags is not None:
            cores = f"model name\t: Some CPU\nflags\t\t: {flags}\n\n" * 2
            file.write_text(cores)
        code = f"from pathlib import Path; from processor import instructions; print(instructions(Path({str(file)!r})))"
        done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
        told[name] = done.stdout.strip()
    sets = "AVX2, AVX512, AVX512-BF16, AMX"
    assert told["with"] == f"Some CPU; has {sets}; lacks none of {sets}"
    assert told["without"] == f"Some CPU; has AVX2; lacks AVX512, AVX512-BF16, AMX of {sets}"
    assert told["absent"].endswith("instruction sets unknown")
