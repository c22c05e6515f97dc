"""Skipped updates of a training, recorded at their steps, and the errors that end a training whose numbers diverge."""

from __future__ import annotations

from gridloom.errors import StageError
from gridloom.runtime.data.arc.puzzle_ids import BLANK, PuzzleIds
from gridloom.runtime.data.tasks import SEPARATOR
from gridloom.runtime.evaluation.tracking import Track
from gridloom.runtime.stage import StageContext
from gridloom.runtime.training.health import MOST_IN_A_ROW, Skip, finite_rows
from gridloom.runtime.training.loop import ActTrainer
from gridloom.runtime.training.state import saved_steps
from gridloom.specs.stages import TrainStage

_SHOWN = 5
"""Skipped updates of a training that are shown; each is recorded."""


def record_skips(
    stage: str, trainer: ActTrainer, track: Track, context: StageContext, spec: TrainStage, ids: PuzzleIds, last: bool
) -> None:
    """Record the updates skipped since the last call; synchronises with the device.

    Args:
        last: whether the training ends with this step.

    Raises StageError where weights are not finite, where 10 updates in a row were skipped, or where a training ends
    with a skipped update and half or more of its updates were: its weights are those of a diverged training.
    """
    in_a_row, skips = trainer.skipped.read()
    for skip in skips:
        track(skip.step, skip.figures)
        if skip.number <= _SHOWN:
            more = "; later ones are in the ledger alone" if skip.number == _SHOWN else ""
            context.progress.say(f"{stage}: step {skip.step:,} changes no weight: {skip.cause}{more}")
    if not skips:
        return
    context.notes.update(skipped_updates=skips[-1].number)
    if not trainer.is_finite():
        raise diverged(trainer, context, spec, ids)
    if in_a_row >= MOST_IN_A_ROW or (last and in_a_row and 2 * skips[-1].number >= trainer.num_steps):
        raise _stuck(in_a_row, skips[-1], trainer, context, spec, ids)


def diverged(trainer: ActTrainer, context: StageContext, spec: TrainStage, ids: PuzzleIds) -> StageError:
    """Return the error of a NaN loss: step, first non-finite parameter, batch, last good state, remedy."""
    return StageError(trainer.describe_divergence() + _bad_rows(trainer, ids), _remedy(trainer, context, spec))


def _stuck(
    in_a_row: int, last: Skip, trainer: ActTrainer, context: StageContext, spec: TrainStage, ids: PuzzleIds
) -> StageError:
    skipped = "update was" if in_a_row == 1 else f"{in_a_row} updates were"
    return StageError(
        f"stopped at step {trainer.num_steps:,} of {spec.steps:,}: the last {skipped} skipped, at step "
        f"{last.step:,} because {last.cause}" + _bad_rows(trainer, ids),
        _remedy(trainer, context, spec),
    )


def _remedy(trainer: ActTrainer, context: StageContext, spec: TrainStage) -> str:
    steps = saved_steps(context.work)
    kept = f"last good checkpoint: step {steps[-1]:,}, kept" if steps else "no checkpoint had been saved yet"
    resumes = f"resumes at {steps[-1]:,}" if steps else "starts anew, too"
    bf16 = " or set precision: fp32" if trainer.full.precision == "bf16" else ""
    clip = " or set clip_norm: 1.0" if spec.clip_norm is None else ""
    return (
        f"{kept}. Lower optimizer.lr (now {spec.optimizer.lr:g}){clip}{bf16}, which trains anew; run again unchanged, "
        f"it {resumes}."
    )


def _bad_rows(trainer: ActTrainer, ids: PuzzleIds) -> str:
    """Return the batch number, and the rows of the batch with non-finite state, as text."""
    carry = trainer.last_carry
    finite = finite_rows(carry)
    bad = [] if finite is None else (~finite).nonzero().flatten().tolist()
    rows = "all rows" if len(bad) == len(carry.steps) else f"row {bad[0]}" if len(bad) == 1 else f"{len(bad)} rows"
    which = f", {rows} of it" if bad else ""
    names = [ids.names[int(carry.puzzle_ids[row])] for row in bad]
    tasks = list(dict.fromkeys(name.split(SEPARATOR)[0] for name in names if name != BLANK))
    shown = f" ({', '.join(tasks[:3])}{', ...' if len(tasks) > 3 else ''})" if tasks else ""
    return f", in batch {trainer.num_steps:,}{which}{shown}"
