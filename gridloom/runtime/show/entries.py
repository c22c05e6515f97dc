"""Data entries in commands: a name in a spec, or a YAML mapping; both are checked by the compiler."""

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
    """Dataset named by a command."""

    name: str
    spec: DataSpec
    base: Path
    """Base folder of relative paths."""
    seed: int
    """Seed of the spec, used by its training stages."""


def find_entry(data: str, spec: str | None, overrides: Sequence[str] = ()) -> DataEntry:
    """Return the entry `data` of `spec`, or the entry that `data` defines: `{kind: sudoku, size: 6}`.

    Raises:
        SpecError: the spec or the entry does not compile.
        DataError: no spec is named, or the spec has no such entry.
    """
    if data.lstrip().startswith("{"):
        text = f"gridloom: 1\nname: data\nstages: {{}}\ndata:\n  data: {data}\n"
        found = compile_text(text, "DATA", overrides, facts=LocalFacts(), path=Path("DATA"))
        return DataEntry("data", found.spec.data["data"], Path(), found.spec.seed)
    if spec is None and data.endswith((".yaml", ".yml")):
        raise DataError(f"{data!r} is a spec, not a data entry", f"name one of its entries: NAME --spec {data}")
    if spec is None:
        raise DataError(
            f"{data!r} is the name of an entry, but no spec is named",
            f"write --spec SPEC, or the entry itself in place of {data!r}, such as '{{kind: sudoku, size: 6}}'",
        )
    compiled = compile_local(spec, overrides).spec
    if data not in compiled.data:
        raise DataError(f"{spec} has no data entry {data!r}", near_and_known(data, tuple(compiled.data)))
    return DataEntry(data, compiled.data[data], spec_base(spec), compiled.seed)
