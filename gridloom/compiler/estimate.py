"""Estimate of a stage's cost from configurations alone: parameters, operations, peak memory, and its assumptions."""

from __future__ import annotations

from typing import NamedTuple, cast

from gridloom.compiler.bind import Bound, data_of
from gridloom.compiler.estimate_text import (
    add_learning,
    llama_activations,
    missing_heads,
    prompt_label,
    prompt_of,
    solve_reading_and_writing,
    token_label,
)
from gridloom.compiler.estimate_validation import (
    halting_study_cost,
    num_validations,
    validation_flops,
    validation_inputs,
)
from gridloom.compiler.facts import CheckpointFacts, DataFacts
from gridloom.compiler.graph import Cost
from gridloom.plugins import load_place
from gridloom.runtime.models.adapters.cost import latent_to_text, text_to_latent
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.kind import NetworkCost, NetworkOnRows, TwoStateCost, network_spec
from gridloom.runtime.models.language.cost import FITTED_PAIRS, HEAD_CACHE_BYTES, LlamaCost
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.base import DataSpec
from gridloom.specs.data import UNSEEN_VIEWS, ArcData, Augment
from gridloom.specs.halting_study import HaltingStudyStage
from gridloom.specs.kinds import STAGES
from gridloom.specs.puzzles import SequenceData
from gridloom.specs.solver_kinds import AUTO, PROPOSERS
from gridloom.specs.stages import DEFAULT_SEQUENCES, EvaluateStage, JointTrainStage, SolveStage, TrainStage

WEIGHT_STATE = 5
"""fp32 copies of a trained weight: itself, gradient, two moments, average."""


class Sources(NamedTuple):
    """A bound spec with the facts that estimates need."""

    bound: Bound
    data: dict[str, DataFacts]
    llama: dict[str, LlamaFacts]
    checkpoints: dict[str, CheckpointFacts]

    def data_of(self, stage: str) -> tuple[DataSpec, DataFacts] | None:
        """Return the entry of `data` that a stage reads, with its facts; None where either is unknown."""
        found = data_of(self.bound, stage)
        facts = self.data.get(found[0]) if found else None
        return (found[1], facts) if found and facts else None

    def network(self, stage: str, facts: DataFacts) -> NetworkOnRows | None:
        """Return the network behind a stage."""
        name = self.bound.network_of(stage)
        spec = self.bound.spec.models.get(name) if name else self._given_network(stage)
        rows = facts.rows(spec.reads) if isinstance(spec, NetworkSpec) else None
        return (
            NetworkOnRows(spec, rows, facts.side_shares, facts.row_cells)
            if isinstance(spec, NetworkSpec) and rows
            else None
        )

    def _given_network(self, stage: str) -> NetworkSpec | None:
        """Return the network of the given checkpoint behind a stage."""
        facts = self.checkpoints.get(self.bound.given_checkpoint_of(stage) or "")
        return network_spec(facts.network_spec) if facts and facts.network_spec else None

    def mean_views(self, checkpoint: str, facts: DataFacts, most: int | None) -> float:
        """Return the mean number of views, the identity included, in which a checkpoint's network knows the tasks.

        A task without puzzle ids in the checkpoint is shown in newly drawn views.

        Args:
            checkpoint: stage whose checkpoint is used.
            most: views of a test input at most; no bound when None.
        """
        known = self._known_views(checkpoint)
        counts = [known.get(task, 1 + UNSEEN_VIEWS) for task in facts.task_ids] or [1]
        return sum(min(count, most or count) for count in counts) / len(counts)

    def _known_views(self, stage: str) -> dict[str, int]:
        """Return the number of views by task of the training, or the given checkpoint, behind a stage."""
        spec = self.bound.spec.stages.get(stage)
        if isinstance(spec, TrainStage | JointTrainStage):
            found = self.data_of(stage)
            if found is None or not isinstance(found[0], ArcData):
                return {}
            return dict.fromkeys(found[1].task_ids, 1 + _num_copies(found[0].augment))
        return dict(self.checkpoints[stage].views_of) if stage in self.checkpoints else {}

    def joint_of(self, stage: str) -> str | None:
        """Return the joint stage whose adapters a solve stage uses."""
        source = self.bound.input(stage, "with")
        name = source[1] if source else None
        return name if name and isinstance(self.bound.spec.stages.get(name), JointTrainStage) else None


def _num_copies(augment: Augment) -> int:
    """Return the number of views beside the identity that training draws of a task with enough colours."""
    if not augment.colours:
        return min(augment.copies, 7) if augment.dihedral else 0
    return augment.copies


def estimate(stage: str, sources: Sources) -> Cost | None:
    """Return the cost of a stage; None where the stage runs no network or the facts of one of its parts are unknown."""
    place = STAGES.get(sources.bound.spec.stages[stage].kind).cost
    cost: Cost | None = load_place(place)(stage, sources) if place else None
    return cost


def evaluate_cost(stage: str, sources: Sources) -> Cost | None:
    """Return the cost of an evaluation: the batches of all members, each with the mean operations of the members."""
    spec, found = cast(EvaluateStage, sources.bound.spec.stages[stage]), sources.data_of(stage)
    if found is None:
        return None
    data, facts = found
    names = (stage, *(edge.target[1] for edge in sources.bound.inputs(stage, "ensemble")))
    members = [member for name in names if (member := sources.network(name, facts)) is not None]
    if len(members) < len(names):
        return None
    held_out = spec.limit or DEFAULT_SEQUENCES if isinstance(data, SequenceData) else facts.num_held_out
    tasks = min(held_out, spec.limit or held_out)
    rows = [tasks] * len(members)
    assumes: tuple[str, ...] = ()
    if isinstance(data, ArcData):
        sources_of = [sources.bound.input(stage, "with"), *(("stages", name) for name in names[1:])]
        rows = [round(tasks * sources.mean_views(one[1] if one else "", facts, spec.views)) for one in sources_of]
        assumes = ("one test input a task", "no view is left out")
    batch = min(spec.batch_size, max(*rows, 1))
    num_batches = [-(-count // batch) for count in rows]
    flops: dict[str, int] = {}
    for network, count in zip(members, num_batches, strict=True):
        precision = f"{network.spec.precision} ACT"
        run = network.mean(lambda on: on.act_step(batch).forward)
        steps = (spec.act_steps or network.spec.halt_max_steps) * spec.restarts
        flops[precision] = flops.get(precision, 0) + count * run * steps
    costs = [network.cost for network in members]
    return Cost(
        parameters=sum(cost.parameters for cost in costs),
        flops={precision: count // max(sum(num_batches), 1) for precision, count in flops.items()},
        num_steps=sum(num_batches),
        step="batch",
        peak_bytes=sum(4 * cost.parameters + _table(cost, data, facts) for cost in costs)
        + max(network.held(lambda on: on.state_bytes(batch)) for network in members),
        assumes=assumes,
    )


def study_cost(stage: str, sources: Sources) -> Cost | None:
    """Return the cost of a halting study."""
    spec, found = cast(HaltingStudyStage, sources.bound.spec.stages[stage]), sources.data_of(stage)
    network = sources.network(stage, found[1]) if found else None
    return halting_study_cost(spec, *found, network.spec, network.rows) if found and network else None


def train_cost(stage: str, sources: Sources) -> Cost | None:
    """Return the cost of a training."""
    spec, found = cast(TrainStage, sources.bound.spec.stages[stage]), sources.data_of(stage)
    network = sources.network(stage, found[1]) if found else None
    if found is None or network is None:
        return None
    cost = network.cost

    num_rows = network.rows_of_step(spec.batch_size, spec.batch_tokens)

    def step(on: NetworkCost) -> int:
        return on.train_step(num_rows)

    state = 4 * cost.parameters * (WEIGHT_STATE if spec.ema else WEIGHT_STATE - 1)
    shallow = sum(phase.share * network.mean(step, network.spec.at_depth(phase)) for phase in spec.depth)
    rest = max(0.0, 1 - sum(phase.share for phase in spec.depth))
    once: dict[str, int] = {}
    checks: tuple[str, ...] = ()
    if (wanted := spec.validate_) is not None:

        def act_step(rows: int) -> int:
            return network.mean(lambda on: on.act_step(rows).forward)

        work = validation_flops(wanted, *found, spec.steps, network.spec.halt_max_steps, act_step)
        once = {f"{network.spec.precision} ACT": work}
        checks = (
            f"{num_validations(wanted, spec.steps):,} validations of {validation_inputs(wanted, *found):,} inputs",
        )
    return Cost(
        parameters=cost.parameters,
        flops={network.spec.precision: round(shallow + rest * network.mean(step))},
        flops_once=once,
        num_steps=spec.steps,
        step="optimizer step",
        peak_bytes=state + _table(cost, *found) + network.held(lambda on: on.activation_bytes(num_rows)),
        assumes=(
            "matrix products only",
            "activations of the last H round are kept",
            *(("the mean over the phases of depth",) if spec.depth else ()),
            *checks,
        ),
        most_s=spec.budget_s,
    )


def _table(cost: NetworkCost, data: DataSpec, facts: DataFacts) -> int:
    if not isinstance(data, ArcData):
        return cost.table_bytes(1, 0)  # the blank id only
    return cost.table_bytes(1 + facts.num_tasks * (1 + data.augment.copies), facts.num_tasks)


def joint_cost(stage: str, sources: Sources) -> Cost | None:
    """Return the cost of a joint training: prompts and tokens of the language model, adapters, and the network."""
    spec, found = cast(JointTrainStage, sources.bound.spec.stages[stage]), sources.data_of(stage)
    network = sources.network(stage, found[1]) if found else None
    if found is None or network is None:
        return None
    data, facts = found
    trm = cast(TwoStateCost, network.cost)
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
            count, made = text_to_latent(model, llama_facts.hidden_size, trm, rows, seen)
            carries = model.mode != "injection"
        elif isinstance(model, LatentToTextModel):
            count, made = latent_to_text(model, llama_facts.hidden_size, trm, rows)
        else:
            continue
        parameters += count
        adapters += made.forward + made.backward
    has_back = any(sources.bound.spec.models[name].kind == "latent_to_text" for name in spec.adapters)
    act_steps = spec.act_steps or trm.spec.halt_max_steps
    attempt = trm.train_step(rows, carries) + (act_steps - 1) * trm.train_step(rows) + adapters
    first = prompt_of(facts.joint_prompt, facts, llm.max_prompt_tokens, spec.attempts, earlier=0)
    pairs = min(spec.steps * rows, facts.num_train_pairs or spec.steps * rows)
    flops: dict[str, int] = {trm.spec.precision: spec.attempts * attempt}
    assumes = [first.assumes, f"first prompts are read once a pair, {pairs:,} in all"]
    # reading a first prompt at once or as head and tail takes the same number of products
    once = llama.read(1, first.tokens)
    if llm.lora is not None:
        # prompts are read in every step with gradient, and once without for the mean and deviation of the states
        pairs = min(pairs, FITTED_PAIRS)
        assumes[1] = f"{pairs:,} first prompts are read beforehand, and every step's with gradient"
        parameters += llama.additions(llm.lora)
    written = 0
    if spec.max_new_tokens:
        written = llama.write(1, first.tokens, spec.max_new_tokens).forward - once.forward
        once_flops = {prompt_label(llm): 2 * pairs * once.forward, token_label(llm): pairs * written}
    else:
        once_flops = {prompt_label(llm): pairs * once.forward}
    kept_llama = 0
    if llm.lora is not None:
        add_learning(spec, llm, llm.lora, llama, first, facts, flops)
        kept_llama = llama_activations(llama_facts, rows, llm.max_prompt_tokens, llm.precision)
    elif spec.attempts > 1:
        retries = spec.attempts - 1
        again = prompt_of(facts.joint_prompt, facts, llm.max_prompt_tokens, spec.attempts, earlier=spec.attempts / 2)
        head = again.head if has_back else 0
        behind = llama.read_tail(rows, again.tokens - head, head).forward
        # the backward pass to the prefix differentiates activations only, no weights: as much as one forward pass
        reading = behind * (2 if has_back else 1)
        if has_back:
            reading += round(missing_heads(llama, head, pairs, llm) * llama.read(rows, head).forward)
            kept_llama = llama_activations(llama_facts, rows, again.tail, llm.precision)
            kept_llama += min(pairs * llama.cache_bytes(1, head, llm.precision), HEAD_CACHE_BYTES)
            assumes.append("retries read their tail behind kept heads")
        if spec.max_new_tokens:
            whole = llama.read(rows, again.tokens).forward
            flops[token_label(llm)] = retries * (llama.write(rows, again.tokens, spec.max_new_tokens).forward - whole)
            reading += whole
        flops[prompt_label(llm)] = retries * reading
        assumes.append("no sample is solved before its last attempt")
    if (wanted := spec.validate_) is not None:
        asked, often = validation_inputs(wanted, data, facts), num_validations(wanted, spec.steps)
        work = validation_flops(wanted, data, facts, spec.steps, act_steps, lambda rows: trm.act_step(rows).forward)
        once_flops[f"{trm.spec.precision} ACT"] = work
        # a language model with lora reads its prompts anew in each validation
        read = asked * (often if llm.lora is not None else 1)
        once_flops[prompt_label(llm)] += read * once.forward
        if spec.max_new_tokens:
            once_flops[prompt_label(llm)] += read * once.forward
            once_flops[token_label(llm)] += read * written
        assumes.append(f"{often:,} validations of {asked:,} inputs")
    kept = trm.activation_bytes(rows, carries)
    return Cost(
        parameters=parameters,
        frozen_parameters=llama.parameters,
        flops=flops,
        flops_once=once_flops,
        num_steps=spec.steps,
        step="optimizer step",
        peak_bytes=4 * parameters * (WEIGHT_STATE - 1)
        + llama.weight_bytes(llm.precision, llm.quantize)
        + _table(trm, data, facts)
        + kept
        + kept_llama,
        assumes=tuple(assumes),
    )


def solve_cost(stage: str, sources: Sources) -> Cost | None:
    """Return the cost of a solve: attempts of a network, with the language model of its joint training."""
    spec, found = cast(SolveStage, sources.bound.spec.stages[stage]), sources.data_of(stage)
    if found is None or spec.solver.proposer not in (AUTO, *PROPOSERS.built_in):
        return None  # what a proposer of another package runs is not known
    facts = found[1]
    if spec.with_ is None:
        return None  # a search has no network; its budget is counted in states
    if spec.with_ in sources.bound.spec.models:
        return _solve_alone(spec, spec.with_, facts, sources)
    network = sources.network(stage, facts)
    if network is None:
        return None
    cost, solver = network.cost, spec.solver
    act_steps = solver.act_steps or cost.spec.halt_max_steps
    checks = -(-facts.num_check_demos // max(facts.num_tasks, 1))
    known = sources.mean_views(spec.with_, facts, 1 + solver.views)  # the identity and the views of the plan
    rows = round(known * (1 + checks))
    flops = {f"{cost.spec.precision} ACT": network.mean(lambda on: on.act_step(rows).forward) * act_steps}
    peak = 4 * cost.parameters + network.held(lambda on: on.state_bytes(rows))
    assumes = ["one test input a task", "every task uses all its attempts"]
    assumes += ["no row halts before its last ACT step"] if solver.halt != "none" else []
    frozen = 0
    once: dict[str, int] = {}
    joint = sources.joint_of(stage)
    llm_name = getattr(sources.bound.spec.stages[joint], "llm", None) if joint else None
    llm = sources.bound.spec.models.get(llm_name) if llm_name else None
    if isinstance(llm, LlamaModel) and llm_name in sources.llama:
        assert joint is not None
        names = getattr(sources.bound.spec.stages[joint], "adapters", ())
        has_head = any(sources.bound.spec.models[name].kind == "latent_to_text" for name in names)
        frozen, asked, once, held, notes = solve_reading_and_writing(
            llm, sources.llama[llm_name], spec, facts, has_head
        )
        flops |= asked
        peak += held
        assumes += notes
    tasks = min(facts.num_held_out, spec.limit or facts.num_held_out)
    return Cost(
        parameters=cost.parameters,
        frozen_parameters=frozen,
        flops=flops,
        flops_once=once,
        num_steps=tasks * solver.max_attempts,
        step="attempt",
        peak_bytes=peak,
        assumes=tuple(assumes),
    )


def _solve_alone(spec: SolveStage, model: str, facts: DataFacts, sources: Sources) -> Cost | None:
    llm = sources.bound.spec.models[model]
    if not isinstance(llm, LlamaModel) or model not in sources.llama:
        return None
    frozen, flops, once, peak, notes = solve_reading_and_writing(
        llm, sources.llama[model], spec, facts, has_head=True, alone=True
    )
    tasks = min(facts.num_held_out, spec.limit or facts.num_held_out)
    return Cost(
        parameters=0,
        frozen_parameters=frozen,
        flops=flops,
        flops_once=once,
        num_steps=tasks * spec.solver.max_attempts,
        step="attempt",
        peak_bytes=peak,
        assumes=("every task uses all its attempts", *notes),
    )
