"""Rules about means: peak memory against the device's, expected time against the limit. They need a calibration."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from gridloom.compiler.bind import Bound
from gridloom.compiler.graph import Cost, RunGraph, StageNode
from gridloom.compiler.lower import section_name
from gridloom.compiler.session import Session
from gridloom.compiler.tree import Path
from gridloom.wording import duration

FAR_TOO_LARGE = 2
"""Estimates of peak memory were not checked against real runs: only one this many times the memory is an error."""


def _stages(graph: RunGraph, is_cached: Callable[[str], bool] | None) -> list[tuple[StageNode, Cost]]:
    """Return the stages that will run a network; all of them where it is not known which are cached."""
    return [
        (node, node.cost)
        for node in graph.nodes
        if node.cost is not None and not (is_cached is not None and is_cached(node.key))
    ]


def memory_suffices(bound: Bound, graph: RunGraph, session: Session) -> None:
    """GL350: no stage that will run needs more memory than the device has. The graph has its keys."""
    calibration = session.calibration_of(bound.spec.device)
    if calibration is None:
        return
    for node, cost in _stages(graph, session.is_cached):
        if cost.peak_bytes > calibration.memory_bytes:
            batch: Path = ("stages", section_name(node.name), "batch_size")
            say = session.error if cost.peak_bytes > FAR_TOO_LARGE * calibration.memory_bytes else session.warn
            say(
                "GL350",
                f"'{node.name}' needs about {_gigabytes(cost.peak_bytes)} by estimate, {calibration.device} has "
                f"{_gigabytes(calibration.memory_bytes)}",
                bound.places.value(batch),
                _smaller(cost),
                (f"assumes {', '.join(cost.assumes)}", *bound.places.used_at(batch)),
            )


def walltime_suffices(bound: Bound, graph: RunGraph, session: Session) -> None:
    """GL351: all stages that will run, of all variants of a sweep, end before the walltime."""
    calibration = session.calibration_of(bound.spec.device)
    limit_s = session.walltime_s if session.walltime_s is not None else bound.spec.walltime_s
    if calibration is None or limit_s is None:
        return
    times = {node.name: calibration.seconds(cost) or 0.0 for node, cost in _stages(graph, session.is_cached)}
    total = sum(times.values())
    if total <= limit_s:
        return
    ends = accumulate(times.values())
    last, elapsed = next((name, end - times[name]) for name, end in zip(times, ends, strict=True) if end > limit_s)
    written = bound.places.value(("walltime",)) if session.walltime_s is None else None
    session.warn(
        "GL351",
        f"the stages need about {duration(total)} on {calibration.device}, more than the walltime of "
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
