"""ACT steps of a checkpoint on one item: answers, halting, confidence, and the paths of an engine that plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gridloom.errors import DataError, ModelError
from gridloom.runtime.checkpoints.bundle import Bundle
from gridloom.runtime.models.engine.planning import Planner
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.steps import Rows
from gridloom.view.stepping.items import Item


@dataclass(frozen=True, slots=True)
class PathsOfStep:
    """Planning of one row in one call of the planner. P paths."""

    weights: list[float]
    """Weight of each path, summing to 1; zeros where the row skipped planning."""
    values: list[float]
    """Value of each path, the logit of the token accuracy that it is expected to reach."""
    gate: float
    """Gate in [0, 1]; below 0.5 the row skips the planner."""
    thoughts: list[list[float]]
    """Norm of each thought, by path."""
    planned: bool

    @property
    def chosen(self) -> int | None:
        """Path of the largest weight, from 0; None for a row that skipped."""
        return max(range(len(self.weights)), key=self.weights.__getitem__) if self.planned else None


@dataclass(frozen=True, slots=True)
class Stepped:
    """Answers of a checkpoint to one item after each ACT step."""

    item: Item
    frames: list[Any]
    """Answer after each step: a grid, or the words of a sequence."""
    halting: list[float]
    """Halting probability after each step."""
    changed: list[int]
    """Positions that changed in each step."""
    confidence: list[float]
    residual: list[float] | None
    paths: list[PathsOfStep] | None = None
    """For each step of an engine that plans."""


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """Paths of one item in the last ACT step."""

    number: int
    """Number of the item, from 0."""
    label: str
    paths: PathsOfStep | None
    """None for an item that the network cannot read."""
    problem: str = ""
    """Why it cannot."""
    count: int = 0
    """Number of items of the data."""


@dataclass(frozen=True, slots=True)
class AnsweredItem:
    """Answer of a checkpoint to one item after the last ACT step."""

    number: int
    """Number of the item, from 0."""
    item: Item
    answer: Any
    """As a frame of `Item.frames`."""
    halting: float
    """Halting probability."""


def stepped(bundle: Bundle, item: Item, steps: int | None) -> Stepped:
    """Run an item for all ACT steps. Raises ModelError for a row that the network cannot read."""
    network = bundle.network
    _check_width(network, item)
    with _noted(network) as plans:
        followed = network.follow(item.rows, steps)
    tokens = followed.tokens[:, 0].cpu().numpy()
    return Stepped(
        item=item,
        frames=item.frames(tokens),
        halting=followed.q_halt[:, 0].sigmoid().float().tolist(),
        changed=[_num_positions(item, tokens), *(int((a != b).sum()) for a, b in pairwise(tokens))],
        confidence=followed.confidence[:, 0].float().tolist(),
        residual=None if followed.residual is None else followed.residual[:, 0].float().tolist(),
        paths=[call[0] for call in plans] or None,
    )


def _check_width(network: Network, item: Item) -> None:
    if item.rows.inputs.ndim == 2 and item.rows.inputs.shape[1] != network.rows.cells and not network.sides:
        message = f"rows of {item.rows.inputs.shape[1]} cells, the checkpoint reads {network.rows.cells}"
        raise ModelError(message, "choose another")


def _num_positions(item: Item, tokens: Any) -> int:
    return int(tokens.shape[1]) if item.rows.shapes is None else int(item.rows.shapes.prod())


def planned_items(
    bundle: Bundle, items: Callable[[int], Item], first: int, most: int, steps: int | None = None
) -> list[PlannedItem]:
    """Return the paths of items in the last ACT step; items of one shape run together.

    An item that the network cannot read, such as a grid beyond its canvas, is returned with the reason.
    Raises ModelError for a network that does not plan, or that can read none of the items.
    """
    network = bundle.network
    if not any(isinstance(module, Planner) for module in network.modules()):
        raise ModelError(f"this {network.spec.kind} has no planning", "choose an engine trained with  planning: {}")
    groups, refused = _alike(network, items, first, most)
    found = {
        number: PlannedItem(number, f"item {number + 1}", None, error.message) for number, error in refused.items()
    }
    for group in groups:
        with _noted(network) as plans:
            network.follow(_joined([item.rows for _, item in group]), steps)
        assert plans, "a planner is called in every step"
        for (number, item), paths in zip(group, plans[-1], strict=True):
            found[number] = PlannedItem(number, item.label, paths, count=item.count)
    return [found[number] for number in sorted(found)]


def answered_items(
    bundle: Bundle, items: Callable[[int], Item], first: int, most: int, steps: int | None = None
) -> list[AnsweredItem]:
    """Return the answers to items after the last ACT step; items of one shape run together.

    Raises ModelError for a network that can read none of the items. Those that it cannot read are left out.
    """
    network, found = bundle.network, []
    for group in _alike(network, items, first, most)[0]:
        followed = network.follow(_joined([item.rows for _, item in group]), steps)
        tokens, halting = followed.tokens[-1].cpu().numpy(), followed.q_halt[-1].sigmoid().float().tolist()
        for (number, item), row, halts in zip(group, tokens, halting, strict=True):
            found.append(AnsweredItem(number, item, item.frames(row[None])[0], halts))
    return sorted(found, key=lambda one: one.number)


def _alike(
    network: Network, items: Callable[[int], Item], first: int, most: int
) -> tuple[list[list[tuple[int, Item]]], dict[int, ModelError]]:
    """Return items with their numbers in groups whose rows can run together, and why others cannot run.

    Raises ModelError where none can, DataError where there is no first item.
    """
    alike: dict[tuple[Any, ...], list[tuple[int, Item]]] = {}
    refused: dict[int, ModelError] = {}
    for number in range(first, first + most):
        try:
            item = items(number)
            _check_width(network, item)
        except DataError:
            if number == first:
                raise
            break  # beyond the last item
        except ModelError as error:
            refused[number] = error
            continue
        rows = item.rows
        shape = (*rows.inputs.shape[1:], rows.inputs.dtype, rows.lengths is None, rows.shapes is None)
        alike.setdefault(shape, []).append((number, item))
    if refused and not alike:
        raise refused[min(refused)]
    return [*alike.values()], refused


def _joined(parts: list[Rows]) -> Rows:
    def joined(tables: list[Tensor | None]) -> Tensor | None:
        some = [table for table in tables if table is not None]
        return torch.cat(some) if some else None

    return Rows(
        torch.cat([one.inputs for one in parts]),
        torch.cat([one.puzzle_ids for one in parts]),
        lengths=joined([one.lengths for one in parts]),
        shapes=joined([one.shapes for one in parts]),
    )


@contextmanager
def _noted(network: Network) -> Iterator[list[list[PathsOfStep]]]:
    """Note each call of the network's planner, row by row."""
    plans: list[list[PathsOfStep]] = []

    def note(_module: Any, _inputs: Any, plan: Any) -> None:
        columns = (plan.weights, plan.values, plan.gate, plan.thoughts, plan.planned)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        plans.append([PathsOfStep(*row) for row in rows])

    hooks = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, Planner)]
    try:
        yield plans
    finally:
        for hook in hooks:
            hook.remove()


def facts(bundle: Bundle, item: Item) -> dict[str, Any]:
    """Return facts of a checkpoint, and the number of items."""
    spec = bundle.network.spec
    return {
        "kind": spec.kind,
        "parameters": sum(parameter.numel() for parameter in bundle.network.parameters()),
        "steps_trained": bundle.meta.get("steps"),
        "halt_max_steps": spec.halt_max_steps,
        "has_raw": bundle.raw is not None,
        "items": item.count,
        "notes": item.notes,
        "spec": spec.model_dump(mode="json"),
    }
