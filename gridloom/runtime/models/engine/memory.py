"""Memory bank: solution states of earlier rows, recalled by the similarity of their questions.

    address k = mean of a solved row's input embeddings, each under the fixed signs of its position
    value v = mean of its answer state
    q = W_q rms(pooled input);  s_c = cos(q, W_k k_c) / tau over valid entries, of which the nearest 32 are read
    r = W_o [per head: sum_c softmax_c(cos(q_head, (W_k k_c)_head) / tau) v_c,head];  out = sigmoid(W_g [q; r]) r

W_q and W_k start as one random rotation, so that an untrained read finds the nearest question: only what is among the
nearest gets a gradient, and two unrelated matrices would find no more than chance, and never learn to.

out is added to the input of every cycle. An empty bank gives exactly zero. Gradients flow to W_q, W_k, W_o, W_g and
tau, never to the store. A row that halts in training with a reward above the threshold is written: into the entry of
cosine above 0.95 as a running mean, else into a free entry, else over the least recently read. In training a row never
reads an entry that was written from a row of the same batch. The store is part of the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.runtime.models.engine.layers import dense, rms
from gridloom.runtime.models.engine.spec import EngineModel

SAME = 0.95
"""Cosine of addresses above which a write merges with an entry."""
TEMPERATURE = 0.1
SIGNS_SEED = 2
CHUNK = 2048
"""Entries whose addresses are projected at a time, so that temporaries stay small."""


@dataclass(frozen=True, slots=True, eq=False)
class Recall:
    """Result of a read."""

    term: Tensor
    """fp32 [B, D], added to the input; 0 where nothing was read."""
    gate: Tensor
    """fp32 [B]"""
    weights: Tensor
    """fp32 [B, n], weight of each entry read, averaged over the heads; 0 for invalid ones."""
    entries: Tensor
    """int64 [B, n], indices of the entries."""


class MemoryBank(nn.Module):
    """Store of C entries, with its read and write policy."""

    keys: Tensor
    """fp16 [C, D]"""
    values: Tensor
    """fp16 [C, D]"""
    valid: Tensor
    """bool [C]"""
    last_used: Tensor
    """int64 [C], clock of the last read that weighed the entry, or of its write."""
    hits: Tensor
    """int32 [C], merged writes."""
    source: Tensor
    """int64 [C], hash of the row that was written last."""
    clock: Tensor
    """int64 scalar, number of reads in training and writes."""

    def __init__(self, spec: EngineModel, generator: torch.Generator | None) -> None:
        super().__init__()
        assert spec.memory is not None
        self.part = spec.memory
        width, capacity = spec.hidden_size, spec.memory.capacity
        self.W_q, self.W_k, self.W_o = (dense(width, width, generator) for _ in range(3))
        for layer in (self.W_q, self.W_k, self.W_o):
            layer.bias = None  # type: ignore[assignment]
        with torch.no_grad():
            start = torch.linalg.qr(torch.empty(width, width).normal_(generator=generator)).Q
            self.W_q.weight.copy_(start)
            self.W_k.weight.copy_(start)
        self.W_g = dense(2 * width, 1, generator)
        self.log_tau = nn.Parameter(torch.tensor(TEMPERATURE).log())
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(capacity, width, dtype=torch.float16))
        self.register_buffer("valid", torch.zeros(capacity, dtype=torch.bool))
        for name, dtype in (("last_used", torch.int64), ("hits", torch.int32), ("source", torch.int64)):
            self.register_buffer(name, torch.zeros(capacity, dtype=dtype))
        self.register_buffer("clock", torch.zeros((), dtype=torch.int64))
        self._projected: tuple[tuple[int, int, torch.device], Tensor] | None = None

    @torch.no_grad()
    def _addresses(self) -> Tensor:
        """Return unit vectors of W_k k_c, fp32 [C, D]; computed anew when the weights or the store have changed."""
        state = (self.W_k.weight._version, self.keys._version, self.keys.device)
        if self._projected is None or self._projected[0] != state:
            self._projected = None
            found = torch.empty(self.keys.shape, device=self.keys.device)
            for part, into in zip(torch.split(self.keys, CHUNK), torch.split(found, CHUNK), strict=True):
                into.copy_(F.normalize(self.W_k(part.float()), dim=-1))
            self._projected = (state, found)
        return self._projected[1]

    def read(self, question: Tensor, source: Tensor, generator: torch.Generator | None = None) -> Recall:
        """Read the bank for questions fp32 [B, D], hashed in `source` int64 [B]."""
        batch = len(question)
        heads, count = self.part.heads, min(self.part.read, self.part.capacity)
        query = self.W_q(rms(question.float()))
        with torch.no_grad():
            near = F.normalize(query, dim=-1) @ self._addresses().T
            usable = self.valid
            if self.training:
                usable = usable & ~torch.isin(self.source, source)
            near = near.masked_fill(~usable, float("-inf"))
            best, entries = near.topk(count, dim=-1)
            found = best > float("-inf")
        address = self.W_k(self.keys[entries].float()).view(batch, count, heads, -1)
        value = self.values[entries].float().view(batch, count, heads, -1)
        by_head = F.normalize(query.view(batch, 1, heads, -1), dim=-1) * F.normalize(address, dim=-1)
        scores = by_head.sum(dim=-1) / self.log_tau.exp()
        # rows without any entry get weights of zero, and so do all parts of the sum
        weights = scores.masked_fill(~found[..., None], -1e9).softmax(dim=1) * found[..., None]
        read = self.W_o((weights[..., None] * value).sum(dim=1).flatten(1))
        gate = self.W_g(torch.cat((query, read), dim=-1)).sigmoid().squeeze(-1)
        term = gate[:, None] * read
        if self.training:
            if self.part.dropout:
                keep = torch.rand(batch, generator=generator) >= self.part.dropout
                term = term * keep.to(term.device)[:, None]
            self._note(entries, weights.detach().mean(dim=2), count)
        return Recall(term, gate.detach(), weights.detach().mean(dim=2), entries)

    @torch.no_grad()
    def _note(self, entries: Tensor, weights: Tensor, count: int) -> None:
        """Mark the best entry of a read, and those with more than an equal share of it, as used now."""
        self.clock += 1
        best = (weights > 0) & (weights == weights.amax(dim=1, keepdim=True))
        used = torch.where((weights > 1 / count) | best, self.clock, 0).flatten()
        self.last_used.scatter_reduce_(0, entries.flatten(), used, reduce="amax")

    @torch.no_grad()
    def write(self, question: Tensor, answer: Tensor, source: Tensor, chosen: Tensor) -> None:
        """Write the rows with `chosen` bool [B]: addresses fp32 [B, D], values fp32 [B, D], hashes int64 [B]."""
        rows = chosen.nonzero().flatten().tolist()
        if not rows:
            return
        addresses = F.normalize(question[rows].float(), dim=-1)
        near = torch.cat(
            [addresses @ F.normalize(part.float(), dim=-1).T for part in torch.split(self.keys, CHUNK)], dim=1
        )
        near = near.masked_fill(~self.valid, -2.0)
        for number, row in enumerate(rows):
            self.clock += 1
            at = int(near[number].argmax())
            if float(near[number, at]) > SAME:
                share = 1 / (int(self.hits[at]) + 2)
                self.keys[at].lerp_(question[row].half(), share)
                self.values[at].lerp_(answer[row].half(), share)
                self.hits[at] += 1
            else:
                # free entries first: -1 is below the clock of every entry in use
                at = int(torch.where(self.valid, self.last_used, -1).argmin())
                self.keys[at], self.values[at], self.hits[at] = question[row].half(), answer[row].half(), 0
            self.valid[at], self.last_used[at], self.source[at] = True, self.clock, source[row]
            near[:, at] = addresses @ F.normalize(self.keys[at].float(), dim=-1)

    @property
    def fill(self) -> Tensor:
        """Share of entries in use, fp32 scalar."""
        return self.valid.float().mean()


def row_hash(tokens: Tensor) -> Tensor:
    """Return a hash int64 [B] of token rows [B, L]: a polynomial in an odd number, modulo 2^64."""
    powers = _powers(tokens.shape[1]).to(tokens.device)
    hashed: Tensor = ((tokens.long() + 1) * powers).sum(dim=1)
    return hashed


@lru_cache(maxsize=8)
def _powers(count: int) -> Tensor:
    prime, modulus, power, found = 0x100000001B3, 1 << 64, 1, []
    for _ in range(count):
        power = power * prime % modulus
        found.append(power - modulus if power >= modulus // 2 else power)
    return torch.tensor(found, dtype=torch.int64)


def position_signs(positions: int, width: int) -> Tensor:
    """Return fixed signs int8 [S, D], by which an address depends on the order of the tokens that it averages."""
    generator = torch.Generator().manual_seed(SIGNS_SEED)
    return torch.randint(0, 2, (positions, width), generator=generator, dtype=torch.int8) * 2 - 1
