"""Typing commands, as a user does in a folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gridloom.cli.main import main

Type = Callable[..., str]


@pytest.fixture
def typist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], Type]:
    """Return what makes, for a folder, a function that types a command there and gives all that was printed."""

    def in_folder(folder: Path) -> Type:
        monkeypatch.chdir(folder)
        monkeypatch.delenv("GRIDLOOM_HOME", raising=False)

        def type_(*words: str | Path, code: int = 0) -> str:
            monkeypatch.setattr(sys, "argv", ["gridloom", *map(str, words)])
            capsys.readouterr()
            with pytest.raises(SystemExit) as stop:
                main()
            captured = capsys.readouterr()
            assert (stop.value.code or 0) == code, captured.out + captured.err
            return captured.out + captured.err

        return type_

    return in_folder
