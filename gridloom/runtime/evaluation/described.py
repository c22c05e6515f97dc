"""Answer of an ensemble of checkpoints, and the description of what was evaluated in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gridloom.runtime.checkpoints.bundle import Bundle
from gridloom.specs.stages import EvaluateStage


def elect(tokens: torch.Tensor, q_halt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the majority answer of each row; ties go to the higher mean halting probability, then to the earlier
    member.

    Args:
        tokens: uint8 [M, B, L], answers of M members.
        q_halt: fp32 [M, B], halting logits.

    Returns:
        The answers, uint8 [B, L], and the logits of their mean halting probabilities, fp32 [B].
    """
    alike = (tokens[:, None] == tokens[None]).all(dim=-1).double()  # [M, M, B]
    votes = alike.sum(dim=1)  # [M, B]
    halting = (alike * torch.sigmoid(q_halt.double())[None]).sum(dim=1) / votes
    # votes are integers and the mean is at most 1, so half of it never outweighs a vote; argmax takes the first maximum
    first = (votes + halting / 2).argmax(dim=0)
    row = torch.arange(tokens.shape[1], device=tokens.device)
    return tokens[first, row], torch.logit(halting[first, row]).float()


def evaluated_facts(members: Sequence[tuple[str, Bundle]], act_steps: int | None) -> dict[str, Any]:
    """Return the report's description of the evaluated checkpoint, or of each member of an ensemble.

    Args:
        members: artifact keys and bundles.
    """
    described = [
        {
            "checkpoint": key,
            "stage": bundle.meta.get("stage"),
            "steps": int(bundle.meta.get("steps", 0)),
            "act_steps": act_steps or bundle.network.spec.halt_max_steps,
        }
        for key, bundle in members
    ]
    return described[0] if len(described) == 1 else {"ensemble": described}


def steps_trained(evaluated: Mapping[str, Any]) -> int:
    """Return the optimizer steps of the evaluated checkpoint; for an ensemble, the maximum over its members."""
    described = evaluated.get("ensemble", [evaluated])
    return max(int(member["steps"]) for member in described)


def halting_facts(spec: EvaluateStage) -> dict[str, Any]:
    """Return the report's fields on halting; empty if every ACT step is executed."""
    return {} if spec.halt == "none" else {"halt": spec.halt, "patience": spec.patience}
