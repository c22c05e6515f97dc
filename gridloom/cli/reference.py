"""Reference pages of the docs site, made from the code: commands, diagnostics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def reference_pages() -> dict[str, str]:
    """Return the text of each page in Markdown by its path below docs/."""
    return {
        "reference/commands.md": commands_page(),
        "reference/diagnostics.md": diagnostics_page(),
    }


def commands_page() -> str:
    """Return every command with its arguments and options."""
    import typer

    from gridloom.cli.main import make_app

    root = typer.main.get_command(make_app())
    parts = ["# Commands\n\nEach line of `gridloom --help`, with all options. `--help` of a command prints the same.\n"]
    for path, command in _commands(root, ("gridloom",)):
        parts.append(f"## {' '.join(path)}\n\n{_prose(command.help or '')}\n")
        rows = [_parameter(one) for one in command.params if one.name != "help"]
        if rows:
            parts.append(_table(("argument or option", "default", ""), rows))
    return "\n".join(parts)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (words, command) of each command that does something, in the order of the help."""
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    if not inner or getattr(command, "invoke_without_command", False):
        yield path, command
    for name, one in inner.items():
        yield from _commands(one, (*path, name))


def _parameter(one: Any) -> tuple[str, str, str]:
    names = ", ".join((*one.opts, *one.secondary_opts)) if one.param_type_name == "option" else ""
    metavar = one.metavar or ("" if getattr(one, "is_flag", False) else (one.name or "").upper())
    default = "" if one.default in (None, False, [], ()) or callable(one.default) else str(one.default)
    return (
        _code(f"{names} {metavar}".strip()),
        _code(default) if default else "",
        _prose(getattr(one, "help", "") or ""),
    )


def diagnostics_page() -> str:
    """Return every diagnostic: what was found, why it is refused, an example and the same one mended."""
    from gridloom.compiler.codes.listing import CODES

    parts = ["# Diagnostics\n\n`gridloom explain CODE` prints the same.\n"]
    for code in CODES:
        parts.append(
            f"## {code.code}: {_prose(code.title)}\n\n{_prose(code.what)}\n\n{_prose(code.why)}\n\n"
            f"{'A warning' if code.severity == 'warning' else 'Refused'}:\n\n{_block(code.bad.shown())}\n"
            f"Mended:\n\n{_block(code.mended.shown())}"
        )
    return "\n".join(parts)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _code(text: str) -> str:
    mark = "``" if "`" in text else "`"
    return f"{mark}{text}{mark}"


def _prose(text: str) -> str:
    """Return text on one line in which no markup is read but code between backticks."""
    parts = " ".join(text.split()).split("`")
    escaped = [part if number % 2 else _plain(part) for number, part in enumerate(parts)]
    return "`".join(escaped)


def _plain(text: str) -> str:
    for character in "\\*_[]<>#":
        text = text.replace(
            character, f"\\{character}" if character not in "<>" else {"<": "&lt;", ">": "&gt;"}[character]
        )
    return text


def _block(text: str) -> str:
    longest = max((len(run) for run in text.split("\n") if set(run) == {"`"}), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}yaml\n{text}\n{fence}\n"
