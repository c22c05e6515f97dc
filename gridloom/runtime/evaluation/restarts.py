"""Restarts: a puzzle is answered several times from noisy states, and one answer is chosen without the right one.

The first run is plain; run k > 0 has noise that depends on (seed, puzzle, k) alone. Selectors:

| selector | chosen answer |
|---|---|
| q | highest halting logit |
| residual | smallest change of the states in the last step |
| confidence | highest product of the largest probabilities of all cells |
| rules | one that solves its puzzle: a sudoku's rules with all clues kept, one shortest path of a maze |
| vote | given by most runs |

Ties go to the higher halting logit, then to the earlier run. `oracle` in the report is right where any run is: no
selector can do better, and where a puzzle has one solution `rules` does as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridloom.runtime.data.puzzles.puzzle_set import solves
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.state_noise import StateNoise
from gridloom.runtime.models.steps import Answers, Rows
from gridloom.specs.stages import EvaluateStage

NOISE = 1.0
"""Standard deviation of the noise where a spec has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Answers of all runs of a batch. K runs, B rows."""

    tokens: Tensor
    """uint8 [K, B, L]"""
    q_halt: Tensor
    """fp32 [K, B]"""
    residual: Tensor
    """fp32 [K, B]"""
    confidence: Tensor
    """fp32 [K, B], of the answer as a whole."""
    loss: Tensor
    """fp32 [K, B]"""
    solved: Tensor
    """bool [K, B], whether the answer solves its puzzle by the rules."""

    def chosen(self, selector: str, num_runs: int | None = None) -> Tensor:
        """Return the run that a selector takes of the first `num_runs`, int64 [B]."""
        runs = slice(num_runs)
        q, tokens = self.q_halt[runs], self.tokens[runs]
        if selector == "residual":
            best = self.residual[runs] == self.residual[runs].amin(dim=0)
        elif selector == "confidence":
            best = self.confidence[runs] == self.confidence[runs].amax(dim=0)
        elif selector == "rules":
            best = self.solved[runs]
        elif selector == "vote":
            votes = (tokens[:, None] == tokens[None]).all(dim=-1).sum(dim=1)
            best = votes == votes.amax(dim=0)
        else:
            best = torch.ones_like(q, dtype=torch.bool)
        best = best | ~best.any(dim=0)  # where no answer qualifies, the logit decides among all
        return torch.where(best, q.nan_to_num(nan=-torch.inf), -torch.inf).argmax(dim=0)


def run_restarts(
    network: Network, rows: Rows, spec: EvaluateStage, kind: str, *, seed: int, first: int
) -> tuple[Answers, Runs]:
    """Answer a batch of puzzles `spec.restarts` times; return the chosen answers, and those of all runs.

    Args:
        rows: rows with labels, which only the loss reads.
        kind: maze or sudoku.
        first: number of the first row in its dataset.

    Raises:
        ModelError: the network has no states that noise can be added to.
    """
    steps = spec.act_steps or network.spec.halt_max_steps
    numbers = np.arange(first, first + len(rows.inputs), dtype=np.int64)
    sigma = NOISE if spec.noise is None else spec.noise
    columns: list[tuple[Tensor, ...]] = []
    questions = rows.inputs.cpu().numpy()
    for run in range(spec.restarts):
        noise = StateNoise(sigma, seed, run, numbers, spec.noise_at == "every_step") if run else None
        found = network.follow(rows, steps, noise)
        assert found.residual is not None
        assert found.loss is not None
        tokens = found.tokens[-1]
        solved = torch.from_numpy(solves(kind, questions, tokens.cpu().numpy())).to(tokens.device)
        sure = found.confidence_all[-1]
        columns.append((tokens, found.q_halt[-1], found.residual[-1], sure, found.loss[-1], solved))
    runs = Runs(*(torch.stack(column) for column in zip(*columns, strict=True)))
    taken, row = runs.chosen(spec.choose or "q"), torch.arange(len(questions), device=rows.inputs.device)
    made = spec.restarts * steps
    answers = Answers(
        tokens=runs.tokens[taken, row],
        q_halt=runs.q_halt[taken, row],
        steps=torch.full_like(taken, made, dtype=torch.int32),
        num_computed=made * len(questions),
        loss=runs.loss[taken, row],
    )
    return answers, runs


SELECTORS = ("q", "residual", "confidence", "rules", "vote")


@dataclass(slots=True)
class RestartTally:
    """Counts of right answers over the puzzles whose answer is known, by number of runs and selector."""

    num_runs: int
    num_puzzles: int = 0
    right: dict[tuple[int, str], int] = field(default_factory=dict)
    """Puzzles answered rightly, by (runs used, selector); selectors beside `SELECTORS` are `single` and `oracle`."""

    def add(self, runs: Runs, labels: Tensor) -> None:
        """Count a batch; a row without labels is left out."""
        known = (labels != 0).any(dim=1)
        exact = ((runs.tokens == labels) | (labels == 0)).all(dim=-1)  # [K, B]
        row = torch.arange(exact.shape[1], device=exact.device)
        self.num_puzzles += int(known.sum())
        for count in self.numbers():
            found = {selector: exact[runs.chosen(selector, count), row] for selector in SELECTORS}
            found |= {"single": exact[0], "oracle": exact[:count].any(dim=0)}
            for selector, right in found.items():
                key = count, selector
                self.right[key] = self.right.get(key, 0) + int((right & known).sum())

    def numbers(self) -> Sequence[int]:
        """Return the numbers of runs of the report: 1, 2, 4, ... and all."""
        powers = [2**i for i in range(self.num_runs.bit_length()) if 2**i < self.num_runs]
        return [*powers, self.num_runs]

    def shares(self) -> dict[str, float]:
        """Return the metrics of the ledger: exact answers of the plain run, of any run, and of each selector."""
        if not self.num_puzzles:
            return {}
        names = ("single", "oracle", *SELECTORS)
        return {f"exact_{name}": self.right[self.num_runs, name] / self.num_puzzles for name in names}

    def report(self, spec: EvaluateStage) -> dict[str, Any]:
        """Return the report's entry: settings, and exact answers with intervals by selector and number of runs."""
        found: dict[str, Any] = {
            "runs": self.num_runs,
            "noise": NOISE if spec.noise is None else spec.noise,
            "noise_at": spec.noise_at or "start",
            "choose": spec.choose or "q",
        }
        if self.num_puzzles:
            shares = self.shares()
            found["exact"] = {name.removeprefix("exact_"): share for name, share in shares.items()}
            found["exact_intervals"] = {
                name.removeprefix("exact_"): wilson(share, self.num_puzzles) for name, share in shares.items()
            }
            found["exact_by_runs"] = {
                str(count): {name: self.right[count, name] / self.num_puzzles for name in ("oracle", *SELECTORS)}
                for count in self.numbers()
            }
        return found
