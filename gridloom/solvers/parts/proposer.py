"""The real proposer: adapter and TRM of a checkpoint bundle."""

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
    """Rows of one attempt to run."""

    rows: AttemptRows
    injection: Injection | None
    """One row [1, S, D], the same for all rows of the attempt."""
    act_steps: int | None
    halting: Halting


@dataclass(frozen=True, slots=True, eq=False)
class TrmAnswer:
    """What became of them."""

    results: RowResults
    z_H: Tensor | None
    """[N, S, D]; None, as z_L, for a network that has not these two states."""
    z_L: Tensor | None
    geometry: dict[str, Any]
    """Rows of the whole batch, and where this call's began."""
    seconds: float
    """This call's share of the batch's time."""


class TrmRunner(Protocol):
    """Runs calls, one by one or several in one batch."""

    async def ask(self, call: TrmCall) -> TrmAnswer:
        """Run the call's rows."""


class TrmProposer:
    """Proposes with the bundle's TRM; the LLaMA's latent enters through the bundle's adapter."""

    def __init__(self, bundle: Bundle, runner: TrmRunner, source: str) -> None:
        """Args: source: what messages call the checkpoint."""
        self.bundle = bundle
        self.source = source
        self.runner = runner
        self._ids = bundle.puzzle_ids.index
        self._injections: dict[bytes, Injection] = {}

    def through(self, runner: TrmRunner) -> TrmProposer:
        """Return this proposer with another runner; both share weights and injections."""
        other = copy.copy(self)
        other.runner = runner
        return other

    @property
    def act_steps(self) -> int:
        """ACT steps where a plan names none."""
        return self.bundle.network.spec.halt_max_steps

    def views(self, task: Task) -> tuple[str, ...]:
        """Return the views that training drew, in its order; views of its own for a task it never saw."""
        return tuple(_tail(name) for name in known_names(self.bundle.puzzle_ids, task))

    def adapt(self, latent: bytes) -> dict[str, Any]:
        """Map the latent and return sha256 and RMS of what is injected."""
        injection = self._inject(latent)
        parts = [part for part in (injection.z_H, injection.z_L, injection.term) if part is not None]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part.float().cpu().numpy().tobytes())
        square = torch.stack([part.double().pow(2).mean() for part in parts]).mean()
        return {"sha256": digest.hexdigest(), "rms": float(square.sqrt())}

    async def propose(self, task: Task, plan: Plan, latent: bytes | None) -> Proposal:
        """Run the attempt's rows, vote, and read the next attempt's prefix off the identity row of the test shown."""
        began = time.perf_counter()
        rows = make_rows(task, plan, fitting_canvas(task, self.bundle.network.sides), self._ids)
        injection = None if latent is None else self._inject(latent)
        seconds = time.perf_counter() - began
        answer = await self.runner.ask(TrmCall(rows, injection, plan.act_steps, Halting(plan.halt, plan.patience)))
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
        """Run the adapter on one latent; `adapt` and `propose` of an attempt share the result."""
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
    """Make the proposer of kind `trm`, which needs a checkpoint."""
    assert loaded.bundle is not None, "the kind needs a checkpoint"
    assert loaded.trm_desk is not None, "a bundle has a network"
    return TrmProposer(loaded.bundle, loaded.trm_desk, loaded.source)


def _tail(name: str) -> str:
    return name.split(SEPARATOR, 1)[1]
