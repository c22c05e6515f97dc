"""Shell of `gridloom sql`: statements end with a semicolon; history is kept, names of tables and columns complete."""

from __future__ import annotations

import cmd
import os
import re
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import IO

from gridloom.cli.show.answers import print_answer, print_warnings
from gridloom.errors import GridloomError
from gridloom.stores.ledger import Ledger

WORDS = (
    *("select", "from", "where", "group by all", "order by", "limit", "join", "using", "left join", "count(*)", "avg("),
    *("round(", "describe", "summarize", "with", "having", "distinct", "desc", "asc", "and", "or", "not", "null"),
)
HISTORY = 2000
"""Statements that are kept."""
_END = re.compile(r";\s*$")


def history_file() -> Path:
    """Return where the history is kept: $GRIDLOOM_SQL_HISTORY, else in the user's state folder."""
    if given := os.environ.get("GRIDLOOM_SQL_HISTORY"):
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_state_dir("gridloom")) / "sql_history"


def _readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:  # some builds of Python have none: the shell then has neither history nor completion
        return None
    return readline


class SqlShell(cmd.Cmd):
    """Loop that reads statements and prints their rows; an error is printed, and the loop goes on.

    Args:
        ledger: the ledger to query; each statement sees what was recorded up to then.
        stdin: where statements are read from; a terminal when absent.
    """

    intro = "SQL over the ledger, read-only. End a statement with ; and see .tables, .columns TABLE, .help, .quit"
    prompt = "gridloom> "

    def __init__(
        self, ledger: Ledger, *, as_json: bool = False, as_csv: bool = False, stdin: IO[str] | None = None
    ) -> None:
        super().__init__(stdin=stdin)
        self._ledger, self._as_json, self._as_csv = ledger, as_json, as_csv
        self._pending: list[str] = []
        if stdin is not None:
            self.use_rawinput = False

    @cached_property
    def tables(self) -> dict[str, list[str]]:
        """Columns by table and view."""
        found: dict[str, list[str]] = {}
        for row in self._ledger.rows(
            "select table_name, column_name from information_schema.columns where table_schema = 'main' "
            "order by table_name not like 'v\\_%' escape '\\', table_name, ordinal_position"
        ):
            found.setdefault(str(row["table_name"]), []).append(str(row["column_name"]))
        return found

    def cmdloop(self, intro: str | None = None) -> None:
        """Read until .quit or the end of input. Ctrl-C drops the statement that is being typed."""
        readline, file = _readline(), history_file()
        if readline is not None and self.use_rawinput:
            readline.set_completer_delims(" \t\n,()=<>*+;")
            with suppress(OSError):
                readline.read_history_file(file)
            readline.set_history_length(HISTORY)
        while True:
            try:
                super().cmdloop(intro)
                break
            except KeyboardInterrupt:
                print()
                self._reset()
                intro = ""
        if readline is not None and self.use_rawinput:
            with suppress(OSError):
                file.parent.mkdir(parents=True, exist_ok=True)
                readline.write_history_file(file)

    def onecmd(self, line: str) -> bool:
        """Take a line: a dot command, or a part of a statement. Returns whether to end."""
        if line == "EOF":
            if self.use_rawinput:
                print()
            return True
        if not self._pending and line.strip().startswith("."):
            return self._command(line.strip())
        if not self._pending and not line.strip():
            return False
        self._pending.append(line)
        if _END.search(line):
            text = "\n".join(self._pending)
            self._reset()
            self._run(_END.sub("", text))
        else:
            self.prompt = "     ...> "
        return False

    def _reset(self) -> None:
        self._pending.clear()
        self.prompt = type(self).prompt

    def _command(self, line: str) -> bool:
        word, _, rest = line.partition(" ")
        if word in (".quit", ".exit"):
            return True
        if word == ".tables":
            self._guarded(lambda: print("\n".join(self.tables)))
        elif word in (".columns", ".schema") and rest:
            self._run(f'describe "{rest.strip()}"')
        else:
            print(".tables          tables and views\n.columns TABLE   its columns\n.quit            or Ctrl-D")
        return False

    def _run(self, text: str) -> None:
        def work() -> None:
            answer = self._ledger.answer(text)
            print_warnings(self._ledger)
            self._ledger.warnings.clear()
            print_answer(answer, self._as_json, self._as_csv)

        self._guarded(work)

    def _guarded(self, work: object) -> None:
        assert callable(work)
        try:
            work()
        except GridloomError as error:
            print(error)

    def completenames(self, text: str, *ignored: object) -> list[str]:
        """Return dot commands, words of SQL, tables and columns that begin so."""
        return self._begun(text)

    def completedefault(self, *given: object) -> list[str]:
        """Return what begins as the word before the cursor."""
        return self._begun(str(given[0]))

    def _begun(self, text: str) -> list[str]:
        names: list[str] = [".tables", ".columns", ".quit", *WORDS]
        with suppress(GridloomError):
            names += [*self.tables, *(column for columns in self.tables.values() for column in columns)]
        return [name for name in dict.fromkeys(names) if name.startswith(text)]
