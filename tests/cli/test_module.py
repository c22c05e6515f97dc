"""`python -m gridloom` is the command `gridloom`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("words", [["--help"], ["attempts", "--help"], ["compile"]])
def test_the_module_is_the_console_script(words: list[str], tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("gridloom")
    by_script, by_module = (
        subprocess.run([*command, *words], capture_output=True, text=True, cwd=tmp_path)
        for command in ([str(script)], [sys.executable, "-m", "gridloom"])
    )
    assert "gridloom" in by_script.stdout + by_script.stderr
    assert by_module.stdout == by_script.stdout
    assert by_module.stderr == by_script.stderr
    assert by_module.returncode == by_script.returncode
