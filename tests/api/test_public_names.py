"""The public API: exactly these names, imported when used, with docstrings and annotations throughout."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import subprocess
import sys
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import gridloom

SOURCE = ast.parse(Path(gridloom.__file__).read_text(encoding="utf-8"))
PUBLIC = [
    "Attempt",
    "Compiled",
    "DataError",
    "Grid",
    "GridloomError",
    "ModelError",
    "Pair",
    "PlanReport",
    "PluginError",
    "Problem",
    "ReplayError",
    "ReplayReport",
    "RunGraph",
    "RunResult",
    "ScoreTable",
    "SolveResult",
    "SpecError",
    "StageError",
    "StageInterrupted",
    "StagePlan",
    "StageResult",
    "StoreError",
    "Task",
    "Workspace",
    "__version__",
    "compile",
    "run",
    "solve",
    "workspace",
]
OBJECTS = [name for name in PUBLIC if name != "__version__"]


def test_the_exported_names_are_these_and_sorted() -> None:
    assert gridloom.__all__ == PUBLIC == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(gridloom))


def test_what_editors_see_is_what_is_imported_when_it_is_used() -> None:
    (block,) = (node for node in SOURCE.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted([*seen, "__version__"]) == PUBLIC
    for name, module in seen.items():
        assert getattr(gridloom, name) is getattr(importlib.import_module(str(module)), name)


def test_a_star_import_brings_the_public_names() -> None:
    found: dict[str, Any] = {}
    exec("from gridloom import *", found)
    assert {name for name in found if name != "__builtins__"} == set(PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'gridloom' has no attribute 'slove'"):
        _ = gridloom.slove
    with pytest.raises(ImportError):
        exec("from gridloom import slove")


def test_the_version_is_the_one_of_the_package() -> None:
    assert gridloom.__version__ == version("gridloom")


@pytest.mark.parametrize(
    "code",
    ["gridloom", "gridloom.compile('quickstart').graph", "gridloom.compile('quickstart').problems"],
    ids=["import", "compile", "problems"],
)
def test_importing_and_compiling_load_no_heavy_package(code: str) -> None:
    heavy = ("torch", "transformers", "langgraph", "duckdb", "numba", "pyarrow", "httpx")
    if code == "gridloom":
        heavy += ("pydantic", "yaml", "rich", "numpy")
    text = f"import sys, gridloom; {code}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def members(kind: type) -> list[tuple[str, Any]]:
    """Public functions and properties that a class of gridloom defines itself."""
    return [
        (name, value)
        for name, value in vars(kind).items()
        if not name.startswith("_") and isinstance(value, FunctionType | classmethod | property | cached_property)
    ]


@pytest.mark.parametrize("name", OBJECTS)
def test_every_public_object_is_documented_and_annotated(name: str) -> None:
    thing = getattr(gridloom, name)
    assert inspect.getdoc(thing)
    if not inspect.isclass(thing):
        _annotated(thing)
        return
    for member, value in members(thing):
        function = next((getattr(value, a) for a in ("__func__", "fget", "func") if hasattr(value, a)), value)
        assert function.__doc__, f"{name}.{member}"
        _annotated(function)


def _fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _annotated(function: Any) -> None:
    signature = inspect.signature(function)
    named = [p for i, p in enumerate(signature.parameters.values()) if not (i == 0 and p.name in ("self", "cls"))]
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in named), function
    assert signature.return_annotation is not inspect.Signature.empty, function


@pytest.mark.parametrize("name", [name for name in OBJECTS if dataclasses.is_dataclass(getattr(gridloom, name))])
def test_every_field_has_its_docstring_beneath(name: str) -> None:
    kind = getattr(gridloom, name)
    tree = ast.parse(inspect.cleandoc(inspect.getsource(kind)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    documented = {
        node.target.id
        for node, after in itertools.pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }
    public = {field for field in _fields(kind) if not field.startswith("_")}
    assert documented >= public, public - documented
