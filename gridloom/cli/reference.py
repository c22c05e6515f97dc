"""Reference pages of the docs site, made from the code: commands, fields of a spec, diagnostics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def reference_pages() -> dict[str, str]:
    """Return the text of each page in Markdown by its path below docs/."""
    return {
        "reference/commands.md": commands_page(),
        "reference/spec.md": spec_page(),
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


def spec_page() -> str:
    """Return every field of a spec with its type, default and description, from the JSON Schema."""
    from gridloom.compiler.schema import json_schema

    schema = json_schema()
    parts = [
        "# Fields of a spec\n\nMade from the JSON Schema that `gridloom specs schema` prints. A field without a "
        "default must be given; `${vars.NAME}` stands for any number, flag or list.\n",
        "## The spec\n",
        _fields(schema),
    ]
    for name, node in sorted(schema["definitions"].items(), key=lambda item: _heading(*item)):
        if "properties" in node:
            text = _prose(node.get("description", ""))
            parts.append(f"## {_heading(name, node)}\n\n{text}\n\n{_fields(node)}")
    return "\n".join(parts)


def _heading(name: str, node: Mapping[str, Any]) -> str:
    """Return the heading of a part of the language: its kind, where it has one, and its name."""
    shown = name.rpartition("__")[2] + (f" of {name.split('__')[2]}" if "__" in name else "")
    kind = node.get("properties", {}).get("kind", {}).get("const")
    return f"{shown} (kind: {kind})" if kind else shown


def _fields(node: Mapping[str, Any]) -> str:
    required = set(node.get("required", ()))
    rows = []
    for name, field in node.get("properties", {}).items():
        if "const" in field and name == "kind":
            continue
        default = ""
        if "default" in field and name not in required:
            default = _code("null" if field["default"] is None else _json(field["default"]))
        rows.append((_code(name), _type(field), default, _prose(field.get("description", ""))))
    return _table(("field", "type", "default", ""), rows) if rows else "No fields of its own.\n"


def _type(field: Mapping[str, Any]) -> str:
    """Return the type of a field in short words; variables, which any leaf may be, are left out."""
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2].rpartition("__")[2])
    if "const" in field:
        return _code(_json(field["const"]))
    if "enum" in field:
        return ", ".join(_code(_json(value)) for value in field["enum"])
    for union in ("anyOf", "oneOf", "allOf"):
        if union in field:
            found = [_type(one) for one in field[union] if "vars" not in str(one.get("pattern", ""))]
            return " or ".join(dict.fromkeys(one for one in found if one))
    named = str(field.get("type", "any"))
    if named == "array":
        return (
            f"list of {_type(field['items'])}" if isinstance(field.get("items"), Mapping) and field["items"] else "list"
        )
    bounds = [
        f"{sign} {field[bound]:g}"
        for bound, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if isinstance(field.get(bound), int | float)
    ]
    words = {"object": "mapping", "string": "text", "integer": "whole number", "boolean": "true or false"}
    return words.get(named, named) + (f" {' and '.join(bounds)}" if bounds else "")


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


def _json(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


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
