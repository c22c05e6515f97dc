"""Figures of the ledger as TensorBoard event files, a folder a stage. Needs tensorboard, the extra of that name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gridloom.optional_packages import needed
from gridloom.runtime.reports.curves import Curve
from gridloom.stores.files.vacant import filling
from gridloom.stores.runs.names import short_ids


def write_events(folder: Path, curves: Mapping[str, Sequence[Curve]]) -> list[str]:
    """Write the curves of every metric into a new or empty folder, whole or not at all; return the names of its runs.

    Values have their own steps and the times at which they were recorded.

    Raises:
        GridloomError: tensorboard is not installed, or the folder holds something.
    """
    with needed("tensorboard", "tensorboard", "writing event files"):
        import tensorboard  # noqa: F401 - what torch's writer needs, looked for first
        from torch.utils.tensorboard import SummaryWriter
    places = sorted({(curve.run_id, curve.stage) for of in curves.values() for curve in of})
    short = short_ids(sorted({run_id for run_id, _ in places}))
    names = {(run_id, stage): f"{short[run_id]}-{stage}".replace("/", "_") for run_id, stage in places}
    with filling(folder) as aside:
        for at, name in names.items():
            with SummaryWriter(str(aside / name)) as writer:
                for metric, of in curves.items():
                    for curve in of:
                        if (curve.run_id, curve.stage) == at:
                            for step, value, time in zip(curve.steps, curve.values, curve.times, strict=True):
                                writer.add_scalar(metric, value, step, time)
    return [*names.values()]
