"""Axes of a sweep from the command line: `lr=1e-3,1e-4` -> an override of the spec's `sweep`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gridloom.errors import GridloomError
from gridloom.runtime.planning.local import compile_local
from gridloom.wording import did_you_mean, listed

SECTIONS = ("data", "models", "stages")


def sweep_overrides(spec: str, axes: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Turn PATH=VALUE,VALUE arguments into overrides; axes of the spec's own `sweep` stay.

    PATH is a path of the spec, or a name that one variable or one field has: `lr`. Values are YAML; one in brackets or
    braces is one value.

    Raises:
        GridloomError: an argument is malformed, its name is unknown or ambiguous.
        SpecError: the spec does not compile without the axes.
    """
    if not axes:
        return []
    composed = compile_local(spec, overrides).spec.model_dump(mode="json", by_alias=True)
    found = []
    for axis in axes:
        name, equals, values = axis.partition("=")
        if not equals or not name.strip() or not values.strip():
            raise GridloomError(f"-m {axis} is not PATH=VALUE,VALUE", "write: -m lr=1e-3,1e-4")
        found.append(f"sweep.{_path(name.strip(), composed)}=[{values}]")
    return found


def _path(name: str, spec: dict[str, Any]) -> str:
    """Return the path that a name means: a variable's, or that of the only field with this end."""
    paths = [".".join(map(str, path)) for path in _paths(spec)]
    if name in paths or ("." in name and name.partition(".")[0] in (*SECTIONS, "vars")):
        return name
    if f"vars.{name}" in paths:
        return f"vars.{name}"
    ends = [path for path in paths if path.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise GridloomError(f"{len(ends)} fields are called '{name}'", f"name one: {listed(ends, 6)}")
    names = list(dict.fromkeys(path.rpartition(".")[2] for path in paths))
    raise GridloomError(
        f"the spec has no field '{name}'", did_you_mean(name, names, "write its path: stages.train.steps")
    )


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            if at or key in (*SECTIONS, "vars", "seed"):
                yield from _paths(inner, (*at, key))
