"""Runner of `train`: trains a network on demonstrations, puzzles or sequences, resumable; publishes a bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_bundle, require, save_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.evaluation.earlier_names import earlier_kind
from gridloom.runtime.evaluation.tracking import TRAIN_PROJECT, Track, tracked
from gridloom.runtime.machine.device import hardware, make_current, precision_advice
from gridloom.runtime.machine.ranks import ALONE, END, STATE, STEP, TRAIN, VALIDATE, Ranks
from gridloom.runtime.models.kind import network_spec
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.runtime.models.recursive.layers import PuzzleEmbedding
from gridloom.runtime.stage import StageContext
from gridloom.runtime.training.divergence import diverged, record_skips
from gridloom.runtime.training.focus import has_focus
from gridloom.runtime.training.loop import ActTrainer
from gridloom.runtime.training.material import Material, load_material, with_earlier
from gridloom.runtime.training.packed_loop import PackedTrainer
from gridloom.runtime.training.state import load_latest, load_step, save_state
from gridloom.runtime.training.validate import NotFinite, Validator
from gridloom.runtime.training.validations import Validations, serve
from gridloom.specs.stages import KeepBest, TrainStage
from gridloom.stores.artifacts import Artifact

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """Input of a rank that takes part in a training; all ranks read the same files."""

    node: StageNode
    inputs: Mapping[str, Artifact]
    device: str
    work: Path


class Train:
    """Runner of kind `train`. Inputs: `data`, and `model` if training continues from a checkpoint."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Train to `steps` and write the bundle; on a stop signal save the state and raise StageInterrupted.

        With several processes this method runs on rank 0 and broadcasts each operation to the other ranks.
        """
        ranks = ALONE if context.ranks is None else context.ranks
        spec = node.section(TrainStage)
        if spec.batch_size % (spec.accumulate * ranks.size):
            among = f" times {ranks.size} processes" if ranks.size > 1 else ""
            raise StageError(
                f"accumulate {spec.accumulate}{among} does not divide batch_size {spec.batch_size}",
                f"change accumulate or batch_size of stage {node.name!r}",
            )
        job = Job(node, inputs, context.device, context.work)
        planned, spec = spec, spec_of(job)
        if spec != planned:
            context.progress.say(f"{node.name}: every task is accepted already, one step is made")
        ranks.connect()
        ranks.broadcast(TRAIN, job)
        with ranks.collective():
            material, trainer, values = prepare(job, spec, ranks, context.progress.say)
        checks = validations(spec, material, trainer, values)
        if checks is not None:
            context.progress.say(f"{node.name}: {checks.validator.described} are held apart for validation")
        if trainer.num_steps:
            context.progress.say(f"{node.name}: resuming at step {trainer.num_steps:,} of {spec.steps:,}")
        try:
            best = self._train(node, spec, trainer, material, context, values, checks)
        finally:
            if not ranks.broken:
                ranks.broadcast(END)
        if best is not None and best != trainer.num_steps:
            trainer.restore(load_step(context.work, best, key=node.key))
        more = {} if checks is None else {"validation": checks.meta()}
        write_bundle(context.out, node, trainer, material, inputs, more)

    def _train(
        self,
        node: StageNode,
        spec: TrainStage,
        trainer: ActTrainer,
        material: Material,
        context: StageContext,
        values: Mapping[str, Any],
        checks: Validations | None,
    ) -> int | None:
        """Train to the end; return the step of the best state with `keep_best` or `validate`, else None."""
        spent_s, best = float(values.get("spent_s", 0.0)) + trainer.compile_s, values.get("best")
        first, started, budget_s = trainer.num_steps, time.monotonic(), spec.budget_s
        if budget_s is not None and spent_s - trainer.compile_s < budget_s <= spent_s:
            raise StageError(
                f"compiling took {trainer.compile_s:.0f} s, and of the budget of {budget_s:.0f} s only "
                f"{budget_s - spent_s + trainer.compile_s:.0f} s were left",
                f"raise the budget of stage {node.name!r}, or set  compile: off  there",
            )
        earlier = earlier_kind(trainer.full, material.kind)
        host_reads_are_free = torch.device(context.device).type == "cpu"
        total, unit, done = (spec.steps, "step", first) if budget_s is None else (round(budget_s), "s", spent_s)
        bars = context.progress.task(node.name, total=total, unit=unit, done=done)
        with tracked(spec.wandb, TRAIN_PROJECT, node, context, earlier) as track, bars as bar:
            # at least one step is made, however small the budget
            last = first >= spec.steps or (budget_s is not None and first > 0 and spent_s >= budget_s)
            shown_s = spent_s
            if (
                checks is not None
                and checks.is_due(first, last)  # the run that made this step was stopped before its validation
                and validated(checks, first, track, trainer, context, spec, material.ids) is None
            ):
                raise interrupted(node, context, first, spec)
            while not last:
                before_s = spent_s + time.monotonic() - started
                spent = 0.0 if budget_s is None else min(1.0, before_s / budget_s)
                trainer.ranks.broadcast(STEP, spent)
                with trainer.ranks.collective():
                    trainer.step(trainer.draw(material), spent)
                step, after_s = trainer.num_steps, spent_s + time.monotonic() - started
                last = step == spec.steps or (budget_s is not None and after_s >= budget_s)
                stop = bool(context.stop) and not last
                compare = spec.keep_best is not None and step % spec.keep_best.every == 0
                save = last or stop or compare or step % spec.checkpoint_every == 0
                log = last or step % spec.log_every == 0
                due = checks is not None and checks.is_due(step, last) and not stop
                if host_reads_are_free or save or log or due:
                    record_skips(node.name, trainer, track, context, spec, material.ids, last)
                if save and not trainer.is_finite():
                    raise diverged(trainer, context, spec, material.ids)
                shown: dict[str, Any] = {}
                if log:
                    means = trainer.means()
                    means["steps_per_s"] = (step - first) / (time.monotonic() - started)
                    track(step, means)
                    shown = {} if budget_s is None else {"step": step}
                    if "loss" in means:  # no mean where every update was skipped
                        shown |= {"loss": round(means["loss"], 3), "exact": share_shown(means)}
                if checks is not None and due:
                    found = validated(checks, step, track, trainer, context, spec, material.ids)
                    save, stop = True, stop or found is None
                    shown |= {} if found is None else {"validation": checks.shown(found)}
                # the bar counts what the budget counts: validations, checkpoints and logs between two steps too
                bar.advance(1 if budget_s is None else after_s - shown_s, **shown)
                shown_s = after_s
                if compare and spec.keep_best is not None:
                    best = better(best, spec.keep_best, trainer)
                if save:
                    trainer.ranks.broadcast(STATE)
                    with trainer.ranks.collective():
                        state = trainer.state()
                    values = {**state.values, "spent_s": after_s, "best": best}
                    values |= {} if checks is None else {"validation": checks.state()}
                    save_state(
                        context.work,
                        replace(state, values=values),
                        key=node.key,
                        keep=spec.keep_last,
                        best=_best_step(best, checks),
                    )
                if stop:
                    raise interrupted(node, context, step, spec)
        seconds = time.monotonic() - started
        made = trainer.num_steps - first
        if best is not None and spec.keep_best is not None:
            step, value = int(best[0]), best[1]
            context.progress.say(
                f"{node.name}: best {spec.keep_best.metric} {value:.4g} in the "
                f"{spec.keep_best.every:,} steps up to {step:,}; those weights are published"
            )
            context.notes.update(best_step=step, best_value=value)
        if checks is not None:
            context.notes.update(checks.notes())
            context.progress.say(f"{node.name}: {checks.conclusion()}")
        context.notes.update(
            steps=trainer.num_steps,
            trained_s=spent_s + seconds,
            hardware=hardware(context.device, trainer.ranks.size),
            parameters=sum(p.numel() for p in trainer.model.parameters()),
        )
        if made:  # a run that only publishes what an earlier one trained has no rate
            context.notes.update(steps_per_s=made / seconds, rows_per_s=made * spec.batch_size / seconds)
        return _best_step(best, checks)


def spec_of(job: Job) -> TrainStage:
    """Return the spec that every rank trains by: of one step where `unless_accepted` names only accepted tasks.

    Raises:
        StageError: the artifact of attempts is damaged.
    """
    spec = job.node.section(TrainStage)
    if "unless_accepted" in job.inputs and accepts_all(job.inputs["unless_accepted"]):
        return spec.model_copy(update={"steps": 1, "budget": None})
    return spec


def accepts_all(attempts: Artifact) -> bool:
    """Return whether the verifier of a solve stage accepted every task.

    Raises:
        StageError: the artifact is damaged.
    """
    try:
        tasks = attempts.read_json("picks.json")["tasks"]
        return all(task["accepted"] for task in tasks.values())
    except (KeyError, TypeError, AttributeError) as problem:
        raise StageError(
            f"{attempts.path}: picks.json is damaged ({problem!r})", "remove the artifact and run again"
        ) from None


def write_bundle(
    out: Path,
    node: StageNode,
    trainer: ActTrainer,
    material: Material,
    inputs: Mapping[str, Artifact],
    more: Mapping[str, Any],
) -> None:
    """Write the bundle of the trainer's weights; with an average, the average and the weights of the last step.

    Args:
        more: further values of the bundle's `meta`.
    """
    trainer.finish()
    model, spec = trainer.model, trainer.spec
    averaged = spec.ema > 0
    raw = {name: t.detach().clone() for name, t in model.state_dict().items()} if averaged else None
    if averaged:
        model.load_state_dict(trainer.ema.state_of(model))
    meta = {
        "stage": node.name,
        "key": node.key,
        "steps": trainer.num_steps,
        "seed": node.seed,
        "ema": spec.ema,
        "data": with_earlier(material.meta, inputs.get("model")),
        **more,
    }
    save_bundle(out, Bundle(parts={NETWORK: model}, puzzle_ids=material.ids, raw=raw, meta=meta))


def _best_step(best: list[float] | None, checks: Validations | None) -> int | None:
    """Return the step of the state to publish; None for the last."""
    if checks is not None and checks.best_step is not None:
        return checks.best_step
    return None if best is None else int(best[0])


def validations(
    spec: TrainStage, material: Material, trainer: ActTrainer, values: Mapping[str, Any]
) -> Validations | None:
    """Return the validations of a training that resumes from a state with these values; None without `validate`."""
    if spec.validate_ is None or material.validator is None:
        return None
    validator = material.validator(trainer.model)
    saved = values.get("validation")
    return Validations(spec.validate_, material.kind, validator, trainer.published, trainer.ranks, saved)


def validated(
    checks: Validations,
    step: int,
    track: Track,
    trainer: ActTrainer,
    context: StageContext,
    spec: TrainStage,
    ids: PuzzleIds,
) -> dict[str, float] | None:
    """Validate after a step and record the figures; None if stopped. Raises StageError for diverged weights."""
    try:
        found = checks.run(step, context.stop)
    except NotFinite:
        raise diverged(trainer, context, spec, ids) from None
    if found is not None:
        track(step, found)
    return found


def interrupted(node: StageNode, context: StageContext, step: int, spec: TrainStage) -> StageInterrupted:
    """Return the error of a training that was stopped after a saved step."""
    return StageInterrupted(
        f"{node.name} stopped by {context.stop.reason} at step {step:,} of {spec.steps:,}, saved",
        "run again to continue from there",
    )


def share_shown(means: Mapping[str, float]) -> str:
    """Return the share of exact rows for the progress line; a dash where no row has halted."""
    return f"{means['exact_match']:.0%}" if "exact_match" in means else "-"


def prepare(job: Job, spec: TrainStage, ranks: Ranks, say: Say) -> tuple[Material, ActTrainer, dict[str, Any]]:
    """Build data, trainer and saved values from the newest saved state, if any. Every rank calls this function."""
    node = job.node
    device = ranks.device(job.device)
    make_current(device)
    before = load_bundle(job.inputs["model"].path, device, weights="raw") if "model" in job.inputs else None
    network = network_spec(node.models[str(node.spec["model"])]) if before is None else before.network.spec
    material = load_material(job.inputs["data"], node.seed, network.reads, spec.validate_)
    model = _model(job, network, before, material, device, say)
    if advice := precision_advice(device, model.spec.precision):
        say(advice)
    if material.packed is None:
        trainer = ActTrainer(model, spec, seed=node.seed, ranks=ranks, focus=has_focus(model.spec, material.kind))
    else:
        trainer = PackedTrainer(model, spec, seed=node.seed, ranks=ranks)
    trainer.compile([side * side for side in material.sides] or [material.rows.cells], say)
    state = load_latest(job.work, key=node.key, say=say)
    if state is None:
        return material, trainer, {}
    trainer.restore(state)
    return material, trainer, state.values


def better(best: list[float] | None, wanted: KeepBest, trainer: ActTrainer) -> list[float] | None:
    """Return [step, figure] of the better of `best` and the steps since the last comparison; the earlier of equals.

    Steps in which no row has halted have no figure of rows, and leave `best` as it is.
    """
    if wanted.metric not in trainer.figure_names:
        raise StageError(
            f"keep_best compares {wanted.metric}, which a {trainer.full.kind} does not report",
            f"its training figures: {', '.join(trainer.figure_names)}",
        )
    value = trainer.stretch_means().get(wanted.metric)
    if value is None:
        return best  # no row has halted in these steps
    sign = -1 if wanted.metric.endswith("loss") else 1
    return [trainer.num_steps, value] if best is None or sign * value > sign * best[1] else best


def run_operations(job: Job, ranks: Ranks) -> None:
    """Run, on a rank other than 0, the operations that rank 0 broadcasts until the training ends."""
    material, trainer, _ = prepare(job, spec_of(job), ranks, lambda line: None)
    validator: Validator | None = None
    while True:
        operation, spent = ranks.receive()
        if operation == STEP:
            trainer.step(trainer.draw(material), spent)
        elif operation == STATE:
            trainer.state()
        elif operation == VALIDATE:
            validator = validator or (material.validator(trainer.model) if material.validator else None)
            assert validator is not None, "rank 0 validates only where the spec has it"
            serve(validator, trainer.published, ranks)
        else:
            return


def _model(job: Job, spec: NetworkSpec, before: Bundle | None, material: Material, device: str, say: Say) -> Network:
    if before is None:
        return material.network(spec, torch.Generator().manual_seed(job.node.seed)).to(device)
    require(
        before,
        kind=material.kind,
        canvas=None if spec.any_canvas else material.rows.canvas,
        num_cells=None if spec.any_canvas else material.rows.cells,
        vocabulary=material.rows.vocabulary,
        where=f"the checkpoint of {str(job.node.spec['model'])!r}",
    )
    model = material.network(spec).to(device)
    adopt(model, before, material.ids, say)
    return model


def adopt(model: Network, before: Bundle, ids: PuzzleIds, say: Say) -> None:
    """Load the weights of a checkpoint; puzzle rows are matched by name, and rows of unknown names start at zero."""
    tensors = {n: t for n, t in before.network.state_dict().items() if not n.startswith("puzzle_emb.")}
    model.load_state_dict({**model.state_dict(), **tensors})
    table, tasks = model.puzzle_emb, before.network.puzzle_emb
    if not isinstance(table, PuzzleEmbedding) or not isinstance(tasks, PuzzleEmbedding):
        return
    known = [(i, before.puzzle_ids.index[name]) for i, name in enumerate(ids.names) if name in before.puzzle_ids.index]
    if len(table.weights):
        new, old = (torch.tensor(column, device=model.device) for column in zip(*known, strict=True))
        table.weights[new] = tasks.weights[old]
    if table.task_weights is not None and tasks.task_weights is not None:
        where = {task: i for i, task in enumerate(before.puzzle_ids.tasks)}
        for i, task in enumerate(ids.tasks):
            if task in where:
                table.task_weights[i] = tasks.task_weights[where[task]]
    if len(known) < len(ids):
        say(
            f"{len(ids) - len(known):,} of {len(ids):,} puzzle ids are new and start at zero "
            f"({before.puzzle_ids.difference(ids)})"
        )
