"""Tests that protect decisions rather than behaviour."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "langgraph", "duckdb", "numba", "pyarrow", "httpx")


def test_the_command_line_starts_without_what_only_some_commands_need() -> None:
    """`gridloom --help` and shell completion are typed often."""
    late = ("pydantic", "yaml", "rich", "gridloom.specs.base", "gridloom.compiler.compile")
    code = f"import sys, gridloom.cli.main; print([m for m in {late!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["gridloom.cli.main", "gridloom.compiler.language", "gridloom.compiler.compile"])
def test_importing_the_front_end_loads_no_heavy_package(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_compiling_quickstart_from_the_shell_loads_no_heavy_package() -> None:
    code = (
        "import sys; sys.argv = ['gridloom', 'compile', 'quickstart'];"
        "from gridloom.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
