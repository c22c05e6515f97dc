"""Every script in benchmarks/ can be imported. mypy checks them too, but skips packages without types."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

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


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script benchmarks/on_gpu.py as a module."""
    spec = importlib.util.spec_from_file_location("on_gpu", BENCHMARKS / "on_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "on_gpu", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_budgets_before_the_sprint_leave_it_six_of_twelve_minutes(on_gpu: ModuleType) -> None:
    options = argparse.Namespace(device="cuda:0", small=False, peer=Path("peer"), more=False)
    parts = on_gpu.parts(options)
    assert [part.name for part in parts] == ["tests", "floor_on", "floor_graphs", "training", "evaluation"]
    assert sum(part.budget_s for part in parts) + on_gpu.SPRINT_S <= 12 * 60
    assert sum(word.endswith(".py") and "test_gpu" in word for word in parts[0].command) == 3


def test_packages_that_a_bare_machine_lacks_are_pinned(on_gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_gpu.lacking() == []
    monkeypatch.setattr(on_gpu, "is_here", lambda name: name in ("torch", "numpy", "pydantic"))
    lacking = on_gpu.lacking()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lacking), lacking
    names = {line.split("==")[0] for line in lacking}
    assert {"duckdb", "numba", "transformers", "pytest", "bitsandbytes"} <= names
    assert not {"torch", "numpy", "pydantic"} & names


def test_a_part_that_runs_out_of_time_is_killed_with_its_children(on_gpu: ModuleType, tmp_path: Path) -> None:
    part = on_gpu.Part("sleep", ("sh", "-c", "echo began; sleep 60 & wait"), 0.5)
    done = on_gpu.run(part, 0.5, tmp_path, "cpu", tmp_path)
    assert done.code == 124
    assert "began" in (tmp_path / "log.txt").read_text()


def test_the_processor_is_named_with_the_instruction_sets_that_it_has_and_lacks(tmp_path: Path) -> None:
    printed = {}
    for name, flags in (("with", "fpu avx2 avx512f avx512_bf16 amx_bf16"), ("without", "fpu avx2"), ("absent", None)):
        file = tmp_path / name
        if flags is not None:
            cores = f"model name\t: Some CPU\nflags\t\t: {flags}\n\n" * 2
            file.write_text(cores)
        code = f"from pathlib import Path; from processor import instructions; print(instructions(Path({str(file)!r})))"
        done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
        printed[name] = done.stdout.strip()
    sets = "AVX2, AVX512, AVX512-BF16, AMX"
    assert printed["with"] == f"Some CPU; has {sets}; lacks none of {sets}"
    assert printed["without"] == f"Some CPU; has AVX2; lacks AVX512, AVX512-BF16, AMX of {sets}"
    assert printed["absent"].endswith("instruction sets unknown")
