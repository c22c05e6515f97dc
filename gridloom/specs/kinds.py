"""Registry of the stages that a spec names by kind.

Places are strings, so that the compiler knows every name without loading what stands behind it.
"""

from __future__ import annotations

from typing import NamedTuple

from gridloom.plugins import Registry
from gridloom.specs.base import StageSpec
from gridloom.specs.halting_study import HaltingStudyStage
from gridloom.specs.stages import (
    AblateStage,
    CalibrateStage,
    CheckpointStage,
    EvaluateStage,
    JointTrainStage,
    ScoreStage,
    SolveStage,
    TrainStage,
)


class StageKind(NamedTuple):
    """A kind of stage: what `kind: NAME` in the `stages` section of a spec stands for."""

    spec: type[StageSpec]
    """Spec model; its `kind` is a Literal of the name."""
    run: str
    """Place of the class with `run(node, inputs, context)`, `module:class`; only the executor loads it."""
    cost: str = ""
    """Place of a function (name of the stage, `compiler.estimate.Sources`) -> `Cost | None`; empty for a stage that
    runs no network."""

    @property
    def name(self) -> str:
        """Name of the kind."""
        return str(self.spec.model_fields["kind"].default)


_ESTIMATE = "gridloom.compiler.estimate"

CHECKPOINT = StageKind(CheckpointStage, "gridloom.runtime.checkpoints.stage:CopyCheckpoint")
TRAIN = StageKind(TrainStage, "gridloom.runtime.training.train:Train", f"{_ESTIMATE}:train_cost")
JOINT_TRAIN = StageKind(JointTrainStage, "gridloom.runtime.training.joint.train:JointTrain", f"{_ESTIMATE}:joint_cost")
SOLVE = StageKind(SolveStage, "gridloom.solvers.stages.solve:Solve", f"{_ESTIMATE}:solve_cost")
EVALUATE = StageKind(EvaluateStage, "gridloom.runtime.evaluation.stage:EvaluateRows", f"{_ESTIMATE}:evaluate_cost")
HALTING_STUDY = StageKind(
    HaltingStudyStage, "gridloom.runtime.evaluation.halting.study:HaltingStudy", f"{_ESTIMATE}:study_cost"
)
CALIBRATE = StageKind(CalibrateStage, "gridloom.solvers.stages.calibrate:Calibrate")
SCORE = StageKind(ScoreStage, "gridloom.solvers.stages.score:Score")
ABLATE = StageKind(AblateStage, "gridloom.solvers.stages.ablate:Ablate")

STAGES: Registry[StageKind] = Registry(
    "gridloom.stages",
    {
        name: f"{__name__}:{name.upper()}"
        for name in (
            "checkpoint",
            "train",
            "joint_train",
            "solve",
            "calibrate",
            "evaluate",
            "score",
            "ablate",
            "halting_study",
        )
    },
    StageKind,
)
"""Every kind of stage, by name."""
