"""Optimiser steps over several attempts: LLaMA state -> adapter -> TRM -> loss, with feedback between attempts.

Gradient flow: the loss of attempt a reaches the TRM and `text_to_latent`; from attempt 2 on also `latent_to_text`, by
the frozen language model's activations and the latent prefix. With `lora` the loss reaches the low-rank weights in
every attempt; the language model's own weights never get a gradient. The gradient stops at the final carry of attempt
a - 1: the backward pass runs after each attempt, so memory does not grow with attempts. Within an attempt the backward
pass runs after each ACT step; the injection is a leaf tensor that accumulates the gradient of all ACT steps, which is
then back-propagated through adapter and language model once.

Loss: mean over the active rows of (lm + 0.5 q_halt), averaged over ACT steps and attempts. A row is active until an
attempt gives its target exactly. Targets enter the loss and the choice of active rows only; the networks do not read
targets (unless `feedback: oracle`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gridloom.errors import StageError
from gridloom.runtime.data.arc.prompts import EarlierAttempt
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.data.arc.tokens import EOS, PAD, crop_batch
from gridloom.runtime.data.batch import TrainBatch
from gridloom.runtime.data.tasks import Grid
from gridloom.runtime.models.adapters.network import Injected, LatentToText, TextToLatent
from gridloom.runtime.models.recursive.carry import Carry, Injection
from gridloom.runtime.models.recursive.losses import row_losses
from gridloom.runtime.models.recursive.trm import TRM
from gridloom.runtime.training.joint.batches import JointBatches, PairKey
from gridloom.runtime.training.joint.metrics import JointTotals
from gridloom.runtime.training.joint.reader import JointReader, Reading
from gridloom.runtime.training.optim import build_optimizer, lr_factor, set_lr, step_puzzle_rows
from gridloom.runtime.training.state import SavedState, optimizer_tensors, restore_optimizer
from gridloom.specs.stages import JointTrainStage


@dataclass(slots=True)
class _Row:
    """Sample of the batch with its attempts so far."""

    key: PairKey
    target: Grid
    """Correct grid in the row's view."""
    history: list[EarlierAttempt]
    first: tuple[bool, bool, float] | None = None
    """Exact match, shape match and cell accuracy of the first attempt."""
    solved: bool = False
    attempts: int = 0
    trm_steps: int = 0
    new_tokens: int = 0


class JointTrainer:
    """Joint training run: networks, optimiser and counters, advanced by `step`."""

    def __init__(
        self,
        network: TRM,
        bridge: TextToLatent,
        back: LatentToText | None,
        reader: JointReader,
        sampler: Sampler,
        spec: JointTrainStage,
    ) -> None:
        self.network, self.bridge, self.back = network.eval(), bridge, back
        self.reader, self.sampler, self.spec = reader, sampler, spec
        self.batches = JointBatches(sampler, spec)
        self.trained = nn.ModuleDict({"trm": network, "text_to_latent": bridge})
        if back is not None:
            self.trained["latent_to_text"] = back
        if reader.llama.lora is not None:
            self.trained["lora"] = reader.llama.lora
        self.optimizer = build_optimizer(spec.optimizer, self.trained.parameters())
        self.act_steps = spec.act_steps or network.spec.halt_max_steps
        self.num_steps = 0
        self.since_report, self.since_epoch = JointTotals(), JointTotals()

    @property
    def num_epochs(self) -> int:
        """Number of finished epochs; an epoch has as many rows as there are training pairs."""
        return self.num_steps * self.spec.batch_size // self.sampler.epoch_rows

    def step(self, batch: TrainBatch) -> None:
        """Run all attempts of a batch and one optimiser step. Raises StageError if the loss is NaN."""
        self.num_steps += 1
        spec, device = self.spec, self.network.device
        rows = self._rows(batch)
        inputs, labels = torch.from_numpy(batch.inputs).to(device), torch.from_numpy(batch.labels).to(device)
        if spec.targets == "colours":
            labels = torch.where(labels == EOS, PAD, labels)
        ids = torch.from_numpy(batch.puzzle_ids).to(device)
        puzzle_gradients = torch.zeros(len(rows), self.network.spec.hidden_size, device=device)
        loss, active, prefix = 0.0, list(range(len(rows))), None
        for attempt in range(1, spec.attempts + 1):
            here = torch.tensor(active, device=device)
            keys = [rows[i].key for i in active]
            seed = self._seed(attempt)
            reading = (
                self.reader.first(keys, seed)
                if attempt == 1
                else self.reader.retry(keys, [rows[i].history for i in active], prefix, seed)
            )
            outcome = self._attempt(reading, inputs[here], ids[here], labels[here], attempt)
            loss += outcome.loss
            puzzle_gradients.index_add_(0, here, outcome.puzzle_gradients)
            grids = self._judge(rows, active, batch, outcome, reading.num_new, attempt, reading.texts)
            still = [at for at, i in enumerate(active) if not rows[i].solved]
            if not still or attempt == spec.attempts:
                break
            prefix = self._prefix(outcome.carry, still)
            for at in still:
                rows[active[at]].history.append(
                    self._earlier_attempt(rows[active[at]], attempt, grids[at], reading.texts[at])
                )
            active = [active[at] for at in still]
        norm = self._update(ids, puzzle_gradients)
        self.since_report.add(rows, loss, norm)
        self.since_epoch.add(rows, loss, norm)

    def _attempt(self, reading: Reading, inputs: Tensor, ids: Tensor, labels: Tensor, attempt: int) -> _Outcome:
        """Run forward and backward pass of one attempt of the active rows."""
        hidden = reading.hidden.to(self.network.device)
        injected = self.bridge.inject(hidden, self.network, reading.mask, self._noise(attempt))
        made = injected.injection
        tensors = [t for t in (made.z_H, made.z_L, made.term) if t is not None]
        leaves = [t.detach().requires_grad_() for t in tensors]
        injection = Injection(term=leaves[0]) if made.term is not None else Injection(z_H=leaves[0], z_L=leaves[1])
        carry = self.network.initial_carry(len(inputs))
        puzzle_gradients = torch.zeros(len(inputs), self.network.spec.hidden_size, device=self.network.device)
        wanted_halt = torch.full((len(inputs),), self.act_steps, device=self.network.device)
        loss = 0.0
        for step in range(self.act_steps):
            carry, output = self.network.act_step(
                carry,
                inputs,
                ids,
                injection,
                grad_all_rounds=made.z_H is not None and step == 0,
                labels=labels,
                heads=False,
            )
            # all rows run all ACT steps, as in solving: a halted row must not be reset within the attempt
            carry = replace(carry, halted=torch.zeros_like(carry.halted))
            losses = row_losses(self.network, output, labels)
            share = losses.total() / (len(inputs) * self.act_steps * self.spec.attempts)
            share.backward()  # type: ignore[no-untyped-call]
            loss += float(share.detach())
            if output.puzzle_rows.grad is not None:
                puzzle_gradients += output.puzzle_rows.grad
            would_halt = (output.q_halt.detach() > 0) & (wanted_halt == self.act_steps)
            wanted_halt = torch.where(would_halt, step + 1, wanted_halt)
        reached = [(tensor, leaf.grad) for tensor, leaf in zip(tensors, leaves, strict=True) if leaf.grad is not None]
        if self.bridge.variational:
            extra = self._variational_loss(injected, hidden) / self.spec.attempts
            reached.append((extra, torch.ones_like(extra)))
            loss += float(extra.detach())
        torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])
        with torch.no_grad():
            tokens = self.network.predict(carry.z_H).argmax(dim=-1).to(torch.uint8)
        return _Outcome(
            loss=loss,
            carry=carry,
            tokens=tokens.cpu().numpy(),
            trm_steps=wanted_halt.tolist(),
            puzzle_gradients=puzzle_gradients,
        )

    def _noise(self, attempt: int) -> torch.Generator | None:
        """Return a variational adapter's generator, seeded by step and attempt so that resumed runs draw alike."""
        if not self.bridge.variational:
            return None
        return torch.Generator().manual_seed(self._seed(attempt))

    def _seed(self, attempt: int) -> int:
        return (self.sampler.seed * 1_000_003 + self.num_steps) * 1009 + attempt

    def _variational_loss(self, injected: Injected, hidden: Tensor) -> Tensor:
        """Return kl_weight * KL, plus the decoder's mean squared error on the standardised state if there is one."""
        loss = self.spec.kl_weight * injected.kl
        made = injected.injection
        if self.back is not None and self.back.variational and made.z_H is not None and made.z_L is not None:
            wanted: Tensor = self.bridge.standardise(hidden)
            loss = loss + F.mse_loss(self.back(made.z_H, made.z_L).mean(dim=1), wanted.detach())
        return loss

    def _prefix(self, carry: Carry, rows: list[int]) -> Tensor | None:
        """Return the latent prefix fp32 [B, k, H] of rows with a further attempt, with its autograd graph."""
        if self.back is None:
            return None
        here = torch.tensor(rows, device=carry.z_H.device)
        prefix: Tensor = self.back(carry.z_H[here], carry.z_L[here])
        return prefix

    def _rows(self, batch: TrainBatch) -> list[_Row]:
        targets = self._grids(batch, range(len(batch.labels)), batch.labels)
        keys = zip(batch.task_index.tolist(), batch.pair_index.tolist(), strict=True)
        rows = []
        for key, target in zip(keys, targets, strict=True):
            assert target is not None, "a training label always holds a grid"
            rows.append(_Row(key=key, target=target, history=[]))
        return rows

    def _grids(self, batch: TrainBatch, rows: Sequence[int], tokens: NDArray[np.uint8]) -> list[Grid | None]:
        """Crop tokens uint8 [B, L] at the offsets of their batch rows; return grids in the rows' views."""
        canvas = self.network.canvas
        moved = np.zeros_like(tokens)
        for at, row in enumerate(rows):
            down, right = batch.offsets[row]
            square = moved[at].reshape(canvas, canvas)
            square[: canvas - down, : canvas - right] = tokens[at].reshape(canvas, canvas)[down:, right:]
        return crop_batch(moved, canvas)

    def _judge(
        self,
        rows: list[_Row],
        active: list[int],
        batch: TrainBatch,
        outcome: _Outcome,
        num_new: Sequence[int],
        attempt: int,
        texts: Sequence[str],
    ) -> list[Grid | None]:
        """Compare the proposed grids with the targets; return the proposed grids in the identity view."""
        proposed = self._grids(batch, active, outcome.tokens)
        shown: list[Grid | None] = []
        for at, i in enumerate(active):
            row, grid = rows[i], proposed[at]
            exact, shape, cells = compare(grid, row.target)
            row.first = row.first or (exact, shape, cells)
            row.solved, row.attempts = exact, attempt
            row.trm_steps += outcome.trm_steps[at]
            row.new_tokens += num_new[at]
            view = self.sampler.views.view(int(batch.puzzle_ids[i]) - 1)
            shown.append(None if grid is None else view.inverse(grid))
        return shown

    def _earlier_attempt(self, row: _Row, attempt: int, grid: Grid | None, text: str) -> EarlierAttempt:
        """Return the record of a wrong attempt for the next prompt; grid and prompt are in the identity view."""
        feedback = f"proposed {'no grid' if grid is None else f'{grid.shape[0]}x{grid.shape[1]}'}: "
        if self.spec.feedback == "blind" or grid is None:
            feedback += "not accepted"
        else:
            pair = self.reader.dataset.tasks[row.key[0]].train_pairs[row.key[1]]
            if grid.shape != pair.output.shape:
                feedback += f"the size is {pair.output.shape[0]}x{pair.output.shape[1]}"
            else:
                feedback += f"{int((grid != pair.output).sum())} of {grid.size} cells are wrong"
        cells = [] if grid is None else grid.tolist()
        return EarlierAttempt(attempt=attempt, feedback=feedback, grid=cells, reasoning=text)

    def _update(self, ids: Tensor, puzzle_gradients: Tensor) -> float:
        """Clip gradients, update weights and puzzle rows, and return the gradient norm before clipping."""
        spec = self.spec
        parameters = [p for p in self.trained.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not bool(torch.isfinite(norm)):
            raise StageError(self.describe_divergence())
        if spec.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, spec.clip_norm, norm)
        factor = lr_factor(self.num_steps, spec.steps, spec.warmup_steps, spec.lr_min_ratio)
        if spec.embedding_lr > 0:
            step_puzzle_rows(
                self.network.puzzle_emb, ids.long(), puzzle_gradients, spec.embedding_lr * factor, spec.embedding_decay
            )
        set_lr(self.optimizer, spec.optimizer.lr * factor)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def describe_divergence(self) -> str:
        """Name the step of the NaN loss and the first parameter with a non-finite value or gradient."""
        bad = [
            name
            for name, p in self.trained.named_parameters()
            if not bool(torch.isfinite(p).all()) or (p.grad is not None and not bool(torch.isfinite(p.grad).all()))
        ]
        return (
            f"stopped at step {self.num_steps:,} of {self.spec.steps:,}: loss became NaN "
            f"(first bad parameter {bad[0] if bad else 'none: activations overflowed'})"
        )

    def state(self) -> SavedState:
        """Return the resumable state; of the language model the `lora` weights alone."""
        return SavedState(
            step=self.num_steps,
            values={
                "since_report": self.since_report.values,
                "since_epoch": self.since_epoch.values,
            },
            tensors={
                **{f"model.{name}": t for name, t in self.trained.state_dict().items()},
                **optimizer_tensors(self.optimizer, "optimizer"),
            },
        )

    def restore(self, state: SavedState) -> None:
        """Load a saved state of the same networks and stage."""
        model = {name.removeprefix("model."): t for name, t in state.tensors.items() if name.startswith("model.")}
        self.trained.load_state_dict(model, strict=True)
        restore_optimizer(self.optimizer, state.tensors, "optimizer")
        self.since_report = JointTotals(state.values["since_report"])
        self.since_epoch = JointTotals(state.values["since_epoch"])
        self.num_steps = state.step


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Result of one attempt of the active rows."""

    loss: float
    """Loss of the attempt, as its share of the step's loss."""
    carry: Carry
    tokens: NDArray[np.uint8]
    """uint8 [B, L], argmax after the last ACT step."""
    trm_steps: list[int]
    """ACT steps after which each row would have halted by its halting logit."""
    puzzle_gradients: Tensor


def compare(grid: Grid | None, target: Grid) -> tuple[bool, bool, float]:
    """Return exact match, shape match and cell accuracy, which is 0 if the shapes differ."""
    if grid is None or grid.shape != target.shape:
        return False, False, 0.0
    right = grid == target
    return bool(right.all()), True, float(right.mean())
