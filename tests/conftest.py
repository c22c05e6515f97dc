"""Fixtures that all packages' tests share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gridloom.cli.main import main
from gridloom.stores.workspace import Workspace

Type = Callable[..., str]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace of its own."""
    return Workspace(tmp_path / "gridloom")


@pytest.fixture
def typist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], Type]:
    """Return what makes, for a folder, a function that types a command there and gives all that was printed.

    The exit status is `code`; any where that is None.
    """

    def in_folder(folder: Path) -> Type:
        monkeypatch.chdir(folder)
        monkeypatch.delenv("GRIDLOOM_HOME", raising=False)

        def type_(*words: str | Path, code: int | None = 0) -> str:
            monkeypatch.setattr(sys, "argv", ["gridloom", *map(str, words)])
            capsys.readouterr()
            with pytest.raises(SystemExit) as stop:
                main()
            captured = capsys.readouterr()
            assert code is None or (stop.value.code or 0) == code, captured.out + captured.err
            return captured.out + captured.err

        return type_

    return in_folder
