"""Tests that protect decisions rather than behaviour."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import gridloom

PACKAGE = Path(gridloom.__file__).parent
TESTS = Path(__file__).parent
UNMIRRORED = {"support", "compatibility", "plugins", "campaign"}
"""Folders of tests that stand for no folder of the package."""
HEAVY = ("torch", "transformers", "langgraph", "duckdb", "numba", "pyarrow", "httpx")


def test_the_command_line_starts_without_what_only_some_commands_need() -> None:
    """`gridloom --help` and shell completion are typed often."""
    late = ("pydantic", "yaml", "rich", "gridloom.specs.base", "gridloom.compiler.compile")
    code = f"import sys, gridloom.cli.main; print([m for m in {late!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["gridloom.cli.main", "gridloom.compiler.language", "gridloom.compiler.compile"])
def test_importing_the_front_end_loads_no_heavy_package(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_family_declares_loads_no_heavy_package() -> None:
    """The compiler reads kind, spec, cost and facts of every family of models."""
    parts = ("kind", "spec", "cost", "facts")
    files = [path for part in parts for path in sorted((PACKAGE / "runtime" / "models").glob(f"**/{part}.py"))]
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]
    assert len(modules) > 12
    code = f"import sys, {', '.join(modules)}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_folders_are_maps() -> None:
    """At most 20 loose modules a folder, and an `__init__.py` that holds its line alone, but for the public one."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    for folder in folders:
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 20, folder
        tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        assert folder == PACKAGE or len(tree.body) == 1, folder
        assert ast.get_docstring(tree), folder


def test_compiling_quickstart_from_the_shell_loads_no_heavy_package() -> None:
    code = (
        "import sys; sys.argv = ['gridloom', 'compile', 'quickstart'];"
        "from gridloom.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_every_file_of_the_package_is_in_the_wheel() -> None:
    """setuptools takes modules of folders with an `__init__.py`, and data that a pattern of pyproject.toml names."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["gridloom"]
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    modules = {path for path in files if path.suffix == ".py"}
    assert files - modules == {path for pattern in patterns for path in PACKAGE.glob(pattern) if path.is_file()}
    assert [str(path) for path in modules if not (path.parent / "__init__.py").is_file()] == []
    assert all([*PACKAGE.glob(pattern)] for pattern in patterns)


def test_names_of_test_files_are_unique_and_their_folders_those_of_the_package() -> None:
    """pytest imports a test module by its file name alone."""
    found = [path.relative_to(TESTS) for path in TESTS.rglob("*.py") if path.name != "conftest.py"]
    assert [name for name, count in Counter(path.name for path in found).items() if count > 1] == []
    folders = {path.parent for path in found if not UNMIRRORED.intersection(path.parts)}
    assert [str(folder) for folder in folders if not (PACKAGE / folder / "__init__.py").is_file()] == []


LOCKS, WRITE_ASIDE = "stores/files/locks.py", "stores/files/write_aside.py"
RENAMING = {"os": {"rename", "renames", "replace"}, "shutil": {"move"}, "Path": {"rename", "replace"}}
"""Functions of the standard library that rename files, by module or class."""


def locks_and_renames(source: str) -> Iterator[tuple[str, str]]:
    """Yield what `source` does that only one module may: (that module, statement or expression).

    `.rename` counts on any object. `.replace(...)` counts with one positional argument or with `target=`, as of a Path:
    that of text and bytes takes two, those of dates and dataclasses take other names.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), names=names):
                imported = [module, *(f"{module}.{alias.name}" for alias in names)]
            case ast.Attribute(ast.Name(module), attr) if attr in RENAMING.get(module, ()):
                imported = [f"{module}.{attr}"]
            case ast.Attribute(attr="rename"):
                imported = ["os.rename"]
            case ast.Call(ast.Attribute(ast.expr() as owner, "replace"), args, keywords):
                names = {keyword.arg for keyword in keywords}
                of_path = (len(args) == 1 and not isinstance(args[0], ast.Starred) and not names) or names == {"target"}
                imported = ["os.replace"] if of_path and ast.unparse(owner) not in ("copy", "dataclasses") else []
            case _:
                continue
        if "fcntl" in imported:
            yield LOCKS, ast.unparse(node)
        if any(name in imported for name in (f"{m}.{f}" for m, functions in RENAMING.items() for f in functions)):
            yield WRITE_ASIDE, ast.unparse(node)


def test_one_module_takes_locks_and_one_renames_files() -> None:
    root = Path(gridloom.__file__).parent
    found = {
        (place, path.relative_to(root).as_posix(), text)
        for path in root.rglob("*.py")
        for place, text in locks_and_renames(path.read_text(encoding="utf-8"))
    }
    assert {text for place, path, text in found if path == place} == {
        "import fcntl",
        "aside.rename",
        "aside.replace(path)",
    }
    assert [f"{path}: {text}" for place, path, text in sorted(found) if path != place] == []


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("import fcntl", LOCKS),
        ("def f():\n    from fcntl import flock", LOCKS),
        ("import os\nos.replace(a, b)", WRITE_ASIDE),
        ("from os import replace as put", WRITE_ASIDE),
        ("move = os.rename", WRITE_ASIDE),
        ("from shutil import move", WRITE_ASIDE),
        ("shutil.move(a, b)", WRITE_ASIDE),
        ("a.with_name('b').rename(c)", WRITE_ASIDE),
        ("a.replace(b)", WRITE_ASIDE),
        ("a.replace(target=b)", WRITE_ASIDE),
        ("Path.rename(a, b)", WRITE_ASIDE),
        ("Path.replace(a, b)", WRITE_ASIDE),
    ],
)
def test_each_way_to_lock_or_rename_is_seen(source: str, place: str) -> None:
    assert {found for found, _ in locks_and_renames(source)} == {place}


@pytest.mark.parametrize(
    "source",
    [
        "text.replace('a', 'b')",
        "text.replace(*pair)",
        "replace(spec, seed=1)",
        "dataclasses.replace(spec)",
        "day.replace(tzinfo=UTC)",
        "from dataclasses import replace",
        "import os",
        "shutil.rmtree(a)",
    ],
)
def test_what_replaces_no_file_is_not_taken_for_it(source: str) -> None:
    assert [*locks_and_renames(source)] == []
