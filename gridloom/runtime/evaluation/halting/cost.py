"""Cost of a halting study, for the compiler's estimate. Imports no torch."""

from __future__ import annotations

from typing import cast

from gridloom.compiler.estimate import Sources
from gridloom.compiler.graph import Cost
from gridloom.runtime.models.kind import network_cost
from gridloom.specs.halting_study import HaltingStudyStage
from gridloom.specs.puzzles import SequenceData
from gridloom.specs.validation import DEFAULT_ROWS


def study_cost(stage: str, sources: Sources) -> Cost | None:
    """Return the cost of a halting study: one pass over the most steps, or two runs for each limit of a network that
    ponders, whose cost grows with the limit."""
    spec, found = cast(HaltingStudyStage, sources.bound.spec.stages[stage]), sources.data_of(stage)
    network = sources.network(stage, found[1]) if found else None
    if found is None or network is None:
        return None
    own = network.spec.halt_max_steps
    limits = tuple(range(1, own + 1)) if spec.steps == "max" else tuple(sorted(set(spec.steps)))
    held_out = found[1].num_held_out
    endless = isinstance(found[0], SequenceData)
    rows = spec.limit or DEFAULT_ROWS if endless else min(spec.limit or held_out, held_out)
    batch = min(spec.batch_size, max(rows, 1))
    if network.spec.ponders:
        run = sum(
            network_cost(network.spec.model_copy(update={"halt_max_steps": limit}), network.rows)
            .act_step(batch)
            .forward
            for limit in limits
        )
        once = 2 * run + network.cost.act_step(batch).forward
    else:
        once = max(limits) * network.cost.act_step(batch).forward
    return Cost(
        parameters=network.cost.parameters,
        flops={f"{network.spec.precision} ACT": once},
        num_steps=-(-rows // batch),
        step="batch",
        peak_bytes=4 * network.cost.parameters + network.cost.state_bytes(batch),
        assumes=("no row halts early",) if network.spec.ponders else (),
    )
