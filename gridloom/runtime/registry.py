"""Finds the stage that implements a kind, through the entry point group `gridloom.stages`."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import cast

from gridloom.errors import StageError
from gridloom.runtime.stage import Stage

GROUP = "gridloom.stages"


def load_stage(kind: str) -> Stage:
    """Construct the stage registered for `kind`.

    Raises:
        StageError: nobody registered the kind, or the package that did cannot be imported.
    """
    found = [point for point in entry_points(group=GROUP) if point.name == kind]
    if not found:
        known = ", ".join(sorted({point.name for point in entry_points(group=GROUP)}))
        raise StageError(f"no installed package implements the stage kind {kind!r}", f"known kinds: {known}")
    try:
        factory = found[0].load()
    except ImportError as error:
        raise StageError(
            f"the stage kind {kind!r} comes from {found[0].value}, which cannot be imported: {error}",
            "reinstall the package that provides it, or run `gridloom doctor`",
        ) from error
    return cast(Stage, factory())
