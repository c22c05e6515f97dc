"""Help of the command line: commands in groups, whole first sentences, `-h`, and near names that reach every group."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperGroup

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
"""Settings of the root's context, which those of all commands inherit."""


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring on one line, without its full stop."""
    line = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"\.(?=\s|$)", line, maxsplit=1)[0]


class GroupedCommands(TyperGroup):
    """Group whose help lists its commands under headings, with a whole sentence each."""

    headings: Mapping[str, Sequence[str]] = {}
    """Commands by heading; those under none are listed last."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by heading; names are aligned over all headings."""
        shown = {name: command for name in self.list_commands(ctx) if not (command := self.commands[name]).hidden}
        placed = {name for names in self.headings.values() for name in names}
        rest = [name for name in shown if name not in placed]
        width = max(map(len, shown), default=0)
        for heading, names in (*self.headings.items(), ("Commands" if not placed else "Others", rest)):
            rows = [(name.ljust(width), first_sentence(shown[name].help or "")) for name in names if name in shown]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
