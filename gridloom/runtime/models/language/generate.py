"""Batched decoding with a key-value cache; temperature and seed per row, finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.models.language.head_cache import HeadCache
from gridloom.runtime.models.language.linear_layout import few_row_logits
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.segments import Generation, Prefix, Segments


@dataclass(frozen=True, slots=True)
class Answer:
    """New tokens of a row, and the hidden state that the spec's `state` names."""

    tokens: tuple[int, ...]
    hidden: Tensor
    """fp32 [H] or [T, H], on the CPU."""


@dataclass(slots=True)
class _Row:
    temperature: float
    generator: torch.Generator
    tokens: list[int]
    states: Tensor
    """fp32 [H], first of the last prompt position, later as the spec's `state` names; or the last states [T, H]."""


@torch.no_grad()
def reason(
    llama: Llama,
    prompts: Sequence[str],
    *,
    prefix: Prefix = None,
    max_new_tokens: int,
    temperature: Sequence[float],
    seeds: Sequence[int],
    num_states: int = 1,
    heads: HeadCache | None = None,
) -> list[Generation]:
    """Generate an answer to each prompt: greedy at temperature 0, else sampled by a generator with the row's seed.

    A row's result does not depend on the other rows of the batch except for rounding in batched products.

    Args:
        num_states: with more than 1, `hidden` is [T, H], the last up to `num_states` states.
        heads: cache of the heads of prompts.
    """
    rows = [llama.segments(prompt) for prompt in prompts]
    answers = generate(llama, rows, prefix, max_new_tokens, temperature, seeds, num_states, heads)
    return [
        Generation(
            text=llama.tokenizer.decode(list(answer.tokens), skip_special_tokens=True),
            hidden=answer.hidden,
            prompt_tokens=len(row),
            new_tokens=len(answer.tokens),
            tokens=answer.tokens,
        )
        for row, answer in zip(rows, answers, strict=True)
    ]


@torch.no_grad()
def generate(
    llama: Llama,
    prompts: Sequence[Segments],
    prefix: Prefix,
    max_new_tokens: int,
    temperature: Sequence[float],
    seeds: Sequence[int],
    num_states: int = 1,
    heads: HeadCache | None = None,
) -> list[Answer]:
    """Decode up to `max_new_tokens` per row; with 0 only encode the prompts.

    With `heads`, the head of a prompt is encoded once, alone, and cached: a retry encodes its tail.
    """
    if not len(prompts) == len(temperature) == len(seeds):
        raise ModelError(f"{len(prompts)} prompts, {len(temperature)} temperatures and {len(seeds)} seeds")
    if not prompts:
        return []
    from gridloom.runtime.models.language.kv_cache import preallocated_cache  # imports transformers

    if heads is not None:
        read = heads.read(prompts, prefix, room=max_new_tokens)
        cache, mask, last = read.cache, read.whole, read.states[:, -1]
        kept = last.float().cpu() if num_states == 1 else [part.float().cpu() for part in read.last(num_states)]
    else:
        cache = preallocated_cache(max_new_tokens)
        embeds, mask = llama.inputs(prompts, prefix, room=max_new_tokens)
        states = llama.forward(embeds, mask, cache if max_new_tokens else None)
        last = states[:, -1]
        kept = (
            last.float().cpu()
            if num_states == 1
            else [
                row[-min(num_states, int(seen.sum())) :].float().cpu() for row, seen in zip(states, mask, strict=True)
            ]
        )
    rows = [
        _Row(temperature=heat, generator=torch.Generator().manual_seed(seed), tokens=[], states=state)
        for heat, seed, state in zip(temperature, seeds, kept, strict=True)
    ]
    running = list(range(len(rows)))
    for count in range(max_new_tokens):
        logits = few_row_logits(llama.head, last).float()
        if not bool(torch.isfinite(logits).all()):
            raise ModelError(
                f"LLaMA '{llama.spec.weights}' gave a logit that is not a number, run in {llama.spec.precision}",
                "set  precision: fp32  for it",
            )
        chosen = _choose(logits, [rows[index] for index in running])
        going = [at for at, token in enumerate(chosen) if token not in llama.stop_tokens]
        for at in going:
            rows[running[at]].tokens.append(chosen[at])
        if not going or (count + 1 == max_new_tokens and llama.spec.state == "last_prompt"):
            break
        if len(going) < len(running):
            here = torch.tensor(going, device=llama.device)
            cache.batch_select_indices(here)
            mask, running = mask[here], [running[at] for at in going]
        tokens = torch.tensor([[rows[index].tokens[-1]] for index in running], device=llama.device)
        mask = torch.cat((mask, mask.new_ones(len(running), 1)), dim=1)
        last = llama.forward(llama.embeddings(tokens), mask, cache)[:, -1]
        _note_states(llama, [rows[index] for index in running], last, num_states)
    return [Answer(tokens=tuple(row.tokens), hidden=row.states) for row in rows]


def _choose(logits: Tensor, rows: Sequence[_Row]) -> list[int]:
    """Choose a token per row from logits [B, V]: the argmax, with Gumbel noise of the row's generator if sampled."""
    for index, row in enumerate(rows):
        if row.temperature > 0:
            # argmax(l / T + g) with g = -log(-log u) draws from softmax(l / T)
            uniform = torch.rand(logits.shape[1], generator=row.generator).clamp(min=1e-10)
            noise = -torch.log(-torch.log(uniform)).to(logits.device)
            logits[index] = logits[index] / row.temperature + noise
    chosen: list[int] = logits.argmax(dim=1).tolist()
    return chosen


def _note_states(llama: Llama, rows: Sequence[_Row], last: Tensor, num_states: int) -> None:
    if llama.spec.state == "last_prompt":
        return
    for row, state in zip(rows, last.float().cpu(), strict=True):
        count = len(row.tokens)
        if num_states > 1:
            row.states = torch.cat((row.states, state[None]))[-num_states:]
        elif llama.spec.state == "last_new" or count == 1:
            row.states = state
        else:
            row.states = row.states + (state - row.states) / count
