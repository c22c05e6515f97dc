"""Rules about resources, which need measured device speeds: peak memory, expected time; members of an ensemble."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from gridloom.compiler.bind import Bound
from gridloom.compiler.graph import Cost, RunGraph, StageNode, section_name
from gridloom.compiler.session import Session
from gridloom.compiler.text.tree import Path
from gridloom.specs.stages import EvaluateStage, JointTrainStage, TrainStage
from gridloom.wording import duration

FAR_TOO_LARGE = 2
"""Ratio of estimated peak memory to device memory from which GL350 is an error; below, the estimate is too rough."""


def _stages(graph: RunGraph, is_cached: Callable[[str], bool] | None) -> list[tuple[StageNode, Cost]]:
    """Return the stages that will run a network; all of them where `is_cached` is not given."""
    return [
        (node, node.cost)
        for node in graph.nodes
        if node.cost is not None and not (is_cached is not None and is_cached(node.key))
    ]


def memory_suffices(bound: Bound, graph: RunGraph, session: Session) -> None:
    """GL350: no stage that will run needs more memory than the device has; needs a graph with keys."""
    speeds = session.speeds_of(bound.spec.device)
    if speeds is None:
        return
    for node, cost in _stages(graph, session.is_cached):
        if cost.peak_bytes > speeds.memory_bytes:
            batch: Path = ("stages", section_name(node.name), "batch_size")
            record = session.error if cost.peak_bytes > FAR_TOO_LARGE * speeds.memory_bytes else session.warn
            record(
                "GL350",
                f"'{node.name}' needs about {_gigabytes(cost.peak_bytes)} by estimate, {speeds.device} has "
                f"{_gigabytes(speeds.memory_bytes)}",
                bound.places.value(batch),
                _smaller(cost),
                (f"assumes {', '.join(cost.assumes)}", *bound.places.used_at(batch)),
            )


def walltime_suffices(bound: Bound, graph: RunGraph, session: Session) -> None:
    """GL351: all stages that will run, in all variants of a sweep, end before the walltime."""
    speeds = session.speeds_of(bound.spec.device)
    limit_s = session.walltime_s if session.walltime_s is not None else bound.spec.walltime_s
    if speeds is None or limit_s is None:
        return
    times = {node.name: speeds.seconds(cost) or 0.0 for node, cost in _stages(graph, session.is_cached)}
    total = sum(times.values())
    if total <= limit_s:
        return
    ends = accumulate(times.values())
    last, elapsed = next((name, end - times[name]) for name, end in zip(times, ends, strict=True) if end > limit_s)
    written = bound.places.value(("walltime",)) if session.walltime_s is None else None
    session.warn(
        "GL351",
        f"the stages need about {duration(total)} on {speeds.device}, more than the walltime of "
        f"{duration(limit_s)}{'' if written else ' (--walltime)'}: it runs out in '{last}'",
        written or bound.places.key(("stages", section_name(last.partition("@")[0]))),
        "a run that is stopped saves its state; run it again to continue, or lower steps, batch_size, max_attempts",
        (
            f"'{last}' would begin after about {duration(elapsed)} and needs {duration(times[last])}"
            if elapsed
            else f"'{last}' comes first and needs {duration(times[last])}",
            ", ".join(f"'{name}' about {duration(needed)}" for name, needed in times.items()),
        ),
    )


def _smaller(cost: Cost) -> str:
    if cost.step == "attempt":
        return "lower solver.views, or the language model's max_prompt_tokens"
    return "lower batch_size, the canvas, or set precision: bf16"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def members_differ(bound: Bound, graph: RunGraph, session: Session) -> None:
    """GL348: no checkpoint votes twice in an ensemble, under one name or two; needs a graph with keys."""
    keys = {node.name: node.key for node in graph.nodes}
    for name, stage in bound.spec.stages.items():
        if not isinstance(stage, EvaluateStage):
            continue
        votes = {keys[stage.with_]: stage.with_}
        for i, member in enumerate(stage.ensemble):
            if keys[member] not in votes:
                votes[keys[member]] = member
                continue
            twin = votes[keys[member]]
            can_differ = twin != member and isinstance(bound.spec.stages[member], TrainStage | JointTrainStage)
            session.error(
                "GL348",
                f"'{name}' counts the votes of one checkpoint twice: "
                + (f"'{member}'" if twin == member else f"'{member}' makes the same as '{twin}'"),
                bound.places.value(("stages", name, "ensemble", i)),
                f"give '{member}' a seed of its own, as in  seed: 1" if can_differ else f"remove '{member}'",
            )
