"""Library recipes: specs that ship with gridloom, run by name and used by `extends`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import yaml

import gridloom.specs

FOLDER = Path(gridloom.specs.__file__).parent / "library"


class Recipe(NamedTuple):
    """A recipe with its description, for lists."""

    name: str
    description: str


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes, sorted."""
    with os.scandir(FOLDER) as entries:
        return tuple(sorted(entry.name[:-5] for entry in entries if entry.name.endswith(".yaml")))


def list_recipes() -> tuple[Recipe, ...]:
    """Return all recipes with their one-line descriptions, sorted by name."""
    found = []
    for name in recipe_names():
        head = yaml.safe_load(recipe_text(name))
        found.append(Recipe(name, str(head.get("description", ""))))
    return tuple(found)


def recipe_text(name: str) -> str:
    """Return the YAML of a recipe. Raises KeyError for an unknown name."""
    if name not in recipe_names():
        raise KeyError(name)
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
