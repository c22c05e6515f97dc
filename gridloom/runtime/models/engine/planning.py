"""Latent planning: paths of continuous thoughts (COCONUT, arXiv 2412.06769), scored and merged behind a gate.

    c = LN(z);  h_p = c + MLP_p(c) + e_p                                      for each of P paths
    for d = 1 .. depth:  sequence [h_p; tau_1 .. tau_(d-1); q_d],  q_1 = mean h_p, q_d = tau_(d-1)
                         one planner layer;  tau_d = output at q_d,  h_p = its first S outputs
    v_p = MLP([mean h_p; tau_depth]);  alpha = softmax(v / temperature) over the kept paths
    u = sum_p alpha_p h_p;  z' = z + g LN(GELU(W u)),  g = sigmoid(MLP(mean z))

A thought is the last hidden state, fed back as the next input. Positions of the state read the thoughts; thoughts read
the question and the thoughts before them, never an answer token, so that a causal row stays causal. The last norm's
gain starts at 0: training starts at z' = z.

Losses: 0.1 BCE(sigmoid v_p, token accuracy of the head on z + LN(GELU(W h_p))), with no gradient through the accuracy;
0.01 mean pairwise cos^2 of the paths; 0.01 mean g times the mean |gain| of the last norm. The gate starts open, near
0.88: while the gain is 0 the task gives the gate no gradient, and a penalty alone would close it before the paths were
tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.runtime.models.engine.layers import LayerNorm, dense, masked_mean
from gridloom.runtime.models.engine.spec import EngineModel
from gridloom.runtime.models.engine.tape import StepRecord, Tape, query_mask
from gridloom.runtime.models.recursive.layers import Linear

VALUE_WEIGHT, DIVERSITY_WEIGHT, GATE_WEIGHT = 0.1, 0.01, 0.01
PATH_SCALE = 0.1
"""RMS of the vector that distinguishes a path, beside states of RMS 1."""
GATE_BIAS = 2.0
FFN = 4
HEADS = 8


def planner_heads(width: int) -> int:
    """Return the heads of a planner layer: 8 where they divide the width, else the largest divisor below."""
    return next(heads for heads in range(HEADS, 0, -1) if width % heads == 0)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Record of a planning call, for the rows that planned."""

    state: Tensor
    """[B, S, D], the state that heads and carry read."""
    weights: Tensor
    """fp32 [B, P], alpha; 0 for dropped paths, and for rows that skipped."""
    values: Tensor
    """fp32 [B, P], v."""
    gate: Tensor
    """fp32 [B]"""
    thoughts: Tensor
    """fp32 [B, P, depth], norms of the thoughts."""
    planned: Tensor
    """bool [B], rows that ran the planner."""
    candidates: Tensor
    """[B, P, S, D], z + LN(GELU(W h_p)), without gradient; size 0 in evaluation."""
    diversity: Tensor
    """fp32 scalar, mean pairwise cos^2 of the paths' mean states."""


class PlannerLayer(nn.Module):
    """Pre-norm transformer layer: x = x + attend(LN(x)); x = x + FFN(LN(x))."""

    def __init__(self, width: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.heads = planner_heads(width)
        self.norm_attend, self.norm_ffn = LayerNorm(width), LayerNorm(width)
        self.qkv_proj = Linear(width, 3 * width, bias=True, generator=generator)
        self.o_proj = Linear(width, width, bias=True, generator=generator)
        self.up_proj = Linear(width, FFN * width, bias=True, generator=generator)
        self.down_proj = Linear(FFN * width, width, bias=True, generator=generator)

    def forward(self, x: Tensor, mask: Tensor | None, tape: Tape | None = None, thoughts: int = 0) -> Tensor:
        """Map [N, S, D]; mask bool [.., S, S], True where a query may read a key.

        Args:
            tape: key-value cache of a decoding; once it no longer records, x is one answer position and mask bool
                [N, pooled], open source slots.
            thoughts: number of last positions that are thoughts.
        """
        count, length, width = x.shape
        qkv = self.qkv_proj(self.norm_attend(x)).view(count, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.unbind(dim=2)
        if tape is not None:
            key, value = tape.extend(key, value, thoughts)
            if not tape.recording:
                mask = query_mask(mask, key.shape[1])
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
        )
        x = x + self.o_proj(mixed.transpose(1, 2).flatten(2))
        result: Tensor = x + self.down_proj(F.gelu(self.up_proj(self.norm_ffn(x))))
        return result


class Planner(nn.Module):
    """Latent planner of `paths` paths and `depth` thoughts."""

    def __init__(self, spec: EngineModel, generator: torch.Generator | None) -> None:
        super().__init__()
        assert spec.planning is not None
        part, width = spec.planning, spec.hidden_size
        self.part = part
        self.norm = LayerNorm(width)
        self.path_in = nn.ModuleList(Linear(width, width, bias=True, generator=generator) for _ in range(part.paths))
        self.path_out = nn.ModuleList(Linear(width, width, bias=True, generator=generator) for _ in range(part.paths))
        directions = torch.empty(width, part.paths).normal_(generator=generator)
        near = torch.linalg.qr(directions).Q.T if part.paths <= width else F.normalize(directions.T, dim=1)
        self.path = nn.Parameter(near * width**0.5 * PATH_SCALE)
        self.layers = nn.ModuleList(PlannerLayer(width, generator) for _ in range(part.depth))
        self.score = nn.Sequential(dense(2 * width, width // 2, generator), nn.GELU(), dense(width // 2, 1, generator))
        self.merge = Linear(width, width, bias=True, generator=generator)
        self.merge_norm = LayerNorm(width, gain=0.0)
        self.gate = (
            nn.Sequential(dense(width, width // 4, generator), nn.GELU(), dense(width // 4, 1, generator))
            if part.gate
            else None
        )
        if self.gate is not None:
            nn.init.constant_(self.gate[-1].bias, GATE_BIAS)  # type: ignore[arg-type]

    def forward(
        self,
        z: Tensor,
        pooled: int,
        mask: Tensor | None,
        valid: Tensor | None,
        generator: torch.Generator | None = None,
        tape: Tape | None = None,
    ) -> Plan:
        """Plan from states [B, S, D]. In evaluation rows with a gate below 0.5 are left as they are, at no cost.

        Args:
            pooled: number of leading positions that hold the question, over which means are taken.
            mask: bool [S, S] of the state's positions; None if all read all.
            valid: bool [B, pooled], question positions in use; None for all.
            generator: source of the path dropout in training.
            tape: key-value cache that records the call.
        """
        gate = torch.ones(len(z), device=z.device)
        if self.gate is not None:
            gate = self.gate(masked_mean(z[:, :pooled], valid)).squeeze(-1).sigmoid()
        if self.training or self.gate is None:
            return self._plan(z, gate, pooled, mask, valid, generator, tape)
        planned = gate >= 0.5
        rows = planned.nonzero().flatten()
        paths = self.part.paths
        whole = Plan(
            state=z.clone(),
            weights=z.new_zeros(len(z), paths, dtype=torch.float32),
            values=z.new_zeros(len(z), paths, dtype=torch.float32),
            gate=gate,
            thoughts=z.new_zeros(len(z), paths, self.part.depth, dtype=torch.float32),
            planned=planned,
            candidates=z.new_empty(0),
            diversity=z.new_zeros((), dtype=torch.float32),
        )
        if len(rows):
            some = self._plan(z[rows], gate[rows], pooled, mask, None if valid is None else valid[rows], None, tape)
            whole.state[rows], whole.weights[rows], whole.values[rows] = some.state, some.weights, some.values
            whole.thoughts[rows] = some.thoughts
        return whole

    def _plan(
        self,
        z: Tensor,
        gate: Tensor,
        pooled: int,
        mask: Tensor | None,
        valid: Tensor | None,
        generator: torch.Generator | None,
        tape: Tape | None,
    ) -> Plan:
        batch, length, width = z.shape
        paths = self.part.paths
        h = self._paths(z)
        seen = None if valid is None else valid.repeat_interleave(paths, dim=0)
        thoughts: list[Tensor] = []
        query = masked_mean(h[:, :pooled], seen).to(h.dtype)
        for layer in self.layers:
            sequence = torch.cat((h, *(t[:, None] for t in thoughts), query[:, None]), dim=1)
            count = len(thoughts) + 1
            out = layer(sequence, thought_mask(length, pooled, count, mask, seen, z.device), tape, count)
            h, query = out[:, :length], out[:, -1]
            thoughts.append(query)
        means = masked_mean(h[:, :pooled], seen)
        values = self.score(torch.cat((means, thoughts[-1].float()), dim=-1)).view(batch, paths)
        kept = self._kept(batch, generator).to(z.device)
        weights = (values / self.part.temperature).masked_fill(~kept, float("-inf")).softmax(dim=-1)
        h = h.view(batch, paths, length, width)
        merged = torch.einsum("bp,bpsd->bsd", weights.to(h.dtype), h)
        state = z + gate.to(z.dtype)[:, None, None] * self.change(merged)
        candidates = z.new_empty(0)
        if self.training:
            with torch.no_grad():
                candidates = z[:, None] + self.change(h)
        unit = F.normalize(means.view(batch, paths, width), dim=-1)
        squared = (unit @ unit.transpose(1, 2)).square()
        pairs = max(1, paths * (paths - 1))
        diversity = (squared.sum(dim=(1, 2)) - squared.diagonal(dim1=1, dim2=2).sum(dim=1)).mean() / pairs
        norms = torch.stack([t.detach().float().norm(dim=-1) for t in thoughts], dim=-1)
        planned = torch.ones(batch, dtype=torch.bool, device=z.device)
        return Plan(state, weights, values, gate, norms.view(batch, paths, -1), planned, candidates, diversity)

    def extend(self, z: Tensor, record: StepRecord, tape: Tape) -> Tensor:
        """Plan one further answer position [B, 1, D] with the weights and gate that the source gave; returns z'."""
        assert record.weights is not None
        assert record.gate is not None
        assert record.planned is not None
        rows = record.planned.nonzero().flatten()
        if not len(rows):
            return z
        paths = self.part.paths
        h = self._paths(z[rows])
        seen = None if record.valid is None else record.valid[rows].repeat_interleave(paths, dim=0)
        for layer in self.layers:
            h = layer(h, seen, tape)
        h = h.view(len(rows), paths, 1, -1)
        merged = torch.einsum("bp,bpsd->bsd", record.weights[rows].to(h.dtype), h)
        state = z.clone()
        state[rows] += record.gate[rows].to(z.dtype)[:, None, None] * self.change(merged)
        return state

    def _paths(self, z: Tensor) -> Tensor:
        """Return the initial states of the paths, [B * P, S, D]."""
        c, count = self.norm(z), self.part.paths
        return torch.stack(
            [c + self.path_out[p](F.gelu(self.path_in[p](c))) + self.path[p].to(c.dtype) for p in range(count)],
            dim=1,
        ).flatten(0, 1)

    def change(self, h: Tensor) -> Tensor:
        """Return LN(GELU(W h)), what a path adds to the state."""
        result: Tensor = self.merge_norm(F.gelu(self.merge(h)))
        return result

    def _kept(self, batch: int, generator: torch.Generator | None) -> Tensor:
        """Draw bool [B, P], paths that are kept; at least one of each row."""
        if not self.training or not self.part.path_dropout:
            return torch.ones(batch, self.part.paths, dtype=torch.bool)
        draw = torch.rand(batch, self.part.paths, generator=generator)
        return (draw >= self.part.path_dropout) | (draw == draw.amax(dim=1, keepdim=True))

    def losses(self, plan: Plan, accuracy: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the value loss, the diversity loss and the gate loss, fp32 scalars with their weights.

        Args:
            accuracy: candidate state [B, S, D] -> token accuracy fp32 [B] of the head on it.
        """
        with torch.no_grad():
            wanted = torch.stack([accuracy(plan.candidates[:, p]) for p in range(self.part.paths)], dim=1)
        value = F.binary_cross_entropy_with_logits(plan.values, wanted)
        in_use = self.merge_norm.weight.detach().abs().mean().clamp(max=1)
        gate = plan.gate.mean() * in_use if self.gate is not None else plan.gate.new_zeros(())
        return VALUE_WEIGHT * value, DIVERSITY_WEIGHT * plan.diversity, GATE_WEIGHT * gate


def thought_mask(
    length: int, pooled: int, thoughts: int, mask: Tensor | None, valid: Tensor | None, device: torch.device
) -> Tensor | None:
    """Return the mask of a planner layer over S positions and `thoughts` thoughts, bool [.., S + t, S + t].

    Positions read what `mask` allows and every thought. A thought reads the question, and the thoughts up to itself.
    """
    if mask is None and valid is None and pooled == length and thoughts == 1:
        return None
    total = length + thoughts
    allowed = torch.ones(total, total, dtype=torch.bool, device=device)
    if mask is not None:
        allowed[:length, :length] = mask
    allowed[length:, pooled:length] = False
    allowed[length:, length:] = torch.ones(thoughts, thoughts, dtype=torch.bool, device=device).tril()
    if valid is None:
        return allowed
    readable = torch.ones(len(valid), total, dtype=torch.bool, device=device)
    readable[:, :pooled] = valid
    return allowed & readable[:, None, None, :]
