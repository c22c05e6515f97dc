"""Rules about means: peak memory against the device's, expected time against the limit. They need a calibration."""

from __future__ import annotations

from gridloom.compiler.calibration import Calibrations
from gridloom.compiler.checked import Checked
from gridloom.compiler.estimate import Sources, estimate
from gridloom.compiler.graph import Cost
from gridloom.compiler.session import Session


def stages_fit_device(checked: Checked, session: Session) -> None:
    """GL350, GL351: no stage needs more memory than the device has, and all together end before the walltime."""
    bound = checked.bound
    calibration = session.calibration
    if isinstance(calibration, Calibrations):
        calibration = calibration.of(bound.spec.device)
    if calibration is None:
        return
    sources = Sources(bound, checked.data, checked.llama)
    times: dict[str, float] = {}
    for name in bound.order:
        if ("stages", name) in bound.shaky or ("stages", name) in bound.unbound:
            continue
        cost = estimate(name, sources)
        if cost is None:
            continue
        times[name] = calibration.seconds(cost) or 0.0
        if cost.peak_bytes > calibration.memory_bytes:
            session.error(
                "GL350",
                f"'{name}' needs about {_gigabytes(cost.peak_bytes)}, {calibration.device} has "
                f"{_gigabytes(calibration.memory_bytes)}",
                bound.places.value(("stages", name, "batch_size")),
                _smaller(cost),
                (f"assumes {', '.join(cost.assumes)}",),
            )
    total = sum(times.values())
    if session.walltime_s is not None and total > session.walltime_s:
        limit = duration(session.walltime_s)
        session.warn(
            "GL351",
            f"the stages need about {duration(total)} on {calibration.device}, more than the walltime of {limit}",
            bound.places.key(("stages",)),
            "a run that is stopped saves its state; run it again to continue, or lower steps, batch_size, max_attempts",
            (", ".join(f"'{name}' about {duration(needed)}" for name, needed in times.items()),),
        )


def _smaller(cost: Cost) -> str:
    if cost.step == "attempt":
        return "lower solver.views, or the language model's max_prompt_tokens"
    return "lower batch_size, the canvas, or set precision: bf16"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def duration(seconds: float) -> str:
    """Write a time as a person would: '41 min', '2 h 05 min'."""
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
