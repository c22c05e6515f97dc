"""Runner of `joint_train`: trains adapters and TRM around a frozen language model, resumable; publishes a bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import cast

import torch

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_bundle, require, save_bundle
from gridloom.runtime.data.arc.dataset import Dataset, load_dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.machine.device import hardware
from gridloom.runtime.models.adapters.network import LatentToText, TextToLatent
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.kind import kinds_with, network_spec, plays
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.language.state_store import StateStore
from gridloom.runtime.models.recursive.build import build_network, views_for
from gridloom.runtime.models.recursive.trm import TRM
from gridloom.runtime.stage import StageContext
from gridloom.runtime.training.joint.loop import JointTrainer
from gridloom.runtime.training.joint.reader import JointReader
from gridloom.runtime.training.material import arc_meta, with_earlier
from gridloom.runtime.training.state import load_latest, save_state, saved_steps
from gridloom.runtime.training.tracking import JOINT_PROJECT, tracked
from gridloom.runtime.training.train import adopt
from gridloom.specs.stages import JointTrainStage
from gridloom.stores.artifacts import Artifact


class JointTrain:
    """Runner of kind `joint_train`. Inputs: `data`, and `trm` if training starts from a checkpoint."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Train to `steps` and write the bundle; on a stop signal save the state and raise StageInterrupted."""
        spec = node.section(JointTrainStage)
        dataset = load_dataset(inputs["data"].path)
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
        state = load_latest(context.work, key=node.key, say=context.progress.say)
        if state is not None:
            context.progress.say(f"{node.name}: resuming at step {state.step:,} of {spec.steps:,}")
        # a language model with lora has changed since its first states were computed
        wanted = [] if state is not None and reader.learns else trainer.batches.pairs(state.step if state else 0)
        if not reader.prepare(wanted, context.progress, context.stop):
            raise StageInterrupted(
                f"{node.name} stopped by {context.stop.reason} while the LLaMA read its prompts, saved",
                "run again to continue from there",
            )
        if state is None:
            bridge.standardise.fit(reader.known_states())
        else:
            trainer.restore(state)
        _train(node, trainer, context)
        save_bundle(
            context.out,
            Bundle(
                parts={
                    NETWORK: network,
                    "text_to_latent": bridge,
                    **({} if back is None else {"latent_to_text": back}),
                },
                puzzle_ids=ids,
                llm_spec=llm_spec,
                lora=None if llama.lora is None else llama.lora.tensors(),
                meta={
                    "stage": node.name,
                    "key": node.key,
                    "steps": spec.steps,
                    "seed": node.seed,
                    "attempts": spec.attempts,
                    "llm_digest": digest,
                    "data": with_earlier(arc_meta(dataset), inputs.get("trm")),
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


def _train(node: StageNode, trainer: JointTrainer, context: StageContext) -> None:
    spec, first, started = trainer.spec, trainer.num_steps, time.monotonic()
    bars = context.progress.task(node.name, total=spec.steps, unit="step", done=first)
    with tracked(spec.wandb, JOINT_PROJECT, node, context) as track, bars as bar:
        while trainer.num_steps < spec.steps:
            epochs = trainer.num_epochs
            try:
                trainer.step(trainer.batches.batch(trainer.num_steps))
            except StageError as error:
                raise StageError(error.message, _after_divergence(trainer, context)) from error
            step, last = trainer.num_steps, trainer.num_steps == spec.steps
            shown, figures = {}, dict[str, float]()
            if last or step % spec.log_every == 0:
                means = trainer.since_report.take()
                figures |= {**means, "steps_per_s": (step - first) / (time.monotonic() - started)}
                shown = {"loss": round(means["loss"], 3), "exact": f"{means['exact_match']:.0%}"}
            if trainer.num_epochs > epochs:
                whole = trainer.since_epoch.take()
                figures |= {"epoch": trainer.num_epochs, **{f"epoch_{name}": whole[name] for name in whole}}
            if figures:
                track(step, figures)
            bar.advance(1, **shown)
            if last or step % spec.checkpoint_every == 0 or context.stop:
                save_state(context.work, trainer.state(), key=node.key)
            if context.stop and not last:
                raise StageInterrupted(
                    f"{node.name} stopped by {context.stop.reason} at step {step:,} of {spec.steps:,}, saved",
                    "run again to continue from there",
                )
    seconds = time.monotonic() - started
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


def _after_divergence(trainer: JointTrainer, context: StageContext) -> str:
    steps = saved_steps(context.work)
    kept = f"last good checkpoint: step {steps[-1]:,}, kept" if steps else "no checkpoint had been saved yet"
    resumes = f"it resumes at {steps[-1]:,}" if steps else "it starts anew"
    return f"{kept}. Lower optimizer.lr (now {trainer.spec.optimizer.lr:g}), then run again: {resumes}."
