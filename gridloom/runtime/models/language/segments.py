"""Values around a language model's call: prefix, prompt segments, hidden states, the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gridloom.errors import ModelError

Prefix = Tensor | Sequence[Tensor | None] | None
"""[B, k, H], or per row [k, H] or None; fp32 or the model's type."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Token ids of a prompt, before and after the place of the latent prefix."""

    head: tuple[int, ...]
    tail: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.head) + len(self.tail)

    def with_new(self, tokens: Sequence[int]) -> Segments:
        """Append new tokens."""
        return Segments(self.head, (*self.tail, *tokens))


@dataclass(frozen=True, slots=True)
class Generation:
    """What the model made of one prompt."""

    text: str
    """The new tokens alone, special tokens left out."""
    hidden: Tensor
    """fp32 [H] on the cpu: the state that the spec's `state` names; [T, H] where several were asked for."""
    prompt_tokens: int
    """Without the latent prefix."""
    new_tokens: int
    """The end-of-text token not counted."""
    tokens: tuple[int, ...] = ()
    """The new tokens' ids."""


@dataclass(frozen=True, slots=True)
class States:
    """Token states of some rows, left-padded."""

    values: Tensor
    """fp32 [B, T, H]"""
    mask: Tensor
    """bool [B, T], False on padding; the last column is True."""


def per_row(prefix: Prefix, batch: int) -> list[Tensor | None]:
    """Return the prefix of each row. Raises ModelError when there are not as many as prompts."""
    rows: list[Tensor | None] = [None] * batch if prefix is None else list(prefix)
    if len(rows) != batch:
        raise ModelError(f"{len(rows)} latent prefixes for {batch} prompts")
    return rows


def last_states(states: Tensor, mask: Tensor, number: int) -> States:
    """Keep the last `number` of left-padded states [B, T, H] and of their mask [B, T]."""
    return States(values=states[:, -number:].float(), mask=mask[:, -number:].bool())
