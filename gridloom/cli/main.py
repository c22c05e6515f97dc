"""The `gridloom` command: assembles the command groups and turns errors into messages and exit codes.

Exit codes: 0 done, 1 a problem the user can mend, 2 wrong usage, 3 `plan` or `diff --exit-code` with work to do,
75 interrupted and resumable, 130 stopped at once.
"""

from __future__ import annotations

import sys

import typer

from gridloom.cli import data_commands, ledger_commands, model_commands, run_commands, runs_commands, spec_commands
from gridloom.errors import GridloomError, SpecError

app = typer.Typer(
    name="gridloom",
    help="Recursive-reasoning research on ARC-AGI: specs, run graphs, a LLaMA+TRM solver loop, a SQL ledger.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (spec_commands, run_commands, runs_commands, ledger_commands, model_commands, data_commands):
    group.register(app)


def main() -> None:
    """Run the command line. User mistakes print one message without a traceback; bugs keep theirs."""
    try:
        app()
    except SpecError as error:
        from gridloom.compiler.render import render

        print(render(error.diagnostics), file=sys.stderr)
        sys.exit(error.exit_code)
    except GridloomError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
