"""The command line assembled group by group: a single group is the same as all of them."""

from __future__ import annotations

import importlib
import sys

import pytest
import typer
from typer.main import get_command

import gridloom.cli.main
from gridloom.cli.main import GROUPS, make_app


def names(app: typer.Typer) -> list[str]:
    return list(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_registers_the_commands_that_are_said_of_it(group: str) -> None:
    app = typer.Typer(add_completion=False)
    app.callback()(lambda: None)  # as the root has: without it a single command would take its name for an argument
    importlib.import_module(f"gridloom.cli.commands.{group}").register(app)
    assert set(names(app)) == set(GROUPS[group])


def test_a_known_command_gets_its_group_and_anything_else_gets_all() -> None:
    everything = [name for commands in GROUPS.values() for name in commands]
    assert set(names(make_app("plan"))) == set(GROUPS["run"])
    for word in ("", "--help", "compil", "-q"):
        assert sorted(names(make_app(word))) == sorted(everything)


def test_a_stop_while_commands_are_loaded_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(word: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gridloom.cli.main, "make_app", stopped)
    monkeypatch.setattr(sys, "argv", ["gridloom", "plan", "sudoku4"])
    with pytest.raises(SystemExit) as stop:
        gridloom.cli.main.main()
    assert stop.value.code == 130
