"""A `data` entry as a command names it: by its name in a spec, or written out. It is checked by the compiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gridloom.compiler.compile import compile_text
from gridloom.errors import DataError
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.runtime.planning.local import compile_local, spec_base
from gridloom.specs.base import DataSpec
from gridloom.wording import near_and_known


@dataclass(frozen=True, slots=True)
class DataEntry:
    """A dataset that a command asks for."""

    name: str
    spec: DataSpec
    base: Path
    """Where its relative paths start."""
    seed: int
    """Seed of the spec, which its training stages draw with."""


def find_entry(data: str, spec: str | None, overrides: Sequence[str] = ()) -> DataEntry:
    """The entry `data` of `spec`, or what `data` says itself: `{kind: sudoku, size: 6}`.

    Raises:
        SpecError: the spec or the entry does not compile.
        DataError: no spec is named, or it has no such entry.
    """
    if data.lstrip().startswith("{"):
        text = f"gridloom: 1\nname: data\nstages: {{}}\ndata:\n  data: {data}\n"
        found = compile_text(text, "DATA", overrides, facts=LocalFacts(), path=Path("DATA"))
        return DataEntry("data", found.spec.data["data"], Path(), found.spec.seed)
    if spec is None:
        raise DataError(
            f"{data!r} is the name of an entry, but no spec is named",
            f"write --spec SPEC, or the entry itself in place of {data!r}, such as '{{kind: sudoku, size: 6}}'",
        )
    told = compile_local(spec, overrides).spec
    if data not in told.data:
        raise DataError(f"{spec} has no data entry {data!r}", near_and_known(data, tuple(told.data)))
    return DataEntry(data, told.data[data], spec_base(spec), told.seed)
