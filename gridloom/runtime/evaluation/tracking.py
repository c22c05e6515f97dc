"""Recording of figures of training and evaluation: in the ledger, and with `wandb` in the spec at Weights & Biases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from gridloom.compiler.graph import StageNode
from gridloom.runtime.evaluation.earlier_names import earlier_names, wandb_names
from gridloom.runtime.stage import StageContext
from gridloom.runtime.trackers.wandb_run import wandb_run
from gridloom.specs.stages import Wandb
from gridloom.stores.records import MetricRecord

TRAIN_PROJECT, JOINT_PROJECT = "arc-trm-pretrain", "arc-hybrid-joint"

Track = Callable[[int, Mapping[str, float]], None]
"""(step, figures by name)"""


def recorder(node: StageNode, context: StageContext, earlier: str | None = None) -> Track:
    """Return the recorder of a stage's figures in the ledger.

    Args:
        earlier: kind of data whose figures are recorded under the names of the earlier halting lab too.
    """

    def record(step: int, figures: Mapping[str, float]) -> None:
        context.ledger.append(
            *(
                MetricRecord(
                    run_id=context.run_id,
                    stage=node.name,
                    step=step,
                    name=name,
                    value=float(value),
                    recorded_at=time.time(),
                )
                for name, value in {**figures, **earlier_names(earlier, figures)}.items()
            )
        )

    return record


@contextmanager
def tracked(
    spec: Wandb | None, project: str, node: StageNode, context: StageContext, earlier: str | None = None
) -> Iterator[Track]:
    """Open the recorders of a training's figures; a resumed stage continues its W&B run.

    Args:
        earlier: kind of data, as for `recorder`.

    Raises:
        GridloomError: wandb is not installed.
        StageError: wandb refuses to start a run, as it does online without a login.
    """
    record = recorder(node, context, earlier)
    if spec is None:
        yield record
        return
    with wandb_run(spec, project, node, context) as log:

        def both(step: int, figures: Mapping[str, float]) -> None:
            record(step, figures)
            log({**figures, **wandb_names(earlier, figures)}, step)

        yield both
