"""Checks of a recursive network's weight file by tensor shapes, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

EMBEDDING = "embed_tokens.embedding_weight"
_LAYER = re.compile(r"([HL]_level)\.layers\.(\d+)\.")


def weights_problems(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return mismatches of tensor shapes and a bundle's description: vocabulary, width, layers of each stack.

    Args:
        config: `parts.trm.config` of bundle.json.
        shapes: shape by tensor name.
    """
    problems = []
    wanted = (int(config["vocabulary"]), int(config["spec"]["hidden_size"]))
    found = shapes.get(EMBEDDING)
    if found != wanted:
        problems.append(f"{EMBEDDING} is {'absent' if found is None else list(found)}, not {list(wanted)}")
    levels: dict[str, set[str]] = {}
    for match in filter(None, map(_LAYER.match, shapes)):
        levels.setdefault(match[1], set()).add(match[2])
    layers = int(config["spec"]["layers"])
    for level, have in levels.items():
        if len(have) != layers:
            problems.append(f"{level} has {len(have)} layers, not {layers}")
    return problems if levels else [*problems, "it has no layers"]
