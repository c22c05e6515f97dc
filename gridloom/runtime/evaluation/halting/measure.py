"""Measurement of a batch in a halting study: right answers, steps, halting signals and residuals by allowed steps.

Networks with ACT steps are followed once over all steps, from which every rule of halting can be read. Networks that
ponder are run again for each limit. Shapes: K limits, N steps of one pass, B rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridloom.runtime.evaluation.halting.rows import StudyRows
from gridloom.runtime.models.follow import Following
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.steps import Answers, Halting, Rows, row_halting

Columns = dict[str, NDArray[Any]]
"""Arrays whose last axis is the rows.

Of both: `scored` int64 [B], positions with a label; `difficulty.MEASURE` float64 [B].
Of networks with ACT steps, after each of N steps: `exact`, `same` bool [N, B] (whole answer right; equal to the one
before), `right` int64 [N, B], and fp32 [N, B] `q`, `margin`, `confidence`, `confidence_all`, perhaps `residual`.
Of networks that ponder, by limit: `fixed_exact`, `own_exact` bool [K, B], `fixed_right`, `own_right` int64 [K, B],
`own_steps` fp32 [K, B], mean steps of an input or position; `q`, `confidence`, `confidence_all` fp32 [B] of the answers
under the network's own step limit.
"""


def measure(network: Network, batch: StudyRows, limits: Sequence[int]) -> Columns:
    """Answer a batch under each limit of steps, by the network's own halting and by fixed steps."""
    device = network.device
    labels = torch.from_numpy(batch.labels).to(device)
    rows = Rows(
        torch.from_numpy(batch.inputs).to(device),
        torch.zeros(len(batch.inputs), dtype=torch.int64, device=device),
        labels,
        None if batch.valid is None else torch.from_numpy(batch.valid).to(device),
    )
    found = _pondered(network, rows, limits) if network.spec.ponders else _followed(network, rows, max(limits))
    found["scored"] = (labels != 0).sum(dim=1)
    return {name: column.cpu().numpy() for name, column in found.items()} | {
        f"difficulty.{name}": values for name, values in batch.difficulty.items()
    }


def _judge(tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether answers [..., B, L] are right as a whole, and their number of right positions."""
    right = tokens == labels
    return (right | (labels == 0)).all(dim=-1), (right & (labels != 0)).sum(dim=-1)


def _followed(network: Network, rows: Rows, steps: int) -> dict[str, Tensor]:
    assert rows.labels is not None
    history = network.follow(rows, steps)
    exact, right = _judge(history.tokens, rows.labels)
    same = torch.zeros_like(exact)
    same[1:] = (history.tokens[1:] == history.tokens[:-1]).all(dim=-1)
    found = {
        "exact": exact,
        "right": right,
        "same": same,
        "q": history.q_halt.float(),
        "margin": history.margin.float(),
        "confidence": history.confidence,
        "confidence_all": history.confidence_all,
    }
    return found if history.residual is None else found | {"residual": history.residual}


@torch.no_grad()
def _pondered(network: Network, rows: Rows, limits: Sequence[int]) -> dict[str, Tensor]:
    assert rows.labels is not None
    columns: dict[str, list[Tensor]] = {}
    for limit in limits:
        for name, halting in (("fixed", Halting("fixed")), ("own", Halting("none"))):
            answers = network.answer(rows, limit, halting)
            exact, right = _judge(answers.tokens, rows.labels)
            columns.setdefault(f"{name}_exact", []).append(exact)
            columns.setdefault(f"{name}_right", []).append(right)
            if name == "own":
                columns.setdefault("own_steps", []).append(_mean_steps(answers))
    found = {name: torch.stack(parts) for name, parts in columns.items()}
    _, output = network.step(rows, network.initial_carry(len(rows.inputs), rows.inputs.device, rows.inputs.shape[1]))
    q = row_halting(output.q_halt).float()
    history = Following(network, rows)
    history.add(output.logits, q, q, None, None)
    seen = history.found()
    return found | {"q": q, "confidence": seen.confidence[0], "confidence_all": seen.confidence_all[0]}


def _mean_steps(answers: Answers) -> Tensor:
    """Return the steps of an input or position, averaged over those of the row, fp32 [B]."""
    mean: Tensor | None = getattr(answers, "mean_steps", None)
    return answers.steps.float() if mean is None else mean.float()


def join_columns(parts: Sequence[Columns]) -> Columns:
    """Concatenate the columns of batches along the rows."""
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
