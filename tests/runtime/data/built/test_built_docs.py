"""Examples of docs/engine_data.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gridloom.runtime.data.built.store import read_manifest

PAGE = Path(__file__).parents[4] / "docs" / "engine_data.md"


def test_the_builder_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(PAGE), "exec"), {})
    assert capsys.readouterr().out == "500 rows in ['consolidated_000.pt']\n"
    assert read_manifest(tmp_path / "songs").complete
