"""Losses and records of the parts in a training step: further terms, transitions, memory writes, codebook updates."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gridloom.runtime.models.engine.body import EngineBody
from gridloom.runtime.models.engine.capsules import Encoded
from gridloom.runtime.models.engine.carry import EngineCarry
from gridloom.runtime.models.engine.halting import Action, clipped
from gridloom.runtime.models.engine.planning import Plan
from gridloom.runtime.models.recursive.losses import log_stablemax

MEASURES = (
    "supervision_loss",
    "planning_value_loss",
    "planning_diversity",
    "planning_gate",
    "planning_best_weight",
    "multi_token_loss",
    "draft_accuracy",
    "draft_accepted",
    "checksum_loss",
    "child_loss",
    "reconstructability",
    "opened_capsules",
    "memory_gate",
    "memory_fill",
    "commitment_loss",
    "code_perplexity",
    "concept_loss",
    "concept_accuracy",
    "q_loss",
    "q_error",
    "q_mean",
    "replay_size",
    "rnd_error",
)
"""Figures of parts, means over the optimizer steps in which the part computed them."""


class Scores(NamedTuple):
    """Accuracy of answers."""

    right: Tensor
    """bool [B, A]"""
    exact: Tensor
    """bool [B], True where every scored token is right."""
    accuracy: Tensor
    """fp32 [B]"""
    scored: Tensor
    """bool [B]"""


def surprise(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the stablemax cross-entropy fp32 [B] of logits [B, A, V], mean over scored positions of labels [B, A]."""
    wanted = labels.long()
    scored = wanted != 0
    loss = -log_stablemax(logits).gather(-1, wanted[..., None])[..., 0]
    return torch.where(scored, loss, 0.0).sum(dim=1) / scored.sum(dim=1).clamp(min=1)


def scores(logits: Tensor, labels: Tensor) -> Scores:
    """Return the accuracies of logits [B, A, V] against labels uint8 [B, A]."""
    scored = labels != 0
    right = (logits.detach().argmax(dim=-1) == labels) & scored
    count = scored.sum(dim=1)
    exact = (right.sum(dim=1) == count) & (count > 0)
    return Scores(right, exact, right.sum(dim=1) / count.clamp(min=1).float(), count > 0)


def accepted(drafts: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of drafted tokens that greedy decoding accepts, fp32 scalar: those the network names itself.

    Args:
        drafts: [B, A - 1, V], logits of y_(i+1) from the state of answer i.
        logits: [B, A, V], of y_i; row i + 1 decides on draft i.
        labels: uint8 [B, A]; label 0 is not scored.
    """
    scored = labels[:, 1:] != 0
    same = (drafts.argmax(dim=-1) == logits.detach()[:, 1:].argmax(dim=-1)) & scored
    return same.sum() / scored.sum().clamp(min=1).float()


def part_terms(
    network: EngineBody,
    carry: EngineCarry,
    plan: Plan | None,
    found: Encoded | None,
    state: Tensor,
    logits: Tensor,
    generator: torch.Generator | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the losses of planning, multi-token prediction, capsules and concepts, summed over rows, and measures.

    Args:
        state: [B, S, D], the state that the heads read.
        logits: [B, A, V], the network's own predictions from it.
    """
    terms: dict[str, Tensor] = {}
    measures: dict[str, Tensor] = {}
    rows = len(carry.labels)
    if plan is not None and network.planner is not None:
        value, diversity, gate = network.planner.losses(
            plan, lambda z: scores(network.predict(z), carry.labels).accuracy
        )
        terms["planning"] = (value + diversity + gate) * rows
        measures["planning_value_loss"] = value
        measures["planning_diversity"] = plan.diversity
        measures["planning_gate"] = plan.gate.mean()
        measures["planning_best_weight"] = plan.weights.amax(dim=1).mean()
    if network.multi_token is not None:
        first = network.layout.first_answer
        embedded = network.embed_tokens(carry.labels.int(), network.dtype) * network.scale
        tables = (None, None) if network.rope is None else (network.rope.cos[first:], network.rope.sin[first:])
        ahead = network.multi_token(state[:, first:], embedded, *tables)

        def predicted(states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            logits = network.lm_head(states)
            return surprise(logits, labels), scores(logits, labels).right

        loss, right, scored = network.multi_token.losses(ahead, carry.labels, predicted)
        terms["multi_token"] = loss.sum()
        measures["multi_token_loss"] = loss.mean()
        measures["draft_accuracy"] = right / scored.clamp(min=1)
        if ahead:
            measures["draft_accepted"] = accepted(network.lm_head(ahead[0].detach()), logits, carry.labels)
    if found is not None and network.capsules is not None:
        checksum, child = network.capsules.losses(found)
        weight = 0.5 * network.spec.capsules.reconstruction_weight  # type: ignore[union-attr]
        terms["capsules"] = weight * (checksum + child).sum()
        measures["checksum_loss"], measures["child_loss"] = checksum.mean(), child.mean()
        measures["reconstructability"] = found.reconstructability.mean()
        measures["opened_capsules"] = carry.opened.float().sum(dim=1).mean()
    if found is not None and network.concepts is not None:
        _concept_terms(network, carry, found, state, terms, measures, generator)
    return terms, measures


def _concept_terms(
    network: EngineBody,
    carry: EngineCarry,
    found: Encoded,
    state: Tensor,
    terms: dict[str, Tensor],
    measures: dict[str, Tensor],
    generator: torch.Generator | None,
) -> None:
    """Add the commitment loss, and the loss of predicting the concepts of the answer's drawing from the capsules."""
    assert network.concepts is not None
    if network.concepts_ready():
        quantized = network.concepts.quantize(found.sketches)
        terms["concepts"] = quantized.loss * len(carry.labels)
        measures["commitment_loss"], measures["code_perplexity"] = quantized.loss, quantized.perplexity
        with torch.no_grad():
            wanted = network.concepts.quantize(network.encode(carry.labels)[1].sketches).ids  # type: ignore[union-attr]
        count = wanted.shape[1]
        logits = network.concepts.logits(state[:, :count])
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        terms["concept_head"] = 0.1 * loss * len(carry.labels)
        measures["concept_loss"] = loss
        measures["concept_accuracy"] = (logits.argmax(dim=-1) == wanted).float().mean()
    if network.first_of_step("concepts"):
        network.concepts.learn(found.sketches, generator)


def q_terms(
    network: EngineBody,
    before: EngineCarry,
    started: Tensor,
    steps: Tensor,
    view: Tensor,
    action: Tensor,
    all_open: Tensor,
    graded: Scores,
    generator: torch.Generator | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Store the transitions that this step completes, and return the losses of Q network and predictor, and measures.

    Args:
        before: carry with the last decision of each row.
        started: bool [B], rows in their first step, which complete no decision.
        steps: int [B], t of this step.
        view: fp32 [B, D + 3], s_t.
        action: int64 [B], decision after this step; of no meaning at step T, where the episode ends.
    """
    dqn = network.halting_q
    assert dqn is not None
    terms: dict[str, Tensor] = {}
    measures: dict[str, Tensor] = {}
    last = steps >= network.spec.halt_max_steps
    went_on = ~started & graded.scored
    reward = dqn.going_on(graded.accuracy, before.accuracy[:, 0])
    reward = reward + torch.where(last, dqn.terminal(graded.exact), 0.0)
    if dqn.count is not None:
        reward = reward + dqn.count(view, went_on)
    if dqn.distillation is not None:
        error = dqn.distillation(view)
        reward = reward + dqn.distillation.bonus(error.detach(), went_on)
        terms["rnd"] = error.sum()
        measures["rnd_error"] = error.mean()
    dqn.replay.push(went_on, before.view, before.action[:, 0], clipped(reward), view, last, all_open)
    stops = (action == Action.HALT) & ~last & graded.scored
    ended = torch.ones_like(stops)
    dqn.replay.push(stops, view, action, clipped(dqn.terminal(graded.exact)), view, ended, all_open)
    dqn.note_accuracy(graded.accuracy)
    learnt = dqn.loss(network.optimizer_step, generator)
    measures["replay_size"] = dqn.replay.size.float()
    if learnt is not None:
        loss, measures["q_error"], measures["q_mean"] = learnt
        terms["dqn"] = loss * len(steps)
        measures["q_loss"] = loss
    return terms, measures
