"""Compiled graphs as files: `gridloom compile SPEC -o FILE` writes one, `gridloom diff` reads it."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from gridloom.compiler.graph import RunGraph
from gridloom.errors import GridloomError
from gridloom.stores.write_aside import write_durably

GRAPH_FORMAT = 1


def read_text(path: Path) -> str:
    """Return a file's text. Raises GridloomError that names it."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise GridloomError(f"cannot read {path}: {reason}", "name a spec, a graph file or a run") from None


def read_graph(text: str, shown: str) -> RunGraph:
    """Read a graph that `RunGraph.to_json` wrote. Raises GridloomError for anything else."""
    remedy = "write one anew with: gridloom compile SPEC -o FILE"
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
    """Write a graph as JSON, whole or not at all. Raises GridloomError that names the path."""
    try:
        write_durably(path, graph.to_json().encode())
    except OSError as error:
        raise GridloomError(f"cannot write {path}: {error.strerror}", "choose another --output") from None
