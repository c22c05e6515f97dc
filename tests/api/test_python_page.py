"""docs/python.md: its examples run, one after the other, and it names the whole API."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gridloom

TEXT = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_page_names_the_whole_api() -> None:
    table = [line for line in TEXT.splitlines() if line.startswith("|")]
    named = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table)))
    assert named == set(gridloom.__all__) - {"__version__"}


def test_the_examples_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDLOOM_HOME", raising=False)
    assert len(EXAMPLES) == 6
    names: dict[str, object] = {}
    printed = []
    for code in EXAMPLES:
        exec(code.replace('budget="60s"', 'budget="1s"'), names)
        printed.append(capsys.readouterr().out)
    compiled, ran, asked, solved, looked, scored = printed
    assert "joint joint_train run never run" in compiled
    assert "GL104 unknown stage kind 'trian'" in compiled
    assert " done " in ran
    assert asked.startswith("[(")
    assert "('mirror.1@" in solved
    assert "True None" in looked
    assert "odd.2+1 1" in looked
    assert " None None " in scored  # the answers of a task of one's own are not known
