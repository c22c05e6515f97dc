"""Commands on the pages: each parses as typed, names recipes and fields that exist, and links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

import gridloom
from gridloom.cli.main import make_app
from gridloom.compiler.text.library import recipe_names

ROOT = Path(gridloom.__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "halting").glob("*.md"))]
APP = get_command(make_app())
_ENDS = re.compile(r"\s(?:#|\||>|&&|;|2>)\s?.*$|\s+\.\.\.$")
SKIPPED = ("...", "|", "[", "$(", "<", "--install-completion")
"""Marks of alternatives, of what a shell fills in, and of the option that would change the user's shell."""
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def commands(page: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, command) of lines that a reader types: in blocks, with `$ ` or without, and in `code`."""
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    fenced = False
    for number, line in lines:
        fenced ^= line.startswith("```")
        in_block = fenced or line.startswith(("    ", "$ "))
        whole = line.strip().removeprefix("$ ") if in_block else ""
        while whole.endswith("\\"):
            whole = whole[:-1] + next(lines)[1].strip()
        if whole.startswith("gridloom "):
            yield number, _ENDS.sub("", whole)
        else:
            for text in re.findall(r"`(gridloom [^`]+)`", line):
                yield number, _ENDS.sub("", text)


def parse(words: list[str]) -> None:
    """Parse a command line, all options and arguments checked, without running it. Raises as the command line."""
    context = APP.make_context("gridloom", words[:], resilient_parsing=False)
    command = APP
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, command, words = command.resolve_command(context, rest)
        context = command.make_context(name, words, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_parses(page: Path) -> None:
    wrong = []
    for number, text in commands(page):
        try:
            words = shlex.split(text)[1:]
        except ValueError:
            continue  # cut off at a line's end, or an alternative in prose
        if (
            any(mark in text for mark in ("...", "|", "[", "$(", "<", "--install-completion"))
            or words[:1] == []
            or words[0].isupper()
        ):
            continue
        try:
            parse(words)
        except typer.Exit:
            continue  # -h and --version
        except Exception as error:
            message = error.format_message()  # type: ignore[attr-defined]  # of every usage error, and of no other
            if not (len(words) <= 2 and "Missing" in message):  # a command that is named, without its arguments
                wrong.append(f"{page.name}:{number}: {text}: {message}")
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_that_commands_name_exist(page: Path) -> None:
    known, wrong = set(recipe_names()), []
    for number, text in commands(page):
        words = text.split()
        if len(words) > 2 and words[1] in ("run", "plan", "solve", "compile", "validate") and "SPEC" not in text:
            spec = words[2]
            if re.fullmatch(r"[a-z][a-z0-9_-]*", spec) and "-" in spec and spec not in known:
                wrong.append(f"{page.name}:{number}: {spec}")
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    links = _LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
