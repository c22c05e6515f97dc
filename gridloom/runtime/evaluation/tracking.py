"""Recording of figures of training and evaluation: in the ledger, and with `wandb` in the spec at Weights & Biases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.optional_packages import needed
from gridloom.runtime.evaluation.earlier_names import earlier_names, wandb_names
from gridloom.runtime.stage import StageContext
from gridloom.specs.stages import Wandb
from gridloom.stores.records import MetricRecord

TRAIN_PROJECT, JOINT_PROJECT = "arc-trm-pretrain", "arc-hybrid-joint"

Track = Callable[[int, Mapping[str, float]], None]
"""(step, figures by name)"""


@contextmanager
def tracked(
    spec: Wandb | None,
    project: str,
    node: StageNode,
    context: StageContext,
    earlier: str | None = None,
    of: str = "train/",
) -> Iterator[Track]:
    """Open the recorders of a stage's figures; a resumed stage continues its W&B run.

    Args:
        earlier: kind of data whose figures are recorded under the names of the earlier halting lab too.
        of: prefix of these names at W&B.

    Raises:
        GridloomError: wandb is not installed.
        StageError: wandb refuses to start a run, as it does online without a login.
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

    if spec is None:
        yield record
        return
    with needed("wandb", "wandb", f"wandb: in stage {node.name!r}"):
        import wandb

    folder = context.ledger.workspace.ensure(context.ledger.workspace.root / "wandb")
    try:
        run = wandb.init(
            project=spec.project or project,
            mode=spec.mode,
            dir=folder,
            resume="allow",
            name=f"{context.run_id} {node.name}",
            id=f"{context.run_id}-{node.key[-16:]}".replace(":", "-"),
            config={"key": node.key, **node.spec},
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, quiet=True),
        )
    except (wandb.Error, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StageError(
            f"{node.name} cannot begin a run at Weights & Biases: {reason}",
            "say  wandb: {mode: offline}  or log in with  wandb login",
        ) from error

    def both(step: int, figures: Mapping[str, float]) -> None:
        record(step, figures)
        named = {**figures, **wandb_names(earlier, figures, of)}
        run.log({name: float(value) for name, value in named.items()}, step=step)

    try:
        yield both
    finally:
        run.finish()
