"""Grouping of recorded attempts that are re-executed in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gridloom.solvers.parts.runners import frames
from gridloom.solvers.replay.report import Recorded


def group(attempts: Sequence[Recorded], live: bool) -> Iterator[list[Recorded]]:
    """Yield groups of attempts that can share a batch: recorded under equal conditions, at disjoint rows.

    Live attempts are groups of one, since the bits depend on the other calls of a LLaMA batch.
    """
    if live:
        yield from ([attempt] for attempt in attempts)
        return
    kinds: dict[tuple[Any, ...], list[Recorded]] = {}
    for attempt in attempts:
        row, geometry = attempt.row, attempt.row.geometry
        kind = (
            *(row.stage, row.checkpoint_key),
            *(geometry.get(name) for name in ("device", "device_name", "torch", "threads", "batch_rows")),
            row.plan["act_steps"],
            row.latent is None,
        )
        kinds.setdefault(kind, []).append(attempt)
    for alike in kinds.values():
        geometries = [attempt.row.geometry for attempt in alike]
        if "batch_rows" not in geometries[0]:  # no TRM ran
            yield alike
            continue
        spans = [(shape["first_row"], shape["first_row"] + shape["rows"]) for shape in geometries]
        yield from ([alike[index] for index in frame] for frame in frames(spans))
