"""Input of a solve stage from a calibrate stage: the acceptance threshold and its measured precision and recall.

The artifact holds no answer, and this module cannot read one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gridloom.errors import StageError
from gridloom.specs.solver import Solver

CALIBRATION = "calibration.json"
FORMAT_VERSION = 1
NEVER = 2.0
"""Threshold above every score."""
CALIBRATION_FIELDS = (
    "threshold",
    "wanted_precision",
    "precision",
    "precision_interval",
    "recall",
    "num_accepted",
    "num_attempts",
    "num_tasks",
)


def read_calibration(folder: Path) -> dict[str, Any]:
    """Return the CALIBRATION_FIELDS of an artifact. Raises StageError when it is damaged or of another format."""
    path = folder / CALIBRATION
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version, threshold = found["format_version"], found["threshold"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"cannot read {path}: {error}", "remove the artifact and run again") from error
    if version != FORMAT_VERSION:
        raise StageError(f"{path} has format {version}, this gridloom reads {FORMAT_VERSION}", "run again")
    if threshold is not None and not 0 <= threshold <= 1:
        raise StageError(f"{path}: threshold {threshold} is not in [0, 1]", "remove the artifact and run again")
    return {name: found[name] for name in CALIBRATION_FIELDS}


def accepting_from(settings: Solver, threshold: float | None) -> Solver:
    """Return the settings with another acceptance threshold; with None the verifier accepts no attempt."""
    accept = NEVER if threshold is None else threshold
    return settings.model_copy(update={"verifier": settings.verifier.model_copy(update={"accept": accept})})
