"""Proposer with adapter and TRM of a checkpoint bundle."""

from __future__ import annotations

import copy
import hashlib
import time
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import Bundle
from gridloom.runtime.data.arc.known_views import known_names
from gridloom.runtime.data.tasks import SEPARATOR, Task, fitting_canvas
from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.steps import Halting
from gridloom.solvers.parts.batch import AttemptRows, RowResults, make_rows, vote
from gridloom.solvers.parts.services import Loaded
from gridloom.solvers.types import Plan, Proposal


@dataclass(frozen=True, slots=True, eq=False)
class TrmCall:
    """Rows of one attempt, and the parameters of their run."""

    rows: AttemptRows
    injection: Injection | None
    """Injection of the LLaMA's latent, [1, S, D], the same for all rows of the attempt."""
    act_steps: int | None
    halting: Halting


@dataclass(frozen=True, slots=True, eq=False)
class TrmAnswer:
    """Results of one proposer call: decoded rows and the final states z_H and z_L."""

    results: RowResults
    z_H: Tensor | None
    """Final z_H, [N, S, D]; None for a network without the states z_H and z_L."""
    z_L: Tensor | None
    """Final z_L, [N, S, D]; None as z_H."""
    geometry: dict[str, Any]
    """Device, precision, number of rows of the batch, and first row of this call."""
    seconds: float
    """Share of the batch's time that this call took, s."""


class TrmRunner(Protocol):
    """Runner of TRM calls, which may run several calls in one batch."""

    async def submit(self, call: TrmCall) -> TrmAnswer:
        """Run the call's rows."""


class TrmProposer:
    """Proposer that runs the bundle's TRM, conditioned on the LLaMA's latent by the bundle's adapter."""

    def __init__(self, bundle: Bundle, runner: TrmRunner, source: str) -> None:
        """Wrap a loaded bundle.

        Args:
            source: name of the checkpoint in messages.
        """
        self.bundle = bundle
        self.source = source
        self.runner = runner
        self._ids = bundle.puzzle_ids.index
        self._injections: dict[bytes, Injection] = {}

    def through(self, runner: TrmRunner) -> TrmProposer:
        """Return a proposer with another runner that shares weights and cached injections with this one."""
        other = copy.copy(self)
        other.runner = runner
        return other

    @property
    def act_steps(self) -> int:
        """Number of ACT steps where a plan sets none."""
        return self.bundle.network.spec.halt_max_steps

    def views(self, task: Task) -> tuple[str, ...]:
        """Return the views that training drew for the task, in training order; derived views for an unseen task."""
        return tuple(_tail(name) for name in known_names(self.bundle.puzzle_ids, task))

    def adapt(self, latent: bytes) -> dict[str, Any]:
        """Map the latent with the adapter, and return sha256 and RMS of the injection."""
        injection = self._inject(latent)
        parts = [part for part in (injection.z_H, injection.z_L, injection.term) if part is not None]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part.float().cpu().numpy().tobytes())
        square = torch.stack([part.double().pow(2).mean() for part in parts]).mean()
        return {"sha256": digest.hexdigest(), "rms": float(square.sqrt())}

    async def propose(self, task: Task, plan: Plan, latent: bytes | None) -> Proposal:
        """Run the attempt's rows, count the votes, and compute the next attempt's prefix.

        The prefix is computed from the identity row of test input `plan.focus`.

        Raises:
            ModelError: a halting logit is not finite.
        """
        began = time.perf_counter()
        network = self.bundle.network
        rows = make_rows(task, plan, fitting_canvas(task, network.sides), self._ids, packed=network.packed)
        injection = None if latent is None else self._inject(latent)
        seconds = time.perf_counter() - began
        answer = await self.runner.submit(TrmCall(rows, injection, plan.act_steps, Halting(plan.halt, plan.patience)))
        if not np.isfinite(answer.results.q_halt).all():
            raise ModelError(
                f"the TRM of {self.source} gave a value that is not finite on task {task.task_id}",
                "train it again, or solve with an earlier checkpoint",
            )
        began = time.perf_counter()
        ranked = vote(rows, answer.results)
        prefix = None if latent is None else self._prefix(answer, rows.first_row(plan.focus))
        return Proposal(
            candidates=ranked[: rows.num_tests],
            checks=ranked[rows.num_tests :],
            steps=answer.results.steps(),
            digest=answer.results.digest(prefix or b""),
            prefix=prefix,
            geometry=answer.geometry,
            seconds=seconds + answer.seconds + time.perf_counter() - began,
        )

    @torch.no_grad()
    def _inject(self, latent: bytes) -> Injection:
        """Return the injection of one latent, cached, since `adapt` and `propose` of an attempt share it."""
        if latent not in self._injections:
            adapter = self.bundle.part("text_to_latent")
            assert adapter is not None, "a bundle with a LLaMA has the adapter"
            hidden = torch.from_numpy(np.frombuffer(latent, dtype=np.float16).copy()).float()
            if adapter.reads_sequence:
                hidden = hidden.view(-1, cast(int, adapter.hidden_size))
            self._injections[latent] = adapter(hidden[None].to(self.bundle.network.device), self.bundle.network)
            while len(self._injections) > 64:
                self._injections.pop(next(iter(self._injections)))
        return self._injections[latent]

    @torch.no_grad()
    def _prefix(self, answer: TrmAnswer, row: int) -> bytes | None:
        adapter = self.bundle.part("latent_to_text")
        if adapter is None:
            return None
        assert answer.z_H is not None, "adapters are joined to networks with two states alone"
        assert answer.z_L is not None
        prefix: Tensor = adapter(answer.z_H[row : row + 1], answer.z_L[row : row + 1])[0]
        return prefix.to(torch.float16).cpu().numpy().tobytes()


def load_proposer(loaded: Loaded) -> TrmProposer:
    """Return a proposer of kind `trm`, which needs a checkpoint."""
    assert loaded.bundle is not None, "the kind needs a checkpoint"
    assert loaded.trm_queue is not None, "a bundle has a network"
    return TrmProposer(loaded.bundle, loaded.trm_queue, loaded.source)


def _tail(name: str) -> str:
    return name.split(SEPARATOR, 1)[1]
