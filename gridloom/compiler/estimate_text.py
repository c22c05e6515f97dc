"""Estimate of a language model's cost in a stage, from the tokens that it reads and writes."""

from __future__ import annotations

from typing import NamedTuple

from gridloom.compiler.facts import DataFacts
from gridloom.runtime.models.flops import BYTES
from gridloom.runtime.models.language.cost import HEAD_CACHE_BYTES, HISTORY_SHARE, LlamaCost
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.runtime.models.language.spec import LlamaModel, Lora
from gridloom.specs.solver import Solver
from gridloom.specs.stages import JointTrainStage, SolveStage

TOKENS_A_CELL, DEMO_TOKENS, HEAD_TOKENS, TAIL_TOKENS, ATTEMPT_TOKENS = 2, 11, 50, 33, 32
"""Tokens of the parts of a plain prompt, counted with SmolLM2's tokenizer: a cell (digit and space); the words around a
demonstration; the heading and the test input's title; the question; the words around an earlier attempt."""


class Prompt(NamedTuple):
    """Mean number of tokens of a prompt's head and tail."""

    head: int
    tail: int
    assumes: str

    @property
    def tokens(self) -> int:
        """Mean number of tokens of the whole prompt."""
        return self.head + self.tail


def prompt_of(shown: tuple[float, float], facts: DataFacts, most: int, attempts: int, *, earlier: float) -> Prompt:
    """Return the mean prompt size of an attempt.

    Args:
        shown: mean numbers of demonstrations and of cells in the prompt; 0 cells where prompts were not measured.
        most: `max_prompt_tokens` of the model.
        attempts: attempts of the stage; from 2 on the head leaves room for a history.
        earlier: mean number of earlier attempts in the prompt.
    """
    history = most // HISTORY_SHARE if attempts > 1 else 0
    if not shown[1]:
        return Prompt(most - history, history, f"prompts of {most} tokens, the most that fit")
    demos, cells = shown
    head = round(min(HEAD_TOKENS + DEMO_TOKENS * demos + TOKENS_A_CELL * cells, most - history - TAIL_TOKENS))
    history_tokens = min(earlier * (ATTEMPT_TOKENS + TOKENS_A_CELL * facts.answer_cells), history)
    tail = round(TAIL_TOKENS + history_tokens)
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
    """Add to `flops` one step of a language model with LoRA, which reads whole prompts in every attempt."""
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
    """Return the share of retries whose head is no longer cached, where pairs are drawn uniformly."""
    states = head * llama.facts.hidden_size * BYTES[llm.precision]
    return max(0.0, 1 - HEAD_CACHE_BYTES / max(pairs * (llama.cache_bytes(1, head, llm.precision) + states), 1))


def llama_activations(facts: LlamaFacts, rows: int, tokens: int, precision: str) -> int:
    """Return the bytes kept for a backward pass to the prefix: about 8 H + 3 I values per token and layer."""
    values = 8 * facts.hidden_size + 3 * facts.intermediate_size
    return BYTES[precision] * rows * tokens * facts.num_layers * values


def solve_reading_and_writing(
    llm: LlamaModel, facts: LlamaFacts, spec: SolveStage, data: DataFacts, has_head: bool, *, alone: bool = False
) -> tuple[int, dict[str, int], dict[str, int], int, list[str]]:
    """Return the cost of a solve stage's language model.

    Args:
        has_head: whether prompts are split at the latent prefix and the state of the head is cached for the retries.
        alone: whether the model solves without a checkpoint, and so is asked again where `confirm` is set.

    Returns:
        parameters, operations by label per attempt, operations by label once, bytes held, assumptions.
    """
    llama, solver = LlamaCost(facts), spec.solver
    new = solver.reason.max_new_tokens
    attempts = solver.max_attempts if solver.feedback else 1
    prompt = prompt_of(data.solve_prompt, data, llm.max_prompt_tokens, attempts, earlier=(attempts - 1) / 2)
    if not has_head:
        prompt = prompt._replace(head=0, tail=prompt.tokens)
    num_heads = min(spec.limit or data.num_held_out, data.num_held_out) * _forms(solver)
    reading, once = solve_reading(llama, prompt, num_heads)
    whole = llama.read(1, prompt.tokens).forward
    asks = 0 if solver.confirm is None or not alone else solver.confirm.left_out + solver.confirm.views
    written = llama.write(1, prompt.tokens, new).forward - whole
    flops = {prompt_label(llm): reading + asks * whole, token_label(llm): (1 + asks) * written}
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
    """Return the operations of reading prompts: per attempt its tail behind the cached head; once all heads."""
    tail = llama.read_tail(1, prompt.tail, prompt.head).forward
    return tail, num_heads * llama.read(1, prompt.head).forward


def _forms(solver: Solver) -> int:
    """Return the number of prompt forms of a task, which is its number of heads."""
    return 1 if solver.policy == "fixed" else min(2, solver.max_attempts)
