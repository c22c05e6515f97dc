"""Commands on the pages: each parses as typed and runs, names recipes and fields that exist; links lead somewhere."""

from __future__ import annotations

import re
import shlex
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from page_commands import WAYS, typed, way_of
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


def run_commands() -> dict[str, str]:
    """Return the commands of all pages but the how-tos, without `gridloom`, with a page that has them."""
    pages = [page for page in PAGES if not page.name.startswith("howto_")]
    return {text.removeprefix("gridloom ").strip(): page.name for page in pages for _, text in commands(page)}


def lines_of(how: str, names: dict[str, str]) -> dict[str, int | None]:
    """Return what is typed for all commands of one way, in the order of the table, with the exit status."""
    found = [text for text in run_commands() if way_of(text).how == how]
    found.sort(key=lambda text: WAYS.index(way_of(text)))
    return {typed(text, names): way_of(text).status for text in found}


def type_all(type_: Callable[..., str], lines: dict[str, int | None]) -> None:
    assert lines
    wrong = []
    for line, status in lines.items():
        try:
            shown = type_(*shlex.split(line), code=status)
            wrong += [f"{line}: {shown}"] if "Traceback" in shown else []
        except AssertionError as error:
            wrong.append(f"{line}: {str(error).partition('assert ')[0]}")
    assert wrong == [], "\n".join(wrong)


def test_every_command_outside_the_how_tos_has_a_way_to_be_run_or_a_reason() -> None:
    found = run_commands()
    used = {way_of(text).pattern for text in found}
    assert [way.pattern for way in WAYS if way.pattern not in used] == []
    assert [way.pattern for way in WAYS if (way.how in ("planned", "not run")) != bool(way.reason)] == []


SWEPT = """\
gridloom: 1
extends: sudoku4
name: r6
sweep: {stages.learn.optimizer.lr: [1.0e-3, 4.0e-3]}
"""
TASK = '{"train": [{"input": [[1, 0]], "output": [[0, 1]]}, {"input": [[2, 3]], "output": [[3, 2]]}], "test": []}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the specs and tasks that pages speak of."""
    (tmp_path / "r6.yaml").write_text(SWEPT)
    (tmp_path / "slowly.yaml").write_text("gridloom: 1\nextends: sudoku4\nname: slowly\n")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mirror.json").write_text(TASK.replace("[]}", '[{"input": [[4, 5]], "output": [[5, 4]]}]}'))
    return tmp_path


def test_commands_that_need_no_run_do_what_pages_say(
    folder: Path, typist: Callable[[Path], Callable[..., str]]
) -> None:
    type_all(typist(folder), lines_of("light", {}))


@pytest.mark.slow
def test_trainings_of_pages_are_planned(folder: Path, typist: Callable[[Path], Callable[..., str]]) -> None:
    type_all(typist(folder), lines_of("planned", {}))


@pytest.mark.slow
def test_commands_about_a_ledger_run_on_a_recorded_one(
    tmp_path: Path, typist: Callable[[Path], Callable[..., str]]
) -> None:
    with tarfile.open(ROOT / "tests" / "compatibility" / "workspace-d473133.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    type_ = typist(tmp_path)
    run = "2026-11-30T14-39-06"
    names = [line.split()[0] for line in type_("attempts", "--run", run, "--stage", "solve").splitlines()[1:3]]
    type_all(type_, lines_of("ledger", {"NAME": names[0], "OTHER": names[1], "RUN": run}))
