"""The `gridloom` command: assembly of the command groups, and messages and exit statuses of errors.

Exit statuses: 0 done, 1 a problem that the user can repair, 2 wrong usage, 3 `plan` or `diff --exit-code` with work to
do, 75 interrupted and resumable, 130 stopped at once,
141 the reader of the output left.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from gridloom.cli.help import SETTINGS, GroupedCommands
from gridloom.cli.output import terminal_output
from gridloom.errors import GridloomError, SpecError, StoreError

STOPPED = 128 + 2
"""Exit status of a command that Ctrl-C stopped at once, as of a process that SIGINT ended."""
GROUPS = {
    "specs": ("compile", "validate", "explain", "diff", "init", "specs"),
    "run": ("plan", "run"),
    "solve": ("solve",),
    "evaluate": ("evaluate",),
    "runs": ("runs",),
    "artifacts": ("artifacts", "gc"),
    "sql": ("sql",),
    "plot": ("plot",),
    "tasks": ("tasks",),
    "ledger": ("attempts", "attempt", "replay"),
    "models": ("models", "doctor", "bench", "paths", "concepts"),
    "text": ("generate", "chat"),
    "plugins": ("plugins",),
    "programs": ("programs",),
    "data": ("data",),
    "state": ("state", "stage"),
    "view": ("view", "report", "watch"),
    "cluster": ("cluster",),
}
"""Modules of `commands` with the commands that each registers."""
HEADINGS = {
    "Start": ("init", "specs", "models", "doctor"),
    "Write a spec": ("compile", "validate", "explain", "diff", "plan"),
    "Run": ("run", "solve", "evaluate", "stage", "state", "cluster"),
    "Look at results": ("view", "watch", "report", "runs", "tasks", "attempts", "attempt", "replay", "sql", "plot"),
    "Use an engine": ("generate", "chat", "bench", "paths", "concepts"),
    "Data and programs": ("data", "programs"),
    "Keep house": ("artifacts", "gc", "plugins"),
}
"""Commands by heading of the help; one that is under none is listed last."""


class _Commands(GroupedCommands):
    headings = HEADINGS


def _version(wanted: bool) -> None:
    if wanted:
        from gridloom.version import __version__

        print(f"gridloom {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Recursive-reasoning research on ARC-AGI: specs, run graphs, a LLaMA+TRM solver loop, a SQL ledger.

    `gridloom COMMAND -h` has more. Begin with `gridloom solve quickstart`, or `gridloom init NAME`.

    Exit status: 0 done, 1 something to repair or a difference that was asked for, 2 wrong usage, 3 `plan --exit-code`
    with work to do, 75 interrupted and saved: the same command goes on, 130 stopped at once by Ctrl-C.
    """


def make_app(word: str = "") -> typer.Typer:
    """Assemble the command line; with the name of a command, its group alone, since preparing all takes a while."""
    app = typer.Typer(
        name="gridloom",
        cls=_Commands,
        context_settings=SETTINGS,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    wanted = [group for group, commands in GROUPS.items() if word in commands] or list(GROUPS)
    for group in wanted:
        importlib.import_module(f"gridloom.cli.commands.{group}").register(app)
    for inner in app.registered_groups:
        if inner.typer_instance is not None:
            inner.typer_instance.info.cls = GroupedCommands  # whole sentences there, too
    return app


def main() -> None:
    """Run the command line. User mistakes print one message without a traceback; bugs keep theirs."""
    with terminal_output():
        _main()


QUERIES = ("sql", "attempts", "attempt", "replay", "runs")
"""Commands whose arguments reach the ledger, which holds UTF-8 alone."""


def _check_utf8(words: Sequence[str]) -> None:
    """Raise StoreError for an argument of a query that is not UTF-8: Python holds its bytes as surrogates."""
    for number, word in enumerate(words, start=1):
        if words[0] in QUERIES and not word.isascii() and word.encode(errors="replace") != word.encode(errors="ignore"):
            raise StoreError(
                f"argument {number} of gridloom {words[0]} is not UTF-8 text: {word!r}", "type it in a UTF-8 terminal"
            )


def _main() -> None:
    try:
        _check_utf8(sys.argv[1:])
        make_app(sys.argv[1] if len(sys.argv) > 1 else "")(prog_name="gridloom")
    except KeyboardInterrupt:  # while commands are loaded; typer has its own handler for the time after that
        sys.exit(STOPPED)
    except SpecError as error:
        from gridloom.cli.show.diagnostics import print_diagnostics

        print_diagnostics(error.diagnostics)
        sys.exit(error.exit_code)
    except GridloomError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        # a file that cannot be read or written is the user's to mend; one without a name is a bug, or a closed pipe
        if error.filename is None or isinstance(error, FileNotFoundError):
            raise
        from pathlib import Path

        from gridloom.stores.files.disk import storage_error

        problem = storage_error(error, "use a file", Path(str(error.filename)))
        print(problem, file=sys.stderr)
        sys.exit(problem.exit_code)
