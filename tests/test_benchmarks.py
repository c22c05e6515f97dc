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
