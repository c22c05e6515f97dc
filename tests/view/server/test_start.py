"""Start of the viewer: what a page needs is imported after the server is up."""

from __future__ import annotations

import subprocess
import sys


def test_the_server_is_up_before_what_pages_need_is_imported() -> None:
    heavy = ("numpy", "pydantic", "duckdb", "pyarrow", "torch", "gridloom.compiler", "gridloom.specs")
    program = f"import sys, gridloom.view.server.serve; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
