"""Runner of `joint_train`: trains adapters and TRM around a frozen language model, resumable; publishes a bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_bundle, require, save_bundle
from gridloom.runtime.data.arc.dataset import Dataset, load_dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.evaluation.tracking import JOINT_PROJECT, tracked
from gridloom.runtime.machine.device import hardware
from gridloom.runtime.machine.ranks import ALONE
from gridloom.runtime.models.adapters.network import LatentToText, TextToLatent
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.kind import kinds_with, network_spec, plays
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.language.state_store import StateStore
from gridloom.runtime.models.recursive.build import build_network, views_for
from gridloom.runtime.models.recursive.trm import TRM
from gridloom.runtime.stage import StageContext
from gridloom.runtime.training.held_apart import TasksApart, tasks_apart
from gridloom.runtime.training.joint.loop import JointTrainer
from gridloom.runtime.training.joint.reader import JointReader
from gridloom.runtime.training.joint.validate import JointValidator, asked_dataset, published
from gridloom.runtime.training.material import arc_meta, with_earlier
from gridloom.runtime.training.state import load_latest, load_step, save_state, saved_steps
from gridloom.runtime.training.train import adopt
from gridloom.runtime.training.validate import NotFinite
from gridloom.runtime.training.validations import Validations
from gridloom.specs.stages import JointTrainStage
from gridloom.stores.artifacts import Artifact


@dataclass(frozen=True, slots=True, eq=False)
class JointParts:
    """Networks, trainer and data of a joint training."""

    trainer: JointTrainer
    llama: Llama
    llm_spec: LlamaModel
    llm_digest: str
    ids: PuzzleIds
    whole: Dataset
    """Dataset with the pairs that are held apart."""
    apart: TasksApart | None
    store: StateStore

    def reader(self, asked: Dataset) -> JointReader:
        """Return a reader of another dataset's prompts."""
        trainer = self.trainer
        return JointReader(
            self.llama,
            asked,
            trainer.spec,
            latent=trainer.back is not None,
            num_states=trainer.bridge.num_states,
            store=self.store,
        )


class JointTrain:
    """Runner of kind `joint_train`. Inputs: `data`, and `trm` if training starts from a checkpoint."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Train to `steps` and write the bundle; on a stop signal save the state and raise StageInterrupted."""
        parts = prepare_joint(node, inputs, context)
        trainer, spec = parts.trainer, parts.trainer.spec
        reader = trainer.reader
        state = load_latest(context.work, key=node.key, say=context.progress.say)
        if state is not None:
            context.progress.say(f"{node.name}: resuming at step {state.step:,} of {spec.steps:,}")
        # a language model with lora has changed since its first states were computed
        wanted = [] if state is not None and reader.learns else trainer.batches.pairs(state.step if state else 0)
        checks: Validations | None = None
        ready = reader.prepare(wanted, context.progress, context.stop)
        if ready and parts.apart is not None and spec.validate_ is not None:
            asking = parts.reader(asked_dataset(parts.apart))
            validator = JointValidator(parts.apart, trainer, asking, parts.ids, spec.validate_)
            context.progress.say(f"{node.name}: {validator.described} are held apart for validation")
            ready = asking.learns or asking.prepare(validator.keys, context.progress, context.stop)
            saved = None if state is None else state.values.get("validation")
            checks = Validations(spec.validate_, "arc", validator, published(trainer, [asking]), ALONE, saved)
        if not ready:
            raise StageInterrupted(
                f"{node.name} stopped by {context.stop.reason} while the LLaMA read its prompts, saved",
                "run again to continue from there",
            )
        if state is None:
            trainer.bridge.standardise.fit(reader.known_states())
        else:
            trainer.restore(state)
        _train(node, trainer, context, checks)
        if checks is not None and checks.best_step not in (None, trainer.num_steps):
            trainer.restore(load_step(context.work, int(checks.best_step or 0), key=node.key))
        more = {} if checks is None else {"validation": checks.meta()}
        write_joint_bundle(context.out, node, parts, inputs, more)


def prepare_joint(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> JointParts:
    """Build networks, adapters and data of a joint training with initial weights; no prompt is read."""
    spec = node.section(JointTrainStage)
    whole = load_dataset(inputs["data"].path)
    apart = None if spec.validate_ is None else tasks_apart(whole, spec.validate_, node.seed)
    dataset = whole if apart is None else apart.dataset
    sampler = Sampler(dataset, node.seed)
    ids = PuzzleIds(sampler.views.names)
    network = _network(node, inputs, dataset, ids, context)
    llm_spec = node.model(spec.llm, LlamaModel)
    llama = Llama.load(llm_spec, context.device, context.base, context.progress, seed=node.seed + 2)
    bridge, back = _adapters(node, spec, llama, network, context)
    digest = str(node.facts["llama"][spec.llm]["digest"])
    store = StateStore.of(
        context.ledger.workspace,
        llm_spec,
        digest,
        context.device,
        num_states=bridge.num_states,
        max_new_tokens=spec.max_new_tokens,
    )
    reader = JointReader(llama, dataset, spec, latent=back is not None, num_states=bridge.num_states, store=store)
    trainer = JointTrainer(network, bridge, back, reader, sampler, spec)
    return JointParts(trainer, llama, llm_spec, digest, ids, whole, apart, store)


def write_joint_bundle(
    out: Path, node: StageNode, parts: JointParts, inputs: Mapping[str, Artifact], more: Mapping[str, Any]
) -> None:
    """Write the bundle of the trainer's weights. Args: more: further values of the bundle's `meta`."""
    trainer, back = parts.trainer, parts.trainer.back
    save_bundle(
        out,
        Bundle(
            parts={
                NETWORK: trainer.network,
                "text_to_latent": trainer.bridge,
                **({} if back is None else {"latent_to_text": back}),
            },
            puzzle_ids=parts.ids,
            llm_spec=parts.llm_spec,
            lora=None if parts.llama.lora is None else parts.llama.lora.tensors(),
            meta={
                "stage": node.name,
                "key": node.key,
                "steps": trainer.num_steps,
                "seed": node.seed,
                "attempts": trainer.spec.attempts,
                "llm_digest": parts.llm_digest,
                # weights chosen by answers depend on them, so the leak rule covers those held apart too
                "data": with_earlier(arc_meta(parts.whole), inputs.get("trm")),
                **more,
            },
        ),
    )


def _network(
    node: StageNode, inputs: Mapping[str, Artifact], dataset: Dataset, ids: PuzzleIds, context: StageContext
) -> TRM:
    name = str(node.spec["trm"])
    if "trm" not in inputs:
        generator = torch.Generator().manual_seed(node.seed)
        fresh_spec = network_spec(node.models[name])
        fresh = build_network(
            fresh_spec,
            dataset.canvas,
            len(ids),
            task_of=ids.task_of,
            views=views_for(fresh_spec, ids),
            generator=generator,
        )
        return cast(TRM, fresh.to(context.device))
    before = load_bundle(inputs["trm"].path, context.device)
    require(before, canvas=dataset.canvas, where=f"the checkpoint of {name!r}")
    if len(before.network.sides) > 1:
        sides = ", ".join(map(str, before.network.sides))
        raise StageError(
            f"the checkpoint of {name!r} was trained on canvases of {sides}; adapters write positions of one",
            "train it on data without canvases",
        )
    if before.network.packed:
        raise StageError(
            f"the checkpoint of {name!r} was trained on packed rows; adapters write positions of a canvas",
            "train it on data with rows: square",
        )
    if not plays(before.network.spec.kind, "two_state"):
        raise StageError(
            f"the checkpoint of {name!r} holds a {before.network.spec.kind}, whose carry is not z_H and z_L",
            f"train a model of kind {' or '.join(kinds_with('two_state'))} for it",
        )
    spec = before.network.spec
    built = build_network(spec, dataset.canvas, len(ids), task_of=ids.task_of, views=views_for(spec, ids))
    network = cast(TRM, built.to(context.device))
    adopt(network, before, ids, context.progress.say)
    return network


def _adapters(
    node: StageNode, spec: JointTrainStage, llama: Llama, network: TRM, context: StageContext
) -> tuple[TextToLatent, LatentToText | None]:
    """Build the adapters of the stage with weights from its seed. Raises StageError for a wrong number of adapters."""
    generator = torch.Generator().manual_seed(node.seed + 1)
    kinds = {name: node.models[name]["kind"] for name in spec.adapters}
    forward = [node.model(name, TextToLatentModel) for name in spec.adapters if kinds[name] == "text_to_latent"]
    backward = [node.model(name, LatentToTextModel) for name in spec.adapters if kinds[name] == "latent_to_text"]
    if len(forward) != 1 or len(backward) > 1:
        raise StageError(
            f"{node.name} names {len(forward)} text_to_latent and {len(backward)} latent_to_text adapters",
            "name one text_to_latent and at most one latent_to_text in  adapters:",
        )
    bridge = TextToLatent.build(forward[0], llama.hidden_size, network, generator).to(context.device)
    back = (
        LatentToText.build(backward[0], llama.hidden_size, network, generator).to(context.device) if backward else None
    )
    return bridge, back


def _train(node: StageNode, trainer: JointTrainer, context: StageContext, checks: Validations | None) -> None:
    spec, first, started = trainer.spec, trainer.num_steps, time.monotonic()
    bars = context.progress.task(node.name, total=spec.steps, unit="step", done=first)
    with tracked(spec.wandb, JOINT_PROJECT, node, context) as track, bars as bar:
        if checks is not None and checks.is_due(first, first == spec.steps):
            # the run that made this step was stopped before its validation
            found = _validated(checks, trainer, context)
            if found is None:
                raise _interrupted(node, trainer, context)
            track(first, found)
        while trainer.num_steps < spec.steps:
            epochs = trainer.num_epochs
            try:
                trainer.step(trainer.batches.batch(trainer.num_steps))
            except StageError as error:
                raise StageError(error.message, _after_divergence(trainer, context)) from error
            step, last = trainer.num_steps, trainer.num_steps == spec.steps
            shown, figures = dict[str, object](), dict[str, float]()
            if last or step % spec.log_every == 0:
                means = trainer.since_report.take()
                figures |= {**means, "steps_per_s": (step - first) / (time.monotonic() - started)}
                shown = {"loss": round(means["loss"], 3), "exact": f"{means['exact_match']:.0%}"}
            if trainer.num_epochs > epochs:
                whole = trainer.since_epoch.take()
                figures |= {"epoch": trainer.num_epochs, **{f"epoch_{name}": whole[name] for name in whole}}
            stop = bool(context.stop) and not last
            due = checks is not None and checks.is_due(step, last) and not stop
            if checks is not None and due:
                found = _validated(checks, trainer, context)
                stop = stop or found is None
                figures |= found or {}
                shown |= {} if found is None else {"validation": checks.shown(found)}
            if figures:
                track(step, figures)
            bar.advance(1, **shown)
            if last or step % spec.checkpoint_every == 0 or stop or due:
                state = trainer.state()
                values = state.values if checks is None else {**state.values, "validation": checks.state()}
                best = None if checks is None else checks.best_step
                save_state(context.work, replace(state, values=values), key=node.key, best=best)
            if stop:
                raise _interrupted(node, trainer, context)
    seconds = time.monotonic() - started
    if checks is not None:
        context.notes.update(checks.notes())
        context.progress.say(f"{node.name}: {checks.conclusion()}")
    context.notes.update(
        trainable_parameters=sum(p.numel() for p in trainer.trained.parameters()),
        states_read=trainer.reader.num_read,
        states_reused=trainer.reader.num_reused,
        hardware=hardware(context.device),
        head_cache_hits=trainer.reader.cache.num_hits,
        head_cache_misses=trainer.reader.cache.num_misses,
    )
    if spec.steps > first:  # a run that only publishes what an earlier one trained has no rate
        context.notes.update(steps_per_s=(spec.steps - first) / seconds)


def _validated(checks: Validations, trainer: JointTrainer, context: StageContext) -> dict[str, float] | None:
    """Validate after a step; None if stopped. Raises StageError for diverged weights."""
    try:
        return checks.run(trainer.num_steps, context.stop)
    except NotFinite:
        raise StageError(trainer.describe_divergence(), _after_divergence(trainer, context)) from None


def _interrupted(node: StageNode, trainer: JointTrainer, context: StageContext) -> StageInterrupted:
    return StageInterrupted(
        f"{node.name} stopped by {context.stop.reason} at step {trainer.num_steps:,} of {trainer.spec.steps:,}, saved",
        "run again to continue from there",
    )


def _after_divergence(trainer: JointTrainer, context: StageContext) -> str:
    steps = saved_steps(context.work)
    kept = f"last good checkpoint: step {steps[-1]:,}, kept" if steps else "no checkpoint had been saved yet"
    resumes = f"it resumes at {steps[-1]:,}" if steps else "it starts anew"
    return f"{kept}. Lower optimizer.lr (now {trainer.spec.optimizer.lr:g}), then run again: {resumes}."
