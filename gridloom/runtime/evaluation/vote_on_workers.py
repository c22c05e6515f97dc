"""An evaluation's batches on several workers: the driver forms the batches and counts, workers answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.runtime.evaluation.same_rows import RowAnswer
from gridloom.runtime.stage import Crew, Job, StageContext
from gridloom.stores.artifacts import Artifact

PLACE = "gridloom.runtime.evaluation.vote:Vote"
BATCHES_A_WORKER = 2
"""Batches in progress for each worker: while one is answered, the next lies ready."""
Batch = list[tuple[int, int]]
"""Rows as (target, view)."""


class VoteWorker:
    """Worker's half of kind `vote`: answers batches with the checkpoints that it has loaded."""

    slots = 1

    def __init__(self, answer: Callable[[Sequence[tuple[int, int]]], list[RowAnswer]]) -> None:
        self._answer = answer

    async def do(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one batch. Raises ModelError for values that are not finite."""
        found = self._answer([(target, view) for target, view in value["rows"]])
        return {"rows": [answer.to_json() for answer in found]}


def answer_on_workers(
    crew: Crew, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext, batches: list[Batch]
) -> list[list[RowAnswer]]:
    """Have the workers answer batches; return the answers of the first ones, up to the first that a stop left open.

    Raises StageError for a batch that took three workers with it, and the errors of the networks.
    """
    job = Job.of(PLACE, node, inputs, context)
    found: dict[str, list[RowAnswer]] = {}
    # rows that others answer are none of the workers' work: a batch may be empty
    items = {str(number): batch for number, batch in enumerate(batches)}
    found |= {item: [] for item, batch in items.items() if not batch}

    def take(item: str, answer: Mapping[str, Any]) -> None:
        found[item] = [RowAnswer.from_json(values) for values in answer["rows"]]

    open_items = [item for item, batch in items.items() if batch]
    aside = crew.run(job, open_items, lambda item, lost: {"rows": items[item]}, take, context.stop)
    if aside:
        raise StageError(
            f"a batch of {len(items[aside[0]])} rows took three workers of {node.name} with it",
            "give the stage a smaller batch_size, or look into the folder workers of the workspace",
        )
    first: list[list[RowAnswer]] = []
    for item in items:
        if item not in found:
            break
        first.append(found[item])
    return first
