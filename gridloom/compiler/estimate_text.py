"""Cost of a language model in a stage: tokens of its prompts and of what it writes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gridloom.compiler.facts import DataFacts
from gridloom.runtime.models.flops import BYTES
from gridloom.runtime.models.language.cost import HEAD_CACHE_BYTES, HISTORY_SHARE, LlamaCost
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.runtime.models.language.spec import LlamaModel, Lora
from gridloom.specs.solver import Solver
from gridloom.specs.stages import JointTrainStage, SolveStage

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


def add_learning(
    spec: JointTrainStage,
    llm: LlamaModel,
    lora: Lora,
    llama: LlamaCost,
    first: Prompt,
    facts: DataFacts,
    flops: dict[str, int],
) -> None:
    """Add what a language model that learns reads and writes in a step: whole prompts, in every attempt."""
    rows, retries = spec.batch_size, spec.attempts - 1
    again = prompt_of(facts.joint_prompt, facts, llm.max_prompt_tokens, spec.attempts, earlier=spec.attempts / 2)
    flops[prompt_label(llm)] = llama.learn(rows, first.tokens, lora) + retries * llama.learn(rows, again.tokens, lora)
    if spec.max_new_tokens:
        for prompt, times in ((first, 1), (again, retries)):
            whole = llama.read(rows, prompt.tokens).forward
            flops[prompt_label(llm)] += times * whole
            written = times * (llama.write(rows, prompt.tokens, spec.max_new_tokens).forward - whole)
            flops[token_label(llm)] = flops.get(token_label(llm), 0) + written


def prompt_label(llm: LlamaModel) -> str:
    return f"{llm.precision} prompt{_quantized(llm)}"


def token_label(llm: LlamaModel) -> str:
    return f"{llm.precision} token{_quantized(llm)}"


def _quantized(llm: LlamaModel) -> str:
    return "" if llm.quantize == "none" else f" {llm.quantize}"


def missing_heads(llama: LlamaCost, head: int, pairs: int, llm: LlamaModel) -> float:
    """Share of retries whose head is no longer kept, where pairs are drawn evenly."""
    states = head * llama.facts.hidden_size * BYTES[llm.precision]
    return max(0.0, 1 - HEAD_CACHE_BYTES / max(pairs * (llama.cache_bytes(1, head, llm.precision) + states), 1))


def llama_activations(facts: LlamaFacts, rows: int, tokens: int, precision: str) -> int:
    """What a backward pass to the prefix keeps: about 8 H + 3 I values a token and layer."""
    values = 8 * facts.hidden_size + 3 * facts.intermediate_size
    return BYTES[precision] * rows * tokens * facts.num_layers * values


def solve_reading_and_writing(
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
    flops = {prompt_label(llm): reading, token_label(llm): llama.write(1, prompt.tokens, new).forward - whole}
    held = llama.weight_bytes(llm.precision, llm.quantize)
    held += llama.cache_bytes(1, llm.max_prompt_tokens + new, llm.precision)
    if not has_head:
        return llama.parameters, flops, {}, held, [prompt.assumes, "every answer has all its tokens"]
    states = prompt.head * facts.hidden_size * BYTES[llm.precision]
    held += min(num_heads * (llama.cache_bytes(1, prompt.head, llm.precision) + states), HEAD_CACHE_BYTES)
    return (
        llama.parameters,
        flops,
        {prompt_label(llm): once},
        held,
        [
            prompt.assumes,
            "heads of prompts are read once a task and kept",
            "every answer has all its tokens",
        ],
    )


def solve_reading(llama: LlamaCost, prompt: Prompt, num_heads: int) -> tuple[int, int]:
    """Return the operations of reading prompts: of an attempt, its tail behind the kept head; once, all heads."""
    tail = llama.read_tail(1, prompt.tail, prompt.head).forward
    return tail, num_heads * llama.read(1, prompt.head).forward


def _forms(solver: Solver) -> int:
    """Return how many prompt forms a task is shown in, and so how many heads it has."""
    return 1 if solver.policy == "fixed" else min(2, solver.max_attempts)
