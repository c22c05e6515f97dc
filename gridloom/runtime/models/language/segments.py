"""Inputs and outputs of a language model: latent prefix, prompt segments, hidden states, generated text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gridloom.errors import ModelError

Prefix = Tensor | Sequence[Tensor | None] | None
"""Latent prefix [B, k, H], or per row [k, H] or None; fp32 or the model's dtype."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Token ids of a prompt before and after the position of the latent prefix."""

    head: tuple[int, ...]
    tail: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.head) + len(self.tail)

    def with_new(self, tokens: Sequence[int]) -> Segments:
        """Return the segments with new tokens appended."""
        return Segments(self.head, (*self.tail, *tokens))


@dataclass(frozen=True, slots=True)
class Generation:
    """Generated answer to one prompt."""

    text: str
    """Text of the new tokens without special tokens."""
    hidden: Tensor
    """fp32 [H] on the CPU, the state that the spec's `state` names; [T, H] if several are requested."""
    prompt_tokens: int
    """Number of prompt tokens, without the latent prefix."""
    new_tokens: int
    """Number of new tokens, without the end-of-text token."""
    tokens: tuple[int, ...] = ()
    """Ids of the new tokens."""


@dataclass(frozen=True, slots=True)
class States:
    """Token states of rows, left-padded."""

    values: Tensor
    """fp32 [B, T, H]"""
    mask: Tensor
    """bool [B, T], False on padding; the last column is True."""


def per_row(prefix: Prefix, batch: int) -> list[Tensor | None]:
    """Return the prefix of each row. Raises ModelError if their number is not the number of prompts."""
    rows: list[Tensor | None] = [None] * batch if prefix is None else list(prefix)
    if len(rows) != batch:
        raise ModelError(f"{len(rows)} latent prefixes for {batch} prompts")
    return rows


def last_states(states: Tensor, mask: Tensor, number: int) -> States:
    """Return the last `number` of left-padded states [B, T, H] and of their mask [B, T]."""
    return States(values=states[:, -number:].float(), mask=mask[:, -number:].bool())
