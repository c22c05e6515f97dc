"""Command lines that messages propose, quoted so that a shell takes them as they are printed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def command_line(
    name: str,
    spec: str,
    overrides: Sequence[str] | None,
    *arguments: object,
    finished_early: Sequence[str] | None = None,
    quiet: bool = False,
    wait: bool = False,
    axes: Sequence[str] | None = None,
    **options: object,
) -> str:
    """Return the command line with these arguments.

    Args:
        name: words of the command, such as `stage finish`.
        arguments: arguments after the spec.
        axes: axes of a sweep.
        options: values by option without its dashes; one that is None is left out.
    """
    words = ["gridloom", *name.split(), spec, *map(str, arguments)]
    for value in overrides or ():
        words += ["--set", value]
    for axis in axes or ():
        words += ["-m", axis]
    for stage in finished_early or ():
        words += ["--finished-early", stage]
    for option, given in options.items():
        words += [] if given is None else [f"--{option}", f"{given:g}" if isinstance(given, float) else str(given)]
    return shlex.join([*words, *(["--wait"] if wait else []), *(["-q"] if quiet else [])])
