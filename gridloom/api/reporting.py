"""Progress for scripts: the command line's bars where they are asked for, else nothing at all."""

from __future__ import annotations

from gridloom.progress import Progress


def reporter(shown: bool) -> Progress:
    """Return a reporter that draws on the terminal, or one that is silent."""
    from gridloom.cli.show.progress import reporter
    from gridloom.cli.show.terminal import Terminal

    return reporter(Terminal(), quiet=not shown)
