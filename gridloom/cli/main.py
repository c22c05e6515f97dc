"""The `gridloom` command: assembles the command groups and turns errors into messages and exit codes.

Exit codes: 0 done, 1 a problem the user can mend, 2 wrong usage, 3 `plan --exit-code` with work to do, 75 interrupted
and resumable, 130 stopped at once.
"""

from __future__ import annotations

import os
import sys

import click
import typer

from gridloom.cli import data_commands, ledger_commands, model_commands, run_commands, spec_commands
from gridloom.errors import GridloomError, SpecError

app = typer.Typer(
    name="gridloom",
    help="Recursive-reasoning research on ARC-AGI: specs, run graphs, a LLaMA+TRM solver loop, a SQL ledger.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (spec_commands, run_commands, ledger_commands, model_commands, data_commands):
    group.register(app)


def main() -> None:
    """Run the command line. User mistakes print one message without a traceback; bugs keep theirs."""
    try:
        code = app(standalone_mode=False)
    except SpecError as error:
        from gridloom.compiler.render import render

        print(render(error.diagnostics), file=sys.stderr)
        sys.exit(error.exit_code)
    except GridloomError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; what was recorded is kept", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe went away (`gridloom sql ... | head`): not an error, and nothing may be printed any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
