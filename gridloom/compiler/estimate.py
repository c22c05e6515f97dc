"""What a stage will cost: parameters, operations, peak memory and, on a calibrated device, time; with assumptions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from gridloom.compiler.bind import Bound, data_of
from gridloom.compiler.cost import (
    BYTES,
    FITTED_PAIRS,
    HEAD_CACHE_BYTES,
    HISTORY_SHARE,
    LlamaCost,
    TrmCost,
    latent_to_text,
    text_to_latent,
)
from gridloom.compiler.facts import CheckpointFacts, DataFacts, LlamaFacts
from gridloom.compiler.graph import Cost
from gridloom.specs.data import ArcData, DataSpec
from gridloom.specs.models import (
    NETWORKS_BY_KIND,
    LatentToTextModel,
    LlamaModel,
    Lora,
    TextToLatentModel,
    TrmModel,
)
from gridloom.specs.solver import Solver
from gridloom.specs.stages import EvaluateStage, JointTrainStage, SolveStage, TrainStage, at_depth

WEIGHT_STATE = 5
"""fp32 copies of a trained weight: itself, gradient, two moments, average."""
TOKENS_A_CELL, DEMO_TOKENS, HEAD_TOKENS, TAIL_TOKENS, ATTEMPT_TOKENS = 2, 11, 50, 33, 32
"""Of a prompt in plain form, counted with SmolLM2's tokenizer: a digit and its space; the words around a
demonstration; heading and test input's title; question; the words around an earlier attempt."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Mean tokens of a prompt's head and tail."""

    head: int
    tail: int
    assumes: str

    @property
    def tokens(self) -> int:
        """Of the whole prompt."""
        return self.head + self.tail


def prompt_of(shown: tuple[float, float], facts: DataFacts, most: int, attempts: int, *, earlier: float) -> Prompt:
    """Return the mean prompt of an attempt.

    Args:
        shown: mean demonstrations and cells in the prompt; cells of 0 where they were not counted.
        most: the model's `max_prompt_tokens`.
        attempts: of the stage; from 2 on the head leaves room for a history.
        earlier: attempts that the prompt tells of, a mean.
    """
    history = most // HISTORY_SHARE if attempts > 1 else 0
    if not shown[1]:
        return Prompt(most - history, history, f"prompts of {most} tokens, the most that fit")
    demos, cells = shown
    head = round(min(HEAD_TOKENS + DEMO_TOKENS * demos + TOKENS_A_CELL * cells, most - history - TAIL_TOKENS))
    told = min(earlier * (ATTEMPT_TOKENS + TOKENS_A_CELL * facts.answer_cells), history)
    tail = round(TAIL_TOKENS + told)
    return Prompt(max(head, 1), tail, "prompts of the dataset's mean size, two tokens a cell")


@dataclass(frozen=True, slots=True)
class Sources:
    """A bound spec with the facts that estimates need."""

    bound: Bound
    data: dict[str, DataFacts]
    llama: dict[str, LlamaFacts]
    checkpoints: dict[str, CheckpointFacts]

    def trm(self, stage: str, facts: DataFacts) -> TrmCost | None:
        """Return the cost model of the TRM behind a stage."""
        name = self.bound.trm_of(stage)
        model = self.bound.spec.models.get(name) if name else self._given(stage)
        return TrmCost(model, facts.canvas, facts.num_cells, facts.vocabulary) if isinstance(model, TrmModel) else None

    def _given(self, stage: str) -> TrmModel | None:
        """Return the network of the given checkpoint behind a stage."""
        facts = self.checkpoints.get(self.bound.given_to(stage) or "")
        told = facts.network_spec if facts else None
        kind = NETWORKS_BY_KIND.get(str(told["kind"])) if told else None
        return kind.model_validate_json(json.dumps(told)) if kind else None

    @staticmethod
    def mean(trm: TrmCost, facts: DataFacts, operations: Callable[[TrmCost], int]) -> int:
        """Return the mean operations over the canvases that the tasks lie on."""
        if not facts.side_shares:
            return operations(trm)
        return round(sum(share * operations(replace(trm, canvas=side, num_cells=None))
                         for side, share in facts.side_shares))

    def joint_of(self, stage: str) -> str | None:
        """Return the joint stage whose adapters a solve stage uses."""
        source = self.bound.input(stage, "with")
        name = source[1] if source else None
        return name if name and isinstance(self.bound.spec.stages.get(name), JointTrainStage) else None


def estimate(stage: str, sources: Sources) -> Cost | None:
    """Return a stage's cost; None for a stage that runs no network, or one whose parts are not all known."""
    spec = sources.bound.spec.stages[stage]
    found = data_of(sources.bound, stage)
    facts = sources.data.get(found[0]) if found else None
    if isinstance(spec, SolveStage) and facts is not None and spec.with_ in sources.bound.spec.models:
        return _solve_alone(spec, facts, sources)
    trm = sources.trm(stage, facts) if facts else None
    if found is None or facts is None or trm is None:
        return None
    if isinstance(spec, TrainStage):
        return _train(spec, trm, found[1], facts)
    if isinstance(spec, EvaluateStage):
        others = [sources.trm(edge.target[1], facts) for edge in sources.bound.inputs(stage, "ensemble")]
        known = [other for other in others if other is not None]
        return _evaluate(spec, (trm, *known), found[1], facts) if len(known) == len(others) else None
    if isinstance(spec, JointTrainStage):
        return _joint(stage, spec, trm, found[1], facts, sources)
    return _solve(stage, spec, trm, facts, sources) if isinstance(spec, SolveStage) else None


def _evaluate(spec: EvaluateStage, members: tuple[TrmCost, ...], data: DataSpec, facts: DataFacts) -> Cost:
    """Estimate the rows of all members; every batch counts as the mean of theirs."""
    rows = min(facts.num_held_out, spec.limit or facts.num_held_out)
    assumes: tuple[str, ...] = ()
    if isinstance(data, ArcData):
        rows *= min(1 + data.augment.copies, spec.views or 1 + data.augment.copies)
        assumes = ("one test input a task", "no view is left out")
    batch = min(spec.batch_size, max(rows, 1))
    num_batches = -(-rows // batch)
    flops: dict[str, int] = {}
    for trm in members:
        precision = f"{trm.spec.precision} ACT"
        run = Sources.mean(trm, facts, lambda on: on.act_step(batch).forward)
        flops[precision] = flops.get(precision, 0) + run * (spec.act_steps or trm.spec.halt_max_steps)
    return Cost(
        parameters=sum(trm.parameters for trm in members),
        flops={precision: count // len(members) for precision, count in flops.items()},
        num_steps=num_batches * len(members),
        step="batch",
        peak_bytes=sum(4 * trm.parameters + _table(trm, data, facts) for trm in members)
        + max(trm.state_bytes(batch) for trm in members),
        assumes=assumes,
    )


def _train(spec: TrainStage, trm: TrmCost, data: DataSpec, facts: DataFacts) -> Cost:
    state = 4 * trm.parameters * (WEIGHT_STATE if spec.ema else WEIGHT_STATE - 1)
    table = _table(trm, data, facts)
    def step(trm: TrmCost) -> int:
        return trm.train_step(spec.batch_size)

    shallow = sum(phase.share * Sources.mean(replace(trm, spec=at_depth(trm.spec, phase)), facts, step)
                  for phase in spec.depth)
    rest = max(0.0, 1 - sum(phase.share for phase in spec.depth))
    return Cost(
        parameters=trm.parameters,
        flops={trm.spec.precision: round(shallow + rest * Sources.mean(trm, facts, step))},
        num_steps=spec.steps,
        step="optimizer step",
        peak_bytes=state + table + trm.activation_bytes(spec.batch_size),
        assumes=("matrix products only", "activations of the last H round are kept",
                 *(("the mean over the phases of depth",) if spec.depth else ())),
        most_s=spec.budget_s,
    )


def _table(trm: TrmCost, data: DataSpec, facts: DataFacts) -> int:
    if not isinstance(data, ArcData):
        return trm.table_bytes(1, 0)  # the blank id alone
    return trm.table_bytes(1 + facts.num_tasks * (1 + data.augment.copies), facts.num_tasks)


def _joint(
    stage: str, spec: JointTrainStage, trm: TrmCost, data: DataSpec, facts: DataFacts, sources: Sources
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
    # a first prompt is read in one go or as head and tail: as many products
    once = llama.read(1, first.tokens)
    if llm.lora is not None:
        # read anew in every step, with gradient; beforehand without, for the mean and deviation of the states
        pairs = min(pairs, FITTED_PAIRS)
        assumes[1] = f"{pairs:,} first prompts are read beforehand, and every step's with gradient"
        parameters += llama.additions(llm.lora)
    if spec.max_new_tokens:
        written = llama.write(1, first.tokens, spec.max_new_tokens).forward - once.forward
        once_flops = {_prompt(llm): 2 * pairs * once.forward, _token(llm): pairs * written}
    else:
        once_flops = {_prompt(llm): pairs * once.forward}
    kept_llama = 0
    if llm.lora is not None:
        _learning(spec, llm, llm.lora, llama, first, facts, flops)
        kept_llama = _llama_activations(llama_facts, rows, llm.max_prompt_tokens, llm.precision)
    elif spec.attempts > 1:
        retries = spec.attempts - 1
        again = prompt_of(
            facts.joint_prompt, facts, llm.max_prompt_tokens, spec.attempts, earlier=spec.attempts / 2
        )  # fmt: skip
        head = again.head if has_back else 0
        behind = llama.read_tail(rows, again.tokens - head, head).forward
        # towards the prefix only activations are differentiated, no weights: one forward pass more
        reading = behind * (2 if has_back else 1)
        if has_back:
            reading += round(_missing(llama, head, pairs, llm) * llama.read(rows, head).forward)
            kept_llama = _llama_activations(llama_facts, rows, again.tail, llm.precision)
            kept_llama += min(pairs * llama.cache_bytes(1, head, llm.precision), HEAD_CACHE_BYTES)
            assumes.append("retries read their tail behind kept heads")
        if spec.max_new_tokens:
            whole = llama.read(rows, again.tokens).forward
            flops[_token(llm)] = retries * (llama.write(rows, again.tokens, spec.max_new_tokens).forward - whole)
            reading += whole
        flops[_prompt(llm)] = retries * reading
        assumes.append("no sample is solved before its last attempt")
    kept = trm.activation_bytes(rows, carries)
    return Cost(
        parameters=parameters,
        frozen_parameters=llama.parameters,
        flops=flops,
        flops_once=once_flops,
        num_steps=spec.steps,
        step="optimizer step",
        peak_bytes=4 * parameters * (WEIGHT_STATE - 1) + llama.weight_bytes(llm.precision, llm.quantize)
        + _table(trm, data, facts) + kept + kept_llama,
        assumes=tuple(assumes),
    )  # fmt: skip


def _learning(
    spec: JointTrainStage, llm: LlamaModel, lora: Lora, llama: LlamaCost, first: Prompt, facts: DataFacts,
    flops: dict[str, int],
) -> None:  # fmt: skip
    """Add what a language model that learns reads and writes in a step: whole prompts, in every attempt."""
    rows, retries = spec.batch_size, spec.attempts - 1
    again = prompt_of(
        facts.joint_prompt, facts, llm.max_prompt_tokens, spec.attempts, earlier=spec.attempts / 2
    )  # fmt: skip
    flops[_prompt(llm)] = llama.learn(rows, first.tokens, lora) + retries * llama.learn(rows, again.tokens, lora)
    if spec.max_new_tokens:
        for prompt, times in ((first, 1), (again, retries)):
            whole = llama.read(rows, prompt.tokens).forward
            flops[_prompt(llm)] += times * whole
            written = times * (llama.write(rows, prompt.tokens, spec.max_new_tokens).forward - whole)
            flops[_token(llm)] = flops.get(_token(llm), 0) + written


def _prompt(llm: LlamaModel) -> str:
    return f"{llm.precision} prompt{_quantized(llm)}"


def _token(llm: LlamaModel) -> str:
    return f"{llm.precision} token{_quantized(llm)}"


def _quantized(llm: LlamaModel) -> str:
    return "" if llm.quantize == "none" else f" {llm.quantize}"


def _missing(llama: LlamaCost, head: int, pairs: int, llm: LlamaModel) -> float:
    """Share of retries whose head is no longer kept, where pairs are drawn evenly."""
    states = head * llama.facts.hidden_size * BYTES[llm.precision]
    return max(0.0, 1 - HEAD_CACHE_BYTES / max(pairs * (llama.cache_bytes(1, head, llm.precision) + states), 1))


def _llama_activations(facts: LlamaFacts, rows: int, tokens: int, precision: str) -> int:
    """What a backward pass to the prefix keeps: about 8 H + 3 I values a token and layer."""
    values = 8 * facts.hidden_size + 3 * facts.intermediate_size
    return BYTES[precision] * rows * tokens * facts.num_layers * values


def _solve(stage: str, spec: SolveStage, trm: TrmCost, facts: DataFacts, sources: Sources) -> Cost:
    solver = spec.solver
    act_steps = solver.act_steps or trm.spec.halt_max_steps
    checks = -(-facts.num_check_demos // max(facts.num_tasks, 1))
    rows = solver.views * (1 + checks)
    flops = {f"{trm.spec.precision} ACT": Sources.mean(trm, facts, lambda on: on.act_step(rows).forward) * act_steps}
    peak = 4 * trm.parameters + trm.state_bytes(rows)
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
        frozen, asked, once, held, said = _asked(llm, sources.llama[llm_name], spec, facts, has_head)
        flops |= asked
        peak += held
        assumes += said
    tasks = min(facts.num_held_out, spec.limit or facts.num_held_out)
    return Cost(
        parameters=trm.parameters,
        frozen_parameters=frozen,
        flops=flops,
        flops_once=once,
        num_steps=tasks * solver.max_attempts,
        step="attempt",
        peak_bytes=peak,
        assumes=tuple(assumes),
    )


def _solve_alone(spec: SolveStage, facts: DataFacts, sources: Sources) -> Cost | None:
    llm = sources.bound.spec.models[spec.with_]
    if not isinstance(llm, LlamaModel) or spec.with_ not in sources.llama:
        return None
    frozen, flops, once, peak, said = _asked(llm, sources.llama[spec.with_], spec, facts, has_head=True)
    tasks = min(facts.num_held_out, spec.limit or facts.num_held_out)
    return Cost(
        parameters=0,
        frozen_parameters=frozen,
        flops=flops,
        flops_once=once,
        num_steps=tasks * spec.solver.max_attempts,
        step="attempt",
        peak_bytes=peak,
        assumes=("every task uses all its attempts", *said),
    )


def _asked(
    llm: LlamaModel, facts: LlamaFacts, spec: SolveStage, data: DataFacts, has_head: bool
) -> tuple[int, dict[str, int], dict[str, int], int, list[str]]:
    """Return of a solve stage's language model: parameters, operations an attempt and once, bytes held, assumptions.

    Args:
        has_head: prompts are parted where a latent prefix may go, and what comes before is kept for the retries.
    """
    llama, solver = LlamaCost(facts), spec.solver
    new = solver.reason.max_new_tokens
    attempts = solver.max_attempts if solver.feedback else 1
    prompt = prompt_of(data.solve_prompt, data, llm.max_prompt_tokens, attempts, earlier=(attempts - 1) / 2)
    if not has_head:
        prompt = replace(prompt, head=0, tail=prompt.tokens)
    num_heads = min(spec.limit or data.num_held_out, data.num_held_out) * _forms(solver)
    reading, once = solve_reading(llama, prompt, num_heads)
    whole = llama.read(1, prompt.tokens).forward
    flops = {_prompt(llm): reading, _token(llm): llama.write(1, prompt.tokens, new).forward - whole}
    held = llama.weight_bytes(llm.precision, llm.quantize)
    held += llama.cache_bytes(1, llm.max_prompt_tokens + new, llm.precision)
    if not has_head:
        return llama.parameters, flops, {}, held, [prompt.assumes, "every answer has all its tokens"]
    states = prompt.head * facts.hidden_size * BYTES[llm.precision]
    held += min(num_heads * (llama.cache_bytes(1, prompt.head, llm.precision) + states), HEAD_CACHE_BYTES)
    return llama.parameters, flops, {_prompt(llm): once}, held, [
        prompt.assumes, "heads of prompts are read once a task and kept", "every answer has all its tokens",
    ]  # fmt: skip


def solve_reading(llama: LlamaCost, prompt: Prompt, num_heads: int) -> tuple[int, int]:
    """Return the operations of reading prompts: of an attempt, its tail behind the kept head; once, all heads."""
    tail = llama.read_tail(1, prompt.tail, prompt.head).forward
    return tail, num_heads * llama.read(1, prompt.head).forward


def _forms(solver: Solver) -> int:
    """Return how many prompt forms a task is shown in, and so how many heads it has."""
    return 1 if solver.policy == "fixed" else min(2, solver.max_attempts)
