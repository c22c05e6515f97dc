"""What a stage will cost: parameters, operations, peak memory and, on a calibrated device, time; with assumptions."""

from __future__ import annotations

from dataclasses import dataclass

from gridloom.compiler.bind import Bound, dataset_of
from gridloom.compiler.cost import BYTES, LlamaCost, TrmCost, latent_to_text, text_to_latent
from gridloom.compiler.facts import DataFacts, LlamaFacts
from gridloom.compiler.graph import Cost
from gridloom.specs.data import ArcData
from gridloom.specs.models import LatentToTextModel, LlamaModel, TextToLatentModel, TrmModel
from gridloom.specs.stages import JointTrainStage, SolveStage, TrainStage

WEIGHT_STATE = 5
"""fp32 copies of a trained weight: itself, gradient, two moments, average."""


@dataclass(frozen=True, slots=True)
class Sources:
    """A bound spec with the facts that estimates need."""

    bound: Bound
    data: dict[str, DataFacts]
    llama: dict[str, LlamaFacts]

    def trm(self, stage: str, facts: DataFacts) -> TrmCost | None:
        """Return the cost model of the TRM behind a stage."""
        name = self.bound.trm_of(stage)
        model = self.bound.spec.models.get(name) if name else None
        return TrmCost(model, facts.canvas) if isinstance(model, TrmModel) else None

    def joint_of(self, stage: str) -> str | None:
        """Return the joint stage whose adapters a solve stage uses."""
        source = self.bound.input(stage, "with")
        name = source[1] if source else None
        return name if name and isinstance(self.bound.spec.stages.get(name), JointTrainStage) else None


def estimate(stage: str, sources: Sources) -> Cost | None:
    """Return a stage's cost; None for a stage that runs no network, or one whose parts are not all known."""
    spec = sources.bound.spec.stages[stage]
    found = dataset_of(sources.bound, stage)
    facts = sources.data.get(found[0]) if found else None
    trm = sources.trm(stage, facts) if facts else None
    if found is None or facts is None or trm is None:
        return None
    if isinstance(spec, TrainStage):
        return _train(spec, trm, found[1], facts)
    if isinstance(spec, JointTrainStage):
        return _joint(stage, spec, trm, found[1], facts, sources)
    return _solve(stage, spec, trm, facts, sources) if isinstance(spec, SolveStage) else None


def _train(spec: TrainStage, trm: TrmCost, data: ArcData, facts: DataFacts) -> Cost:
    state = 4 * trm.parameters * (WEIGHT_STATE if spec.ema else WEIGHT_STATE - 1)
    table = _table(trm, data, facts)
    return Cost(
        parameters=trm.parameters,
        flops={trm.spec.precision: trm.train_step(spec.batch_size)},
        num_steps=spec.steps,
        step="optimizer step",
        peak_bytes=state + table + trm.activation_bytes(spec.batch_size),
        assumes=("matrix products only", "activations of the last H round are kept"),
    )


def _table(trm: TrmCost, data: ArcData, facts: DataFacts) -> int:
    return trm.table_bytes(1 + facts.num_tasks * (1 + data.augment.copies), facts.num_tasks)


def _joint(
    stage: str, spec: JointTrainStage, trm: TrmCost, data: ArcData, facts: DataFacts, sources: Sources
) -> Cost | None:
    llm = sources.bound.spec.models.get(spec.llm)
    llama_facts = sources.llama.get(spec.llm)
    if not isinstance(llm, LlamaModel) or llama_facts is None:
        return None
    llama, rows = LlamaCost(llama_facts), spec.batch_size
    parameters, adapters, carries = trm.parameters, 0, False
    for name in spec.adapters:
        model = sources.bound.spec.models[name]
        if isinstance(model, TextToLatentModel):
            seen = min(model.sequence_tokens, llm.max_prompt_tokens)
            count, flops = text_to_latent(model, llama_facts.hidden_size, trm, rows, seen)
            carries = model.mode != "injection"
        elif isinstance(model, LatentToTextModel):
            count, flops = latent_to_text(model, llama_facts.hidden_size, trm, rows)
        else:
            continue
        parameters += count
        adapters += flops.forward + flops.backward
    has_back = any(sources.bound.spec.models[name].kind == "latent_to_text" for name in spec.adapters)
    act_steps = spec.act_steps or trm.spec.halt_max_steps
    attempt = trm.train_step(rows, carries) + (act_steps - 1) * trm.train_step(rows) + adapters
    tokens = llm.max_prompt_tokens
    reading = llama.write(rows, tokens, spec.max_new_tokens).forward if spec.max_new_tokens else 0
    reading += llama.read(rows, tokens).forward
    # towards the prefix only activations are differentiated, no weights: one forward pass more
    learning = (spec.attempts - 1) * llama.read(rows, tokens).forward if has_back else 0
    flops_by = {trm.spec.precision: spec.attempts * attempt}
    flops_by[llm.precision] = flops_by.get(llm.precision, 0) + spec.attempts * reading + learning
    kept = trm.activation_bytes(rows, carries)
    kept_llama = _llama_activations(llama_facts, rows, tokens, llm.precision) if has_back and spec.attempts > 1 else 0
    return Cost(
        parameters=parameters,
        frozen_parameters=llama.parameters,
        flops=flops_by,
        num_steps=spec.steps,
        step="optimizer step",
        peak_bytes=4 * parameters * (WEIGHT_STATE - 1) + llama.parameters * BYTES[llm.precision]
        + _table(trm, data, facts) + kept + kept_llama,
        assumes=(f"prompts of {tokens} tokens, the most that fit", "no sample is solved before its last attempt"),
    )  # fmt: skip


def _llama_activations(facts: LlamaFacts, rows: int, tokens: int, precision: str) -> int:
    """What a backward pass to the prefix keeps: about 8 H + 3 I values a token and layer."""
    values = 8 * facts.hidden_size + 3 * facts.intermediate_size
    return BYTES[precision] * rows * tokens * facts.num_layers * values


def _solve(stage: str, spec: SolveStage, trm: TrmCost, facts: DataFacts, sources: Sources) -> Cost:
    solver = spec.solver
    act_steps = solver.act_steps or trm.spec.halt_max_steps
    checks = -(-facts.num_check_demos // max(facts.num_tasks, 1))
    rows = solver.views * (1 + checks)
    flops = {trm.spec.precision: trm.act_step(rows).forward * act_steps}
    peak = 4 * trm.parameters + trm.state_bytes(rows)
    assumes = ["one test input a task", "every task uses all its attempts"]
    frozen = 0
    joint = sources.joint_of(stage)
    llm_name = getattr(sources.bound.spec.stages[joint], "llm", None) if joint else None
    llm = sources.bound.spec.models.get(llm_name) if llm_name else None
    if isinstance(llm, LlamaModel) and llm_name in sources.llama:
        llama = LlamaCost(sources.llama[llm_name])
        new = solver.reason.max_new_tokens
        tokens = llm.max_prompt_tokens
        flops[llm.precision] = flops.get(llm.precision, 0) + llama.write(1, tokens, new).forward
        frozen = llama.parameters
        peak += frozen * BYTES[llm.precision] + llama.cache_bytes(1, tokens + new, llm.precision)
        assumes.append(f"prompts of {tokens} tokens, the most that fit")
    tasks = min(facts.num_held_out, spec.limit or facts.num_held_out)
    return Cost(
        parameters=trm.parameters,
        frozen_parameters=frozen,
        flops=flops,
        num_steps=tasks * solver.max_attempts,
        step="attempt",
        peak_bytes=peak,
        assumes=tuple(assumes),
    )
