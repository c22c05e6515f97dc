"""Optimiser steps of a network: deep supervision with a carry that persists across steps, resumable bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from gridloom.runtime.data.batch import Batch
from gridloom.runtime.machine.ranks import ALONE, Ranks
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.recursive.layers import PuzzleEmbedding
from gridloom.runtime.models.steps import Rows, join_carries, take_rows
from gridloom.runtime.training.depth import depth_at
from gridloom.runtime.training.focus import FOCUS_FIGURES, NUM_FOCUS_SUMS, focus_means, focus_sums
from gridloom.runtime.training.health import (
    GradientNorms,
    SkippedUpdates,
    first_not_finite,
    gradient_norms,
    restarted,
    undone_unless,
)
from gridloom.runtime.training.optim import Ema, build_optimizer, lr_factor, set_lr, spared_by_decay, step_puzzle_rows
from gridloom.runtime.training.state import SavedState, optimizer_tensors, restore_optimizer
from gridloom.specs.stages import TrainStage

if TYPE_CHECKING:
    from gridloom.runtime.training.material import Material


def _means(network: Network, sums: Tensor) -> dict[str, float]:
    """Return means by figure of fp32 sums [network, path cells of mazes, steps, gradient norms], and zero the sums."""
    *found, steps, norm = sums.tolist()
    sums.zero_()
    means = network.figure_means(found[: network.num_sums], steps)
    means |= focus_means(found[network.num_sums :]) if len(found) > network.num_sums else {}
    return {**means, "grad_norm": norm / steps} if steps else means


def copy_async(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to a device; to a GPU from pinned memory, so that the host does not block."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _all_finite(*values: Tensor) -> bool:
    """Return whether the scalars are finite; synchronises with their device."""
    return all(math.isfinite(value) for value in map(float, values))


@torch.no_grad()
def _copy(tensors: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        live[name].copy_(tensor)


class ActTrainer:
    """Training run: model, weight averages, optimiser, carry and generator, advanced by `step`."""

    def __init__(
        self, model: Network, spec: TrainStage, *, seed: int, ranks: Ranks = ALONE, focus: bool = False
    ) -> None:
        """Prepare a training from the model's weights.

        Args:
            ranks: data-parallel group; each rank holds all weights and its own rows of the batch.
            focus: whether the rows are mazes whose path cells are counted, for a network with `has_focus`.
        """
        self.ranks = ranks
        self.model, self.spec, self.full = model.train(), spec, model.spec
        self._parameters = list(model.parameters())
        self.ema = Ema(model, spec.ema, warmup=spec.ema_warmup)
        self.optimizer = build_optimizer(
            spec.optimizer, model.parameters(), model.matrices(), spared_by_decay(model, spec.decay)
        )
        self.skipped = SkippedUpdates([name for name, _ in model.named_parameters()], model.device)
        self.masked = model.device.type != "cpu"
        """Whether an update that is not finite is undone by a mask, without the host knowing."""
        self.generator = torch.Generator().manual_seed(seed)
        self.carries: dict[int, Any] = {}
        """Carry by number of tokens per row: the rows of each canvas size have their own carry."""
        self.last_carry: Any
        """Carry after the last step; unset before the first step."""
        self.num_steps = 0
        self._focus = focus
        more = 2 + (NUM_FOCUS_SUMS if focus else 0)
        self._sums = torch.zeros(model.num_sums + more, device=model.device)
        self._stretch = self._sums.clone()
        """Sums since the last call of `stretch_means`."""
        self.compile_s = 0.0
        """Compile time in seconds in this process."""

    def compile(self, lengths: Sequence[int], say: Callable[[str], None]) -> None:
        """Compile the network's step if the spec sets `compile`, for rows of `lengths` tokens."""
        rows = self.spec.batch_size // self.ranks.size // self.spec.accumulate
        depths = [self.full.at_depth(phase) for phase in self.spec.depth]
        self.compile_s = self.model.compile_step(
            self.spec.compile, lengths, rows, say, depths=depths, frozen=self.spec.embeddings_first > 0
        )

    def draw(self, material: Material) -> Any:
        """Return the rows of the next step for `step`."""
        return material.batch(self.num_steps, self.spec.batch_size)

    def step(self, batch: Batch, spent: float = 0.0) -> None:
        """Run one ACT step of every row and one optimiser step. Only rows that halted take their row of `batch`.

        Args:
            spent: share of a time budget; schedule and phases follow the larger of `spent` and the share of the steps.
        """
        spec = self.spec
        progress = self._begin(spent)
        mine = self.ranks.rows(spec.batch_size)
        share = mine.stop - mine.start
        length, size = batch.inputs.shape[1], share // spec.accumulate
        carry = self.carries.get(length)
        carry = self.model.initial_carry(share, num_cells=length) if carry is None else carry
        # drawn for the whole batch, so that the draws depend neither on micro-batches nor on ranks
        least = self.model.exploration(spec.batch_size, self.generator)
        start = self._initial_states(length)
        sums = torch.zeros_like(self._sums)
        with self.model.rounded():
            parts = [
                self._part(
                    take_rows(carry, slice(at - mine.start, at - mine.start + size)),
                    batch,
                    slice(at, at + size),
                    least,
                    sums,
                    start,
                )
                for at in range(mine.start, mine.stop, size)
            ]
        self.ranks.all_reduce([*(p.grad for p in self._parameters if p.grad is not None), sums])
        self.carries[length] = self.last_carry = carry = join_carries([part for part, _ in parts])
        rows = [gradient for _, gradient in parts if gradient is not None]
        made = self._apply(progress, carry.puzzle_ids, torch.cat(rows) if rows else None, sums)
        halted = carry.halted if made is None else restarted(carry, made)
        self.carries[length] = self.last_carry = replace(carry, halted=halted)

    def _begin(self, spent: float) -> float:
        """Set the depth of the next step, and which weights learn; return the progress of the training in [0, 1)."""
        progress = max(self.num_steps / self.spec.steps, spent)
        self.model.spec = depth_at(progress, self.full, self.spec.depth)
        if self.spec.embeddings_first > 0:
            self.model.requires_grad_(progress >= self.spec.embeddings_first)
        self.model.optimizer_step = self.num_steps
        self.num_steps += 1
        return progress

    def _apply(self, progress: float, ids: Tensor, rows: Tensor | None, sums: Tensor) -> Tensor | None:
        """Update weights and puzzle rows by the summed gradient, unless it is not finite, and count the step.

        Args:
            ids: int64 [B], puzzle ids of this rank's rows.
            rows: fp32 [B, D], gradient of their puzzle rows; None without one.
            sums: sums of the step over all ranks, which are added to those of the training.

        Returns:
            bool [], whether the update was made; None where the host knows that it was.
        """
        spec = self.spec
        table = isinstance(self.model.puzzle_emb, PuzzleEmbedding) and rows is not None
        moved = self.ranks.all_gather(rows) if table and rows is not None else None
        ids = self.ranks.all_gather(ids) if table else ids
        norms = self._clip()
        at = self.num_steps if self.num_steps < spec.warmup_steps else max(self.num_steps, int(progress * spec.steps))
        factor = lr_factor(at, spec.steps, spec.warmup_steps, spec.lr_min_ratio, spec.lr_decay)
        rates = spec.lr * factor, spec.embedding_lr * factor
        sums[-2], sums[-1] = 1, norms.total
        made: Tensor | None = None
        # a CPU reads the numbers in less time than it takes to compare them as tensors
        if not self.masked and _all_finite(norms.total, sums[0], *([] if moved is None else [moved.sum()])):
            self.skipped.passed()
            self._update(*rates, ids, moved)
        else:
            rows_finite = torch.isfinite(norms.total.new_zeros(()) if moved is None else moved.sum())
            is_finite = torch.isfinite(norms.total) & torch.isfinite(sums[0]) & rows_finite
            self.skipped.count(self.num_steps, is_finite, norms, rows_finite)
            if self.masked:
                with undone_unless(is_finite, self._changed):
                    self._update(*rates, ids, moved, is_finite)
                sums = torch.where(is_finite, sums, 0.0)
            else:
                sums.zero_()
            made = is_finite
        for parameter in self._parameters:
            parameter.grad = None
        self._sums += sums
        self._stretch += sums
        return made

    def _update(
        self, lr: float, rows_lr: float, ids: Tensor, moved: Tensor | None, is_finite: Tensor | None = None
    ) -> None:
        """Update puzzle rows, weights, moments and averages.

        Args:
            ids: int64 [B], puzzle ids of the batch.
            moved: fp32 [B, D], gradient of their rows; None without one.
            is_finite: bool [], whether the puzzle rows are to be changed; None for yes.
        """
        if isinstance(self.model.puzzle_emb, PuzzleEmbedding):
            step_puzzle_rows(self.model.puzzle_emb, ids, moved, rows_lr, self.spec.embedding_decay, is_finite)
        set_lr(self.optimizer, lr)
        self.optimizer.step()
        self.ema.update(self.num_steps)

    def _changed(self) -> list[Tensor]:
        """Return the tensors that `_update` changes, but for the puzzle rows and counts that lie on the host."""
        moments = [
            value
            for slots in self.optimizer.state.values()
            for value in slots.values()
            if isinstance(value, Tensor) and value.device == self.model.device
        ]
        return [*(p for p in self.model.parameters() if p.requires_grad), *moments, *self.ema.tensors().values()]

    def _part(
        self,
        before: Any,
        batch: Batch,
        rows: slice,
        least: Tensor | None,
        sums: Tensor,
        start: tuple[Tensor, Tensor] | None,
    ) -> tuple[Any, Tensor | None]:
        """Run forward and backward pass of a micro-batch; accumulate gradients and `sums`.

        Args:
            before: carry of the rows before the step.
            rows: indices of the rows in the batch.
            start: states of the whole batch from which rows that take new data start.

        Returns:
            Carry after the step, and the gradient of the puzzle rows, fp32 [B, D].
        """
        device, batch_size = self.model.device, self.spec.batch_size

        def on_device(array: NDArray[Any]) -> Tensor:
            return copy_async(torch.from_numpy(array[rows]), device)

        carry, output = self.model.step(
            Rows(
                on_device(batch.inputs),
                on_device(batch.puzzle_ids),
                on_device(batch.labels),
                None if batch.valid is None else on_device(batch.valid),
                None if start is None else (start[0][rows], start[1][rows]),
            ),
            before,
            generator=self.generator,
            heads=False,
            least_steps=None if least is None else copy_async(least[rows], device),
        )
        losses = self.model.losses(output, carry)
        total = losses.total() / batch_size
        total.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            figures = self.model.figures(output, carry, losses, batch_size)
            if self._focus:
                figures = torch.cat((figures, focus_sums(output.logits, carry.labels)))
            sums[:-2] += figures
        return carry, None if output.puzzle_rows is None else output.puzzle_rows.grad

    def _initial_states(self, num_cells: int) -> tuple[Tensor, Tensor] | None:
        """Draw initial states of the whole batch with `initial_state: random`, on the device by a seed of its own."""
        if self.spec.initial_state == "fixed":
            return None
        seed = int(torch.randint(2**62, (1,), generator=self.generator))
        drawn = torch.Generator(self.model.device).manual_seed(seed)
        return self.model.random_states(self.spec.batch_size, num_cells, drawn)

    def _clip(self) -> GradientNorms:
        """Clip the gradient, and return its norms before."""
        norms = gradient_norms(self._parameters)
        if self.spec.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.spec.clip_norm, norms.total)
        return norms

    def finish(self) -> None:
        """Restore full depth and `requires_grad` of all parameters, which training phases change."""
        self.model.spec = self.full
        self.model.requires_grad_(True)

    @property
    def figure_names(self) -> tuple[str, ...]:
        """Names of the training figures; `means` lacks those of rows where no row has halted."""
        focus = FOCUS_FIGURES if self._focus else ()
        return (*self.model.STEP_FIGURES, *self.model.ROW_FIGURES, *focus, "grad_norm")

    @contextmanager
    def published(self) -> Iterator[Network]:
        """Give the network, inside the context, the weights and the depth that would be published after this step."""
        model, phase = self.model, self.model.spec
        live = dict(model.named_parameters())
        averages = self.ema.tensors() if self.spec.ema > 0 else {}
        kept = {name: live[name].detach().clone() for name in averages}
        try:
            _copy(averages, live)
            model.spec = self.full
            with model.eval().uncompiled(), torch.no_grad():
                yield model
        finally:
            _copy(kept, live)
            model.spec = phase
            model.train()

    def means(self) -> dict[str, float]:
        """Return means since the last call, of rows only where one has halted; synchronises with the device."""
        return _means(self.model, self._sums)

    def stretch_means(self) -> dict[str, float]:
        """Return means since the last call of this method; independent of `means`; synchronises with the device."""
        return _means(self.model, self._stretch)

    def describe_divergence(self) -> str:
        """Name the step of the NaN loss and the first weight with a non-finite value."""
        bad = first_not_finite(self.model)
        return (
            f"stopped at step {self.num_steps:,} of {self.spec.steps:,}: loss became NaN "
            f"({'all parameters are finite: activations overflowed' if bad is None else f'first bad parameter {bad}'})"
        )

    def is_finite(self) -> bool:
        """Return whether the weights are finite; synchronises with the device."""
        return first_not_finite(self.model) is None

    def state(self) -> SavedState:
        """Return the resumable state; training after `restore` is bit-identical to uninterrupted training.

        Collective: every rank must call this method. Rank 0 gets the whole carry, so that any number of ranks can
        resume from the state.
        """
        carry = self.ranks.gather(self._carried())
        return SavedState(
            step=self.num_steps,
            values={},
            tensors={
                **{f"model.{name}": t for name, t in self.model.state_dict().items()},
                **{f"ema.{name}": t for name, t in self.ema.tensors().items()},
                **optimizer_tensors(self.optimizer, "optimizer"),
                **carry,
                "generator": self.generator.get_state(),
                "sums": self._sums,
                "stretch": self._stretch,
                "skipped": self.skipped.state(),
            },
        )

    def _carried(self) -> dict[str, Tensor]:
        """Return the carry of this rank as tensors by name, rows along the first dimension."""
        return {
            f"carry.{length}.{f.name}": getattr(carry, f.name)
            for length, carry in self.carries.items()
            for f in fields(self.model.CARRY)
        }

    def _take_carried(self, tensors: Mapping[str, Tensor]) -> None:
        """Take this rank's rows of the carry in a saved state."""
        mine = self.ranks.rows(self.spec.batch_size)
        self.carries = {
            length: self.model.CARRY(
                **{
                    f.name: tensors[f"carry.{length}.{f.name}"][mine].to(self.model.device)
                    for f in fields(self.model.CARRY)
                }
            )
            for length in {int(name.split(".")[1]) for name in tensors if name.startswith("carry.")}
        }

    def restore(self, state: SavedState) -> None:
        """Load a saved state of the same model and stage."""
        tensors = state.tensors
        model = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        self.model.load_state_dict(model, strict=True)
        self.ema.restore({name.removeprefix("ema."): t for name, t in tensors.items() if name.startswith("ema.")})
        restore_optimizer(self.optimizer, tensors, "optimizer")
        self._take_carried(tensors)
        self.generator.set_state(tensors["generator"])
        for sums, saved in ((self._sums, tensors["sums"]), (self._stretch, tensors["stretch"])):
            # a family that has gained figures since the state was saved begins to sum anew; no weight depends on it
            sums.copy_(saved) if saved.shape == sums.shape else sums.zero_()
        self.skipped.restore(tensors.get("skipped"))
        self.num_steps = state.step
