"""Reader of YAML files from elsewhere: bounded in size, depth and what their aliases and merges stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gridloom.errors import GridloomError

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
"""Largest number of values with every alias written out; a published configuration has about a hundred."""
MAX_DEPTH = 40
MAX_BRACKETS = 1000


def read_yaml(path: Path) -> Any:
    """Return the content of a file.

    Raises GridloomError: the file cannot be read, is no YAML, is too large or too deep, or its aliases stand for too
    many values.
    """
    remedy = "name a configuration as its program wrote it"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise GridloomError(f"{path} is larger than {MAX_BYTES:,} bytes", remedy)
        if raw.count(b"[") + raw.count(b"{") > MAX_BRACKETS:  # the parser is slow on them, before any depth is known
            raise GridloomError(f"{path} has more than {MAX_BRACKETS} brackets", remedy)
        loader = yaml.SafeLoader(raw.decode("utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}, 0) > MAX_VALUES:
            raise GridloomError(f"{path} has more than {MAX_VALUES:,} values, or its aliases stand for them", remedy)
        return loader.construct_document(node)
    except RecursionError:
        raise GridloomError(f"{path} is nested more than {MAX_DEPTH} deep", remedy) from None
    except OSError as error:
        raise GridloomError(f"cannot read {path}: {error.strerror}", remedy) from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        lines = str(error).splitlines() or [repr(error)]
        raise GridloomError(f"cannot read {path}: {lines[0]}", remedy) from error


def _size(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Return the number of values below a node with aliases written out. Raises RecursionError for a deep one."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if id(node) not in known:
        below: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            below = node.value
        known[id(node)] = 1 + sum(_size(part, known, depth + 1) for part in below)
    return known[id(node)]
