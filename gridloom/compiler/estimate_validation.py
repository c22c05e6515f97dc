"""Operations of answering test rows: the validations of a training, and a halting study, for cost estimates."""

from __future__ import annotations

from collections.abc import Callable

from gridloom.compiler.facts import DataFacts
from gridloom.compiler.graph import Cost
from gridloom.runtime.models.kind import RowShape, network_cost
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.base import DataSpec
from gridloom.specs.data import ArcData
from gridloom.specs.halting_study import HaltingStudyStage
from gridloom.specs.puzzles import SequenceData
from gridloom.specs.validation import DEFAULT_ROWS, Validation


def validation_inputs(wanted: Validation, data: DataSpec, facts: DataFacts) -> int:
    """Return the number of test inputs, puzzles or sequences of a validation: one test input a task, and of a subset as
    many tasks as are not held out."""
    if isinstance(data, SequenceData):
        return wanted.limit or DEFAULT_ROWS
    if isinstance(data, ArcData):
        number = facts.num_tasks - facts.num_held_out or facts.num_tasks
    else:
        number = facts.num_tasks if wanted.share is not None else facts.num_held_out
    number = number if wanted.share is None else max(1, round(wanted.share * number))
    return number if wanted.limit is None else min(number, wanted.limit)


def num_validations(wanted: Validation, steps: int) -> int:
    """Return how often a training of so many steps validates; its last step always is."""
    return -(-steps // wanted.every)


def validation_flops(
    wanted: Validation, data: DataSpec, facts: DataFacts, steps: int, act_steps: int, act_step: Callable[[int], int]
) -> int:
    """Return the operations of all validations in the network.

    Args:
        act_step: number of rows -> operations of an ACT step.
    """
    rows = validation_inputs(wanted, data, facts)
    if isinstance(data, ArcData):
        rows *= min(1 + data.augment.copies, wanted.num_views)
    batch = min(wanted.batch_size, max(rows, 1))
    return num_validations(wanted, steps) * -(-rows // batch) * act_step(batch) * (wanted.act_steps or act_steps)


def halting_study_cost(
    spec: HaltingStudyStage, data: DataSpec, facts: DataFacts, network: NetworkSpec, shape: RowShape
) -> Cost:
    """Return the cost of a halting study: one pass over the most steps, or two runs for each limit of a network that
    ponders, whose cost grows with the limit.

    Args:
        shape: rows of the network.
    """
    cost = network_cost(network, shape)
    limits = tuple(range(1, network.halt_max_steps + 1)) if spec.steps == "max" else tuple(sorted(set(spec.steps)))
    held_out, endless = facts.num_held_out, isinstance(data, SequenceData)
    rows = spec.limit or DEFAULT_ROWS if endless else min(spec.limit or held_out, held_out)
    batch = min(spec.batch_size, max(rows, 1))
    if network.ponders:
        runs = (network_cost(network.model_copy(update={"halt_max_steps": limit}), shape) for limit in limits)
        once = 2 * sum(run.act_step(batch).forward for run in runs) + cost.act_step(batch).forward
    else:
        once = max(limits) * cost.act_step(batch).forward
    return Cost(
        parameters=cost.parameters,
        flops={f"{network.precision} ACT": once},
        num_steps=-(-rows // batch),
        step="batch",
        peak_bytes=4 * cost.parameters + cost.state_bytes(batch),
        assumes=("no row halts early",) if network.ponders else (),
    )
