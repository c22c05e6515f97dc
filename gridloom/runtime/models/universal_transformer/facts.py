"""Checks of a Universal Transformer's weight file by tensor shapes, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def weights_problems(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return mismatches of tensor shapes and a bundle's description: width, filter, answers.

    Args:
        config: `parts.trm.config` of bundle.json.
        shapes: shape by tensor name.
    """
    spec = config["spec"]
    width, classes = int(spec["hidden_size"]), int(config.get("answers", 1)) * int(config["vocabulary"])
    wanted = {
        "block.inner.weight": (int(spec["filter_size"]), width),
        "head.weight": (classes, width),
    }
    return [
        f"{name} is {list(shapes[name]) if name in shapes else 'absent'}, not {list(shape)}"
        for name, shape in wanted.items()
        if shapes.get(name) != shape
    ]
