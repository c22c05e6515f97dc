"""Sides of `gridloom diff`: a spec, the file of a compiled graph, or a run in the ledger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from gridloom.compiler.diff_fields import Side
from gridloom.compiler.graph import RunGraph
from gridloom.compiler.text.library import recipe_names
from gridloom.errors import GridloomError
from gridloom.runtime.planning.local import compile_local
from gridloom.stores.files.write_aside import write_durably
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace
from gridloom.wording import did_you_mean


def load_side(what: str, overrides: Sequence[str], workspace: Workspace) -> Side:
    """Load a side of `gridloom diff` from its argument: a spec file or recipe, a graph file, or a run id.

    Raises:
        SpecError: the spec does not compile.
        GridloomError: an unknown argument, a damaged graph file, a run without a graph, or overrides without a spec.
    """
    path = Path(what)
    is_spec = path.suffix in (".yaml", ".yml") or what in recipe_names()
    if not is_spec and path.is_file():
        text = read_text(path)
        is_spec = not text.lstrip().startswith("{")
        if not is_spec:
            _no_overrides(what, "a graph file", overrides)
            return Side(what, "graph", read_graph(text, what))
    if is_spec:
        compiled = compile_local(what, overrides)
        return Side(what, "spec", compiled.graph, compiled.spec, compiled.place)
    run_id = _find_run(what, workspace)
    _no_overrides(what, "a run", overrides)
    return Side(run_id, "run", run_graph(run_id, workspace))


def run_graph(run_id: str, workspace: Workspace) -> RunGraph:
    """Return the graph that a run recorded. Raises GridloomError for a run that recorded none."""
    rows = Ledger(workspace).rows("select graph from runs where run_id = ?", [run_id])
    if not rows or rows[0]["graph"] is None:
        raise GridloomError(f"run {run_id} recorded no graph", "`gridloom runs` lists the runs")
    return read_graph(str(rows[0]["graph"]), f"run {run_id}")


def _find_run(what: str, workspace: Workspace) -> str:
    ledger = Ledger(workspace)
    rows = ledger.rows("select run_id from runs order by started_at desc") if ledger.has_records() else []
    runs = [str(row["run_id"]) for row in rows]
    if what in runs:
        return what
    raise GridloomError(
        f"{what!r} is no spec file, recipe, graph file or run",
        did_you_mean(
            what, [*recipe_names(), *runs], "`gridloom specs list` lists the recipes, `gridloom runs` the runs"
        ),
    )


def _no_overrides(what: str, kind: str, overrides: Sequence[str]) -> None:
    if overrides:
        raise GridloomError(f"--set {overrides[0]} needs a spec, but {what} is {kind}", "compare with a spec instead")


GRAPH_FORMAT = 1


def read_text(path: Path) -> str:
    """Return a file's text. Raises GridloomError that names the file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise GridloomError(f"cannot read {path}: {reason}", "name a spec, a graph file or a run") from None


def read_graph(text: str, shown: str) -> RunGraph:
    """Parse a graph written by `RunGraph.to_json`. Raises GridloomError for any other text."""
    remedy = "write a new one with: gridloom compile SPEC -o FILE"
    try:
        values = json.loads(text)
    except ValueError as error:
        raise GridloomError(f"{shown} holds no run graph: {error}", remedy) from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > GRAPH_FORMAT:
        raise GridloomError(
            f"{shown} was written by a newer gridloom (format {version}, this one reads up to {GRAPH_FORMAT})",
            "upgrade gridloom: pip install --upgrade gridloom",
        )
    try:
        return RunGraph.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise GridloomError(
            f"{shown} holds no run graph: {f'{where}: ' if where else ''}{problem['msg']}", remedy
        ) from None


def write_graph(graph: RunGraph, path: Path) -> None:
    """Write a graph as JSON, atomically. Raises GridloomError that names the path."""
    try:
        write_durably(path, graph.to_json().encode())
    except OSError as error:
        raise GridloomError(f"cannot write {path}: {error.strerror}", "choose another --output") from None
